"""GeoTIFF in and out: bands with NaN for no data, names, tags, CRS and transform."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import InvalidInput, ThermoscaleError
from thermoscale.formats import Georeference, Transform
from thermoscale.geo.alignment import Grid, parse_crs, require_area
from thermoscale.geo.atomic import write_atomically
from thermoscale.geo.cog import encode_cog
from thermoscale.geo.fill import require_no_fill
from thermoscale.geo.gdal import georeference_checked_by_us, load_rasterio
from thermoscale.geo.tiff_scan import require_whole_tiff

NO_CRS = ""
NO_CODE = 65535
"""Nodata of a file that holds uint16 codes: 0 would make missing values of flags and counts that are 0."""

IDENTITY: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_MAX_PIXELS_OF_A_FILE = 2**31
_MAX_BANDS = 4096
_BLOCK_PX = 256  # blocks up to this side are taken from files with fewer pixels
_BYTES_OF_A_PIXEL = 4  # float32, whatever the file holds
_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")  # TIFF and BigTIFF, both byte orders
_GDAL_TAGS = {"AREA_OR_POINT"}  # about the file, not from its author


@dataclass(frozen=True, eq=False)
class Raster:
    """Bands on one grid.

    Attributes:
        values: ``[B, H, W]`` float32, NaN = no data.
        crs: WKT or ``EPSG:n``; :data:`NO_CRS` writes a file without georeference.
        transform: (a, b, c, d, e, f) in rasterio's order, pixel corner.
        names: one for each band, the band descriptions of the file.
        tags: texts of the whole file.
    """

    values: FloatArray
    crs: str
    transform: Transform
    names: tuple[str, ...]
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or 0 in self.values.shape or len(self.names) != len(self.values):
            raise InvalidInput(
                f"a raster has values {list(self.values.shape)} and {len(self.names)} names, needed [B, H, W] and B"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.values.shape[1]), int(self.values.shape[2])

    @property
    def grid(self) -> Grid:
        """CRS, transform and shape."""
        return Grid(self.crs, self.transform, self.shape)

    @property
    def georeference(self) -> Georeference:
        """CRS and transform."""
        return Georeference(self.crs, self.transform)


def is_geotiff(body: bytes) -> bool:
    """Whether ``body`` begins like a TIFF."""
    return body[:4] in _MAGIC


def read_raster(path: Path) -> Raster:
    """Read the GeoTIFF (or COG) at ``path``: nodata values and masks become NaN, scale and offset are applied.

    Raises:
        InvalidInput: no such file, no GeoTIFF, truncated, no CRS or transform, or a fill value without its tag.
        Unavailable: rasterio is missing.
    """
    rasterio = load_rasterio()
    try:
        with path.open("rb") as stream:
            require_whole_tiff(str(path), stream)
        with georeference_checked_by_us(), rasterio.open(path, driver="GTiff") as dataset:
            _require_size(str(path), dataset, _MAX_PIXELS_OF_A_FILE, _MAX_BANDS)
            return _read(str(path), dataset, georeferenced=True)
    except ThermoscaleError:
        raise
    except Exception as error:  # GDAL's errors have many classes
        raise InvalidInput(f"cannot read {path} as a GeoTIFF: {error}") from error


def decode_geotiff(
    body: bytes,
    *,
    max_pixels: int,
    max_bands: int = 64,
    charge: Callable[[int], None] | None = None,
    name: str = "the body",
    georeferenced: bool = True,
) -> Raster:
    """Read GeoTIFF bytes from outside; its declared size is judged before any pixel is.

    Args:
        max_pixels: rows times columns of one band.
        charge: is told the bytes of all bands as float32 before one is read, and raises to refuse them.
        name: of this file, for messages.
        georeferenced: False accepts a file without CRS or transform: the raster's crs is then :data:`NO_CRS`.

    Raises:
        InvalidInput: as in :func:`read_raster`, or larger than allowed.
        Unavailable: rasterio is missing.
    """
    if not is_geotiff(body):
        raise InvalidInput(f"{name} is not a GeoTIFF: it begins with {body[:4]!r}")
    require_whole_tiff(name, io.BytesIO(body))
    rasterio = load_rasterio()
    try:
        with georeference_checked_by_us(), rasterio.MemoryFile(body) as memory, memory.open(driver="GTiff") as dataset:
            _require_size(name, dataset, max_pixels, max_bands)
            if charge is not None:
                charge(dataset.count * dataset.height * dataset.width * _BYTES_OF_A_PIXEL)
            return _read(name, dataset, georeferenced)
    except ThermoscaleError:
        raise
    except Exception as error:  # GDAL's errors have many classes
        raise InvalidInput(f"{name} of {len(body)} bytes is not a complete GeoTIFF: {error}") from error


def encode_geotiff(raster: Raster, *, steps: Sequence[float] | None = None) -> bytes:
    """The bytes of a COG (:mod:`thermoscale.geo.cog`), float32 with nodata NaN unless there are ``steps``.

    Args:
        steps: value per code of each band: the file holds uint16 codes, the scale tag, and nodata 65535.

    Raises:
        InvalidInput: the CRS is not understood, or a value is no code from 0 to 65534.
        Unavailable: rasterio is missing, or GDAL fails.
    """
    values: Array = raster.values.astype(np.float32, copy=False) if steps is None else _codes(raster, steps)

    def annotate(dataset: Any) -> None:
        dataset.descriptions = raster.names
        dataset.update_tags(**raster.tags)
        if steps is not None:
            dataset.scales, dataset.offsets = tuple(steps), (0.0,) * len(steps)

    return encode_cog(values, {"nodata": np.nan if steps is None else NO_CODE, **_place(raster)}, annotate)


def write_raster(path: Path, raster: Raster) -> None:
    """Write ``raster`` to ``path`` in one step: a reader sees the old file or the whole new one.

    Raises:
        InvalidInput: the CRS is not understood.
        Unavailable: rasterio is missing.
    """
    body = encode_geotiff(raster)
    with write_atomically(path) as stream:
        stream.write(body)


def _place(raster: Raster) -> dict[str, Any]:
    """CRS and transform as rasterio needs them to create the file."""
    if raster.crs == NO_CRS:
        return {}
    return {"crs": parse_crs("the raster", raster.crs), "transform": load_rasterio().Affine(*raster.transform)}


def _codes(raster: Raster, steps: Sequence[float]) -> npt.NDArray[np.uint16]:
    codes = np.full(raster.values.shape, NO_CODE, np.uint16)
    for name, step, band, out in zip(raster.names, steps, raster.values, codes, strict=True):
        scaled = np.rint(band / step)
        valid = ~np.isnan(scaled)
        outside = valid & ~((scaled >= 0) & (scaled < NO_CODE))
        if outside.any():
            raise InvalidInput(
                f"{name} holds {band[outside][0]:g}, uint16 codes of {step:g} hold 0 to {(NO_CODE - 1) * step:g}: "
                "ask for float32"
            )
        np.copyto(out, scaled, where=valid, casting="unsafe")
    return codes


def _read(name: str, dataset: Any, georeferenced: bool) -> Raster:
    transform: Transform = tuple(dataset.transform)[:6]
    placed = dataset.crs is not None and transform != IDENTITY
    if georeferenced and not placed:
        what = "CRS" if dataset.crs is None else "transform"
        raise InvalidInput(f"{name} has no {what}: write it with one (gdal_edit.py -a_srs EPSG:n -a_ullr ...)")
    require_area(name, transform)
    descriptions = [text or f"band_{i}" for i, text in enumerate(dataset.descriptions, 1)]
    values = np.full((dataset.count, *dataset.shape), np.nan, np.float32)
    for band in range(dataset.count):
        values[band] = read_band(f"{name}, {descriptions[band]}", dataset, band)
    return Raster(
        values=values,
        crs=dataset.crs.to_string() if placed else NO_CRS,
        transform=transform,
        names=tuple(descriptions),
        tags={key: text for key, text in dataset.tags().items() if key not in _GDAL_TAGS},
    )


def _require_size(name: str, dataset: Any, max_pixels: int, max_bands: int) -> None:
    height, width = dataset.shape
    if height * width > max_pixels or dataset.count > max_bands:
        raise InvalidInput(
            f"{name} has {dataset.count} bands of {height} x {width} pixels, "
            f"at most {max_bands} bands of {max_pixels} pixels are allowed"
        )
    largest_block = max(rows * cols for rows, cols in dataset.block_shapes)
    if largest_block > max(max_pixels, _BLOCK_PX**2):
        raise InvalidInput(f"{name} is cut into blocks of {largest_block} pixels, at most {max_pixels} are allowed")
    if any(np.dtype(dtype).kind not in "fiu" for dtype in dataset.dtypes):
        raise InvalidInput(f"{name} has bands of type {list(dataset.dtypes)}, needed real numbers")


def read_band(name: str, dataset: Any, band: int, window: Any = None) -> npt.NDArray[np.float64]:
    """One band [H, W] in physical units, NaN where the file says that there are no data; rasterio's ``window`` of it.

    Raises:
        InvalidInput: a fill value without its tag.
    """
    stored = dataset.read(band + 1, masked=True, window=window)
    values = np.where(np.ma.getmaskarray(stored), np.nan, stored.data.astype(np.float64))
    require_no_fill(name, values)
    scale, offset = float(dataset.scales[band]), float(dataset.offsets[band])
    return values * scale + offset
