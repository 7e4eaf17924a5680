"""The coarse image itself on the fine grid: what every method has to beat.

Signature of a downscaling method: ``method(coarse [h, w], factors [F, H, W] | None, coarse_index [H, W]) -> [H, W]``.
All are NaN where their own coarse cell is.
"""

from thermoscale.arrays import FloatArray, IntArray
from thermoscale.formats import Series
from thermoscale.numerics.grids import area_mean, interpolate, paint_cells

CLOSURE_STEPS = 5


def nearest(coarse: FloatArray, factors: FloatArray | None, coarse_index: IntArray) -> FloatArray:  # noqa: ARG001
    """Every fine pixel has the value of its coarse cell."""
    return paint_cells(coarse, coarse_index)


def bilinear(coarse: FloatArray, factors: FloatArray | None, coarse_index: IntArray) -> FloatArray:  # noqa: ARG001
    """Bilinear between the centres of the coarse cells."""
    return interpolate(coarse, coarse_index, order=1)


def bicubic(coarse: FloatArray, factors: FloatArray | None, coarse_index: IntArray) -> FloatArray:  # noqa: ARG001
    """Bicubic (Keys, a = -0.5)."""
    return interpolate(coarse, coarse_index, order=3)


def bicubic_closed(coarse: FloatArray, factors: FloatArray | None, coarse_index: IntArray) -> FloatArray:
    """Bicubic, then five times: add the bicubic image of what the cell means still lack.

    Deterministic, no training; sharpens as far as the coarse image alone allows.
    """
    fine = bicubic(coarse, factors, coarse_index)
    for _ in range(CLOSURE_STEPS):
        residual = coarse - area_mean(fine, coarse_index, (coarse.shape[0], coarse.shape[1]))
        fine = fine + bicubic(residual, factors, coarse_index)
    return fine


def fusion_bilinear(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:  # noqa: ARG001
    """:func:`bilinear` as a fusion method: it ignores the library."""
    return bilinear(coarse_target, None, series.coarse_index)


def fusion_bicubic(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:  # noqa: ARG001
    """:func:`bicubic` as a fusion method: it ignores the library."""
    return bicubic(coarse_target, None, series.coarse_index)
