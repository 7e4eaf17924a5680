"""Seams: how much steeper a downscaled scene is where tiles meet, and the scene that shows what makes seams."""

from collections.abc import Sequence

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.numerics.tiling import Blend, TileGrid, read_tile, tile_windows
from thermoscale.pipelines.amun import Amun, prepare_tile_inputs


def border_gradient_ratio(images: Sequence[FloatArray], grid: TileGrid) -> float:
    """Mean gradient across the borders of tiles / mean gradient elsewhere, both directions; 1 where no tile shows.

    The gradient is the absolute difference of two pixels ``overlap_px + 1`` apart: those on both sides of the strip
    over which neighbours are blended. Elsewhere means every place that sees nothing of such a strip and is as far from
    a multiple of ``multiple_px``: patches and poolings leave marks of their own at these, tiles or not.
    The stride is at least twice as long as two such pixels are apart.

    Args:
        images: ``[H, W]`` each, whose corner is the origin of ``grid``. One scene has few borders, and its gradient
            varies from place to place: pieces of it that begin at other places have their borders at others.
    """
    lines = [turned for image in images for turned in (image, image.T)]
    at, elsewhere = zip(*(_gradients(each, grid) for each in lines), strict=True)
    return float(np.nanmean(np.concatenate(at)) / np.nanmean(np.concatenate(elsewhere)))


def predict_with_own_contexts(pipeline: Amun, coarse: FloatArray, factors: FloatArray) -> FloatArray:
    """``lst`` ``[H, W]`` as a network without scene context gives it: each tile knows nothing but itself.

    Args:
        coarse: ``[h, w]``. factors: ``[F, H, W]``. Every tile holds a coarse value.
    """
    config = pipeline.config
    image = np.concatenate(prepare_tile_inputs(config, coarse, factors))
    shape = (image.shape[1], image.shape[2])
    blend = Blend(shape, config.tile_grid, layers=2)
    for corner in tile_windows(shape, config.tile_grid):
        cells = tuple(_cells(at, config.tile_px, config.scale_factor, n) for at, n in zip(corner, shape, strict=True))
        pixels = tuple(slice(s.start * config.scale_factor, s.stop * config.scale_factor) for s in cells)
        context = pipeline.context(coarse[cells], factors[:, *pixels])
        blend.add(corner, pipeline.predict_tile(read_tile(image, corner, config.tile_grid), context))
    blended: FloatArray = blend.result()[0]
    return blended


def _gradients(image: FloatArray, grid: TileGrid) -> tuple[Array, Array]:
    """Absolute differences along the last axis: across borders, and elsewhere at the same phase."""
    reach = grid.overlap_px + 1
    steps = np.abs(image[:, reach:].astype(np.float64) - image[:, :-reach])
    first_core, places = grid.halo_px - grid.before_px, np.arange(steps.shape[1])
    after = (places + 1 - first_core) % grid.stride_px  # 0 at the last pixel before a core begins
    alike = (places + 1 - first_core) % grid.multiple_px == 0
    apart = (after >= reach) & (after <= grid.stride_px - reach)
    return steps[:, after == 0].ravel(), steps[:, alike & apart].ravel()


def _cells(corner: int, tile_px: int, scale_factor: int, n_pixels: int) -> slice:
    """Coarse cells that one tile touches along one axis of ``n_pixels``."""
    first, last = max(corner, 0), min(corner + tile_px, n_pixels)
    return slice(first // scale_factor, -(-last // scale_factor))
