"""Tiles on one global grid, and the blend of their answers.

A tile is the square a network reads. Its outer ``halo_px`` are read and discarded; what remains, the core, is
blended with its neighbours over ``overlap_px``. Tiles lie a stride apart on a grid that belongs to the place, not to
the image: any window of a scene meets the same tiles as the whole scene.

    |<------------- tile_px ------------->|
    | halo |<------- core ------->| halo  |
                      | halo |<------- core ------->| halo |      next tile, stride_px further
                             |<-->| overlap_px
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import Array, FloatArray, require_shape
from thermoscale.errors import InvalidInput

Corner = tuple[int, int]
"""Row and column of an upper left pixel."""


@dataclass(frozen=True)
class TileGrid:
    """Sizes of the tiles, in fine pixels.

    Attributes:
        tile_px: side of the square a network reads.
        halo_px: width on every side that is read and discarded: at least the network's receptive radius.
        overlap_px: width over which the cores of neighbours are blended.
        multiple_px: tile corners are multiples of it (lcm of the network's pooling steps).

    Raises:
        InvalidInput: sizes that leave no grid.
    """

    tile_px: int
    halo_px: int
    overlap_px: int
    multiple_px: int

    def __post_init__(self) -> None:
        if min(self.halo_px, self.overlap_px) < 0 or self.multiple_px < 1:
            raise InvalidInput(f"{self}: needed halo_px >= 0, overlap_px >= 0 and multiple_px >= 1")
        if self.core_px <= self.overlap_px:
            raise InvalidInput(f"{self}: the core is tile_px - 2 halo_px = {self.core_px}, needed more than overlap_px")
        if self.stride_px % self.multiple_px:
            raise InvalidInput(
                f"{self}: the stride is tile_px - 2 halo_px - overlap_px = {self.stride_px}, "
                f"needed a multiple of {self.multiple_px}"
            )

    @property
    def core_px(self) -> int:
        """Side of the part of a tile that is kept."""
        return self.tile_px - 2 * self.halo_px

    @property
    def stride_px(self) -> int:
        """Distance between the corners of neighbouring tiles."""
        return self.core_px - self.overlap_px

    @property
    def before_px(self) -> int:
        """How far before the grid's origin its first tile starts: halo and overlap, rounded down to a legal corner.

        So no tile of a scene is spent on less than a stride of it but the last, and a small scene is one tile.
        """
        return (self.halo_px + self.overlap_px) // self.multiple_px * self.multiple_px

    @property
    def margin_px(self) -> int:
        """How far around a window its pixels depend on the scene: the context a windowed caller must supply."""
        return self.tile_px - self.halo_px - 1


def tile_windows(shape: tuple[int, int], grid: TileGrid, origin: Corner = (0, 0)) -> list[Corner]:
    """Corners of all tiles whose core touches an image, in rows.

    Args:
        shape: (H, W) of the image.
        origin: position of the image's corner on the global grid, any integers.

    Returns:
        Tile corners relative to the image's corner; tiles may reach outside the image.
    """
    rows, cols = (_corners(n, grid, at) for n, at in zip(shape, origin, strict=True))
    return [(row, col) for row in rows for col in cols]


def read_tile(image: Array, corner: Corner, grid: TileGrid) -> Array:
    """Cut one tile out of ``image`` [..., H, W]; pixels outside repeat the edge. Returns a copy [..., tile, tile]."""
    spans = [_span(at, n, grid.tile_px) for at, n in zip(corner, image.shape[-2:], strict=True)]
    (rows, above_below), (cols, left_right) = spans
    around = [(0, 0)] * (image.ndim - 2) + [above_below, left_right]
    return np.pad(image[..., rows, cols], around, mode="edge")


def core_weights(grid: TileGrid) -> npt.NDArray[np.float64]:
    """Blend weight of every pixel of a core, [core, core]: positive, 1 inside, falling linearly over the overlap."""
    from_border = np.minimum(np.arange(grid.core_px), np.arange(grid.core_px)[::-1]) + 1
    weight = np.minimum(1, from_border / (grid.overlap_px + 1))
    return weight[:, None] * weight


class Blend:
    """Collects the answers to the tiles of one image, ``layers`` of them.

    Attributes:
        sums: ``[layers + 1, H, W]`` of the answers so far: each layer weighted, and the weights alone.
    """

    def __init__(self, shape: tuple[int, int], grid: TileGrid, layers: int = 1) -> None:
        self._grid = grid
        self._weights = core_weights(grid)
        self.sums = np.zeros((layers + 1, *shape))

    def add(self, corner: Corner, answer: Array) -> None:
        """Add the answer [layers, tile, tile] of the tile at ``corner``; pixels with a NaN take no part."""
        needed = (len(self.sums) - 1, self._grid.tile_px, self._grid.tile_px)
        require_shape("the network's answer to one tile", answer, needed)
        kept, seen = zip(*(self._overlap(axis, at) for axis, at in enumerate(corner)), strict=True)
        core = answer[:, self._grid.halo_px :, self._grid.halo_px :][:, *seen]
        unknown = np.isnan(core).any(axis=0)
        weight = np.where(unknown, 0, self._weights[seen])
        self.sums[:-1, *kept] += weight * np.where(unknown, 0, core)
        self.sums[-1, *kept] += weight

    def result(self) -> FloatArray:
        """The blended image [layers, H, W], NaN where no tile gave a value."""
        total, weights = self.sums[:-1], self.sums[-1]
        canvas = np.full(total.shape, np.nan, np.float32)
        np.divide(total, weights, out=canvas, where=weights > 0, casting="same_kind")
        return canvas

    def _overlap(self, axis: int, corner: int) -> tuple[slice, slice]:
        """The pixels that one core and the image share along ``axis``: as seen by the image, and by the core."""
        start = corner + self._grid.halo_px
        first, last = max(start, 0), max(min(start + self._grid.core_px, self.sums.shape[1 + axis]), 0)
        return slice(first, last), slice(first - start, last - start)


def predict_tiled(
    network: Callable[[Array], Array],
    image: Array,
    *,
    tile_px: int,
    overlap_px: int,
    halo_px: int = 0,
    origin: Corner = (0, 0),
    multiple_px: int = 1,
) -> FloatArray:
    """Apply ``network`` to every tile of ``image`` and blend the answers.

    A window of a scene gets the numbers of the whole scene when it is passed with its ``origin`` and with
    ``TileGrid.margin_px`` of the scene around it (less where the scene ends), and the margin is cropped after.

    Args:
        network: maps one ``(C, tile_px, tile_px)`` input to one ``(tile_px, tile_px)`` output; pixels it
            answers with NaN are left to the neighbouring tiles.
        image: ``(C, H, W)``, without NaN unless the network knows NaN.
        origin: position of the image's corner on the global grid.

    Returns:
        ``(H, W)`` float32.

    Raises:
        InvalidInput: sizes that leave no grid, or an answer of another shape.
    """
    require_shape("image", image, ("C", "H", "W"))
    grid = TileGrid(tile_px=tile_px, halo_px=halo_px, overlap_px=overlap_px, multiple_px=multiple_px)
    shape = (image.shape[1], image.shape[2])
    blend = Blend(shape, grid)
    for corner in tile_windows(shape, grid, origin):
        blend.add(corner, network(read_tile(image, corner, grid))[None])
    blended: FloatArray = blend.result()[0]
    return blended


def _corners(n: int, grid: TileGrid, origin: int) -> range:
    """Corners along one axis of the tiles whose core touches [0, n) of an image that starts at ``origin``."""
    core = grid.halo_px - grid.before_px  # where the core of the grid's first tile starts, 0 or less but for rounding
    first = (origin - core - grid.core_px) // grid.stride_px + 1
    last = -(-(origin + n - core) // grid.stride_px)  # exclusive: the first core that starts after the image
    shift = grid.before_px + origin
    return range(first * grid.stride_px - shift, last * grid.stride_px - shift, grid.stride_px)


def _span(corner: int, n: int, tile_px: int) -> tuple[slice, tuple[int, int]]:
    """Of one axis [0, n): the pixels a tile reads, at least one, and how often it repeats the first and the last."""
    first, last = min(max(corner, 0), n - 1), max(min(corner + tile_px, n), 1)
    before = min(max(-corner, 0), tile_px - 1)
    return slice(first, last), (before, tile_px - before - (last - first))
