"""TsHARP: what vegetation explains of the coarse LST, applied to the fine vegetation (Kustas 2003; Agam 2007).

    fc         = 1 - ((NDVI_max - NDVI) / (NDVI_max - NDVI_min)) ** 0.625
    fine       = a + b fc(fine NDVI) + bilinear(coarse - a - b fc(cell mean of NDVI))

``a`` and ``b`` are fitted to the coarse scene itself, over the quarter of the cells in which NDVI varies least, so
nothing is learnt from other scenes. NDVI_min and NDVI_max hold 99 % of the scene's pixels between them.
"""

import numpy as np

from thermoscale.arrays import FloatArray, IntArray
from thermoscale.errors import Undetermined
from thermoscale.numerics.grids import area_mean, interpolate

EXPONENT = 0.625
EVEN_SHARE = 0.25
MIN_CELLS = 8
RANGE = (0.005, 0.995)


def tsharp(coarse: FloatArray, ndvi: FloatArray, coarse_index: IntArray) -> FloatArray:
    """LST ``[H, W]`` K; without detail where NDVI is missing, NaN where the coarse cell is.

    Args:
        coarse: ``[h, w]`` K. ndvi: ``[H, W]``.

    Raises:
        Undetermined: too few cells with LST and NDVI, or NDVI the same in all of them.
    """
    shape = (coarse.shape[0], coarse.shape[1])
    of_cells = area_mean(ndvi, coarse_index, shape)
    deviation = area_mean(ndvi.astype(np.float64) ** 2, coarse_index, shape) - of_cells.astype(np.float64) ** 2
    both = np.isfinite(coarse) & np.isfinite(of_cells)
    if both.sum() < MIN_CELLS or np.ptp(of_cells[both]) == 0.0:
        raise Undetermined(
            f"tsharp: {int(both.sum())} cells hold LST and NDVI, needed {MIN_CELLS} in which NDVI is not the same"
        )
    low, high = np.nanquantile(ndvi, RANGE).tolist()
    cover = _cover(of_cells, low, high)
    even = both & (deviation <= max(np.quantile(deviation[both], EVEN_SHARE), np.sort(deviation[both])[MIN_CELLS - 1]))
    slope = _slope(cover[even], coarse[even])
    detail = slope * (_cover(ndvi, low, high) - interpolate(cover, coarse_index, order=1))
    fine = interpolate(coarse, coarse_index, order=1) + np.nan_to_num(detail)
    sharpened: FloatArray = fine.astype(np.float32)
    return sharpened


def _cover(ndvi: FloatArray, low: float, high: float) -> FloatArray:
    """Fractional vegetation cover, 0 to 1."""
    cover: FloatArray = 1.0 - ((high - np.clip(ndvi, low, high)) / (high - low)) ** EXPONENT
    return cover


def _slope(cover: FloatArray, lst: FloatArray) -> float:
    """Of LST against cover by least squares; 0 where cover does not vary."""
    centred = cover.astype(np.float64) - cover.mean(dtype=np.float64)
    spread = float(centred @ centred)
    return float(centred @ lst.astype(np.float64)) / spread if spread > 0.0 else 0.0
