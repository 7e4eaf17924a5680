"""F + delta C: a fine image of another date plus the change that the coarse sensor saw (METHODS 3).

The coarse change is brought to the fine grid bilinearly; where either coarse image has a gap there is no answer.
"""

import numpy as np

from thermoscale.arrays import FloatArray
from thermoscale.formats import Series
from thermoscale.numerics.grids import area_mean, interpolate
from thermoscale.numerics.triples import median_over_triples
from thermoscale_train.baselines.persistence import nearest_fine_time


def fdc_from(series: Series, coarse_target: FloatArray, library_time: str) -> FloatArray:
    """Fine image of ``library_time`` + the coarse change from there to the target."""
    change = coarse_target - series.coarse_at(library_time)
    return series.fine_at(library_time) + interpolate(change, series.coarse_index, order=1)


def fdc_nearest(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:
    """From the nearest fine date."""
    return fdc_from(series, coarse_target, nearest_fine_time(series, time))


def fdc_median(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:  # noqa: ARG001
    """Per-pixel median over all fine dates."""
    stack = np.stack([fdc_from(series, coarse_target, library_time) for library_time in series.fine_time])
    return median_over_triples(stack)[0]


def fdc_median_residual(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:
    """:func:`fdc_median`, then what its cell means lack of the coarse image, spread bilinearly."""
    fine = fdc_median(series, coarse_target, time)
    residual = coarse_target - area_mean(fine, series.coarse_index, (coarse_target.shape[0], coarse_target.shape[1]))
    return fine + np.nan_to_num(interpolate(residual, series.coarse_index, order=1))
