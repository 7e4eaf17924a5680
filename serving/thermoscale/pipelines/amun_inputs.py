"""What AMUN's two networks are given, from a scene in physical units. Training makes its samples with these, too.

A scene is ``coarse`` ``[h, w]`` (NaN = no data) and ``factors`` ``[F, H, W]`` (NaN = no data) on the same bounds,
H = h * scale_factor and W = w * scale_factor.
"""

import numpy as np

from thermoscale.arrays import Array, BoolArray, FloatArray, IntArray, require_shape
from thermoscale.errors import InvalidInput
from thermoscale.factor_ranges import require_factor
from thermoscale.numerics.grids import interpolate, paint_cells, regular_index
from thermoscale.pipelines.amun_config import AmunConfig


def fine_shape(config: AmunConfig, coarse: FloatArray) -> tuple[int, int]:
    """(H, W) of the scene whose coarse image is ``coarse``."""
    return coarse.shape[0] * config.scale_factor, coarse.shape[1] * config.scale_factor


def fine_to_coarse(config: AmunConfig, coarse: FloatArray) -> IntArray:
    """``[H, W]`` coarse cell of each fine pixel."""
    return regular_index((coarse.shape[0], coarse.shape[1]), fine_shape(config, coarse))


def require_factors(config: AmunConfig, coarse: FloatArray, factors: Array | None) -> FloatArray:
    """The factors of a scene as float32 ``[F, H, W]``; None means no factors.

    Raises:
        InvalidInput: another number of factors, another shape, no numbers, or values that no such factor has.
    """
    shape = (len(config.factor_names), *fine_shape(config, coarse))
    if factors is None and not config.factor_names:
        return np.zeros(shape, np.float32)
    if factors is None:
        raise InvalidInput(f"factors are missing; needed {list(config.factor_names)} of shape {list(shape)}")
    if factors.dtype.kind not in "fiu":
        raise InvalidInput(f"factors have type {factors.dtype}, needed numbers (float32)")
    if factors.shape != shape:
        raise InvalidInput(
            f"factors have shape {list(factors.shape)}, needed {list(shape)}: {list(config.factor_names)} on a fine "
            f"grid {config.scale_factor} times finer than coarse {list(coarse.shape)}"
        )
    values = factors.astype(np.float32, copy=False)
    for name, unit, factor in zip(config.factor_names, config.factor_units, values, strict=True):
        require_factor(name, unit, factor)
    return values


def prepare_tile_inputs(
    config: AmunConfig, coarse: FloatArray, factors: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The scene as the tile network reads it, before it is cut into tiles.

    Returns:
        coarse ``[1, H, W]``, bicubic on the fine grid with missing cells filled from their neighbours; factors
        ``[F, H, W]`` with 0 for NaN; valid ``[1 + F, H, W]``, 1.0 where the own coarse cell or the factor had a value.
    """
    require_shape("coarse", coarse, ("h", "w"))
    factors = require_factors(config, coarse, factors)
    index = fine_to_coarse(config, coarse)
    coarse_fine = interpolate(coarse, index, order=3, fill=True)
    coarse_valid = np.isfinite(paint_cells(coarse, index))
    return coarse_fine[None], *factor_inputs(factors, coarse_valid)


def factor_inputs(factors: FloatArray, coarse_valid: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Factors ``[F, H, W]`` with 0 for NaN, and valid ``[1 + F, H, W]``."""
    valid = np.concatenate([coarse_valid[None], np.isfinite(factors)]).astype(np.float32)
    return np.nan_to_num(factors, nan=0.0), valid


def thumbnail(config: AmunConfig, coarse: FloatArray, factors: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """The scene as the context network reads it: area means on a fixed number of cells.

    Returns:
        ``(thumb, thumb_valid)``, both ``[1, 1 + F, thumbnail_px, thumbnail_px]``: the mean of the valid part of
        each cell in physical units (0 where there is none), and the valid share of the cell's area.
    """
    require_shape("coarse", coarse, ("h", "w"))
    factors = require_factors(config, coarse, factors)
    channels = [coarse, *factors]
    means, shares = zip(*(_shrink(channel, config.thumbnail_px) for channel in channels), strict=True)
    return np.stack(means)[None], np.stack(shares)[None]


def _shrink(channel: FloatArray, side: int) -> tuple[FloatArray, FloatArray]:
    """Mean of the valid area and valid share of the area, on ``side * side`` cells of the same bounds."""
    return means_and_shares(area_sums(channel, side, 0, channel.shape[0]))


def area_sums(strip: FloatArray, side: int, first_row: int, n_rows: int) -> Array:
    """What ``strip`` ``[n, W]``, from ``first_row`` of a channel of ``n_rows``, adds to each cell of a thumbnail.

    Returns:
        ``[2, side, side]`` float64: sum of the valid values, weighted by the share of the cell's area, and the valid
        share. The sums of strips that together are the channel are those of the channel.
    """
    rows = overlap_shares(side, n_rows)[:, first_row : first_row + len(strip)]
    cols = overlap_shares(side, strip.shape[1])
    valid = np.isfinite(strip)
    return np.stack([rows @ channel.astype(np.float64) @ cols.T for channel in (np.where(valid, strip, 0.0), valid)])


def means_and_shares(sums: Array) -> tuple[FloatArray, FloatArray]:
    """Mean of the valid area, 0 where there is none, and valid share, of what :func:`area_sums` found."""
    total, share = sums
    mean = np.divide(total, share, out=np.zeros_like(total), where=share > 1e-9)
    return mean.astype(np.float32), share.astype(np.float32)


def overlap_shares(n_cells: int, n_pixels: int) -> Array:
    """``[n_cells, n_pixels]`` share of each cell's length that each pixel covers, on an axis of the same bounds."""
    cells = np.linspace(0.0, n_pixels, n_cells + 1)
    pixels = np.arange(n_pixels + 1, dtype=np.float64)
    upper = np.minimum(cells[1:, None], pixels[None, 1:])
    lower = np.maximum(cells[:-1, None], pixels[None, :-1])
    shares: Array = np.maximum(upper - lower, 0.0) * (n_cells / n_pixels)
    return shares


def fillable(coarse: FloatArray) -> BoolArray:
    """``[h, w]`` missing cells with a valid one among their eight neighbours: the coast of the data."""
    valid = np.pad(np.isfinite(coarse), 1)
    h, w = coarse.shape
    near = [valid[row : row + h, col : col + w] for row in range(3) for col in range(3)]
    beside_valid: BoolArray = np.logical_or.reduce(near)
    return np.isnan(coarse) & beside_valid
