"""Whether two rasters lie on the same grid, and messages that show why they do not."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from thermoscale.errors import InvalidInput
from thermoscale.formats import Georeference, Transform
from thermoscale.geo.gdal import load_rasterio

TOLERANCE_PX = 0.01
"""How far two grids may lie apart and still be one: rounding in a file's header is smaller, a real shift larger."""

_FARTHEST = 1e15
"""Of a coordinate, in any unit of any CRS."""


class OnGrid(Protocol):
    """Anything with a CRS, a transform and a shape (H, W): a Raster or a Grid."""

    @property
    def crs(self) -> str: ...
    @property
    def transform(self) -> Transform: ...
    @property
    def shape(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Grid:
    """A georeferenced grid of ``shape`` (H, W)."""

    crs: str
    transform: Transform
    shape: tuple[int, int]


def require_same_grid(name_a: str, a: OnGrid, name_b: str, b: OnGrid) -> None:
    """Check that ``a`` and ``b`` have one CRS, shape and transform (within 1/100 pixel).

    Raises:
        InvalidInput: they differ; the message shows both.
    """
    require_area(name_a, a.transform)
    require_area(name_b, b.transform)
    if a.shape != b.shape or not _same_crs(a.crs, b.crs) or _corner_offset_px(a, b) > TOLERANCE_PX:
        raise InvalidInput(
            f"{name_b} is on another grid than {name_a}: {_describe(name_b, b)}; {_describe(name_a, a)}; "
            "resample one to the other's grid"
        )


def require_same_bounds(name_fine: str, fine: OnGrid, name_coarse: str, coarse: OnGrid) -> None:
    """Check that two grids of different pixel size have one CRS and the same four corners (within 1/100 fine pixel).

    Raises:
        InvalidInput: they differ; the message shows both.
    """
    require_area(name_fine, fine.transform)
    require_area(name_coarse, coarse.transform)
    if not _same_crs(fine.crs, coarse.crs) or _corner_offset_px(fine, coarse) > TOLERANCE_PX:
        raise InvalidInput(
            f"{name_fine} and {name_coarse} do not cover the same ground: {_describe(name_fine, fine)}; "
            f"{_describe(name_coarse, coarse)}; crop or resample them to the same bounds"
        )


def same_bounds(fine: OnGrid, coarse: OnGrid) -> bool:
    """Whether :func:`require_same_bounds` would pass."""
    return _same_crs(fine.crs, coarse.crs) and _corner_offset_px(fine, coarse) <= TOLERANCE_PX


def window_georeference(georeference: Georeference, row: int, col: int) -> Georeference:
    """The georeference of a window whose first pixel is (``row``, ``col``) of the whole grid."""
    a, b, c, d, e, f = georeference.transform
    return Georeference(georeference.crs, (a, b, a * col + b * row + c, d, e, d * col + e * row + f))


def require_area(name: str, transform: Transform) -> None:
    """Check that pixels have an area, and lie where arithmetic reaches them.

    Raises:
        InvalidInput: they do not.
    """
    a, b, _, d, e, _ = transform
    if not all(abs(number) < _FARTHEST for number in transform) or a * e - b * d == 0.0:
        raise InvalidInput(f"{name} has the transform {list(transform)}: pixels without area, or beyond every map")


def outer_bounds(grid: OnGrid) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of the grid in its CRS; of its outermost corners, if it is sheared."""
    corners = _corners(grid)
    return (*corners.min(axis=1).tolist(), *corners.max(axis=1).tolist())


def parse_crs(name: str, crs: str) -> object:
    """The rasterio CRS of the text ``crs``.

    Raises:
        InvalidInput: neither WKT nor ``EPSG:n``.
    """
    rasterio = load_rasterio()
    try:
        return rasterio.crs.CRS.from_user_input(crs)
    except rasterio.errors.CRSError as error:
        raise InvalidInput(f"{name} has the CRS {crs!r:.120}, needed WKT or EPSG:n ({error})") from error


def _same_crs(a: str, b: str) -> bool:
    return a == b or bool(parse_crs("one grid", a) == parse_crs("the other grid", b))


def _corner_offset_px(a: OnGrid, b: OnGrid) -> float:
    """Largest distance between matching corners of the two grids, in pixels of ``a``."""
    offset = np.linalg.inv(_matrix(a.transform)[:, :2]) @ (_corners(a) - _corners(b))
    return float(np.abs(offset).max())


def _corners(grid: OnGrid) -> npt.NDArray[np.float64]:
    height, width = grid.shape
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], np.float64)
    return _matrix(grid.transform) @ corners


def _matrix(transform: Transform) -> npt.NDArray[np.float64]:
    return np.array(transform, np.float64).reshape(2, 3)


def _describe(name: str, grid: OnGrid) -> str:
    numbers = ", ".join(f"{number:.10g}" for number in grid.transform)
    return f"{name} has CRS {grid.crs:.80}, transform ({numbers}), shape {list(grid.shape)}"
