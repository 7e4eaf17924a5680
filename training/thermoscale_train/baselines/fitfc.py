"""Fit-FC: Wang & Atkinson 2018, RSE 204:31. Regression model fitting, spatial filtering, residual compensation.

    1 fit        C(tp) = a * C(t1) + b + r in a moving window of coarse cells; F1 = a * F(t1) + b
    2 filter     F2 = sum_i W_i * F1_i over the n most similar pixels of F(t1) in a window,
                 W_i = (1 / D_i) / sum(1 / D),  D_i = 1 + distance / (w / 2)
    3 compensate F(tp) = F2 + sum_i W_i * r_i, r brought to the fine grid bicubically

One pair: the nearest. The paper has one regression for each coarse cell and all its fine pixels, and so have we.
Ours: where the window's cells do not differ or are fewer than three, a = 1; a residual that is unknown counts as 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from thermoscale.arrays import QUANTITIES, Array, FloatArray
from thermoscale.formats import Series
from thermoscale.numerics.grids import interpolate, paint_cells
from thermoscale_train.baselines.neighbours import nearest_pair, pad, relative_distance, valid_mean, window_radius
from thermoscale_train.baselines.persistence import nearest_fine_time


@dataclass(frozen=True)
class FitfcConstants:
    """Attributes:
    window_cells: side of the window of the regression, coarse cells.
    n_similar: similar pixels of the filter, the pixel itself among them.
    tie_k: K, how much one relative distance counts when equally similar pixels are ranked.
    """

    window_cells: int = 5
    n_similar: int = 20
    tie_k: float = 1e-4


PUBLISHED = FitfcConstants()


def fitfc(series: Series, coarse_target: FloatArray, time: str, *, constants: FitfcConstants = PUBLISHED) -> FloatArray:
    """Fine image ``[H, W]`` of ``time``; NaN where the pair's fine image is, or no cell of the window has both dates.

    Raises:
        Undetermined: the library has no fine date.
    """
    fine = nearest_pair(series, time).fine
    coarse = series.coarse_at(nearest_fine_time(series, time))
    slope, offset = _local_regression(coarse, coarse_target, constants.window_cells)
    residual = (coarse_target - (slope * coarse + offset)).astype(np.float32)
    painted = [paint_cells(part, series.coarse_index) for part in (slope, offset)]
    values = painted[0].astype(np.float64) * fine + painted[1]
    values += np.nan_to_num(interpolate(residual, series.coarse_index, order=3))
    tie = constants.tie_k * QUANTITIES[series.quantity].kelvin
    return _filter_similar(fine, values, window_radius(series.coarse_index), constants.n_similar, tie)


def _local_regression(before: Array, after: Array, size: int) -> tuple[Array, Array]:
    """Slope and offset ``[h, w]`` of ``after`` on ``before`` in windows of ``size`` cells; NaN if none has both."""
    valid = np.isfinite(before) & np.isfinite(after)
    means = [valid_mean(image[valid]) for image in (before, after)]
    x = np.where(valid, before.astype(np.float64) - means[0], 0.0)
    y = np.where(valid, after.astype(np.float64) - means[1], 0.0)
    n, sx, sy, sxx, sxy = (
        ndimage.correlate(part, np.ones((size, size)), mode="constant")
        for part in (valid.astype(np.float64), x, y, x * x, x * y)
    )
    count = np.maximum(n, 1)
    variance = sxx - sx**2 / count
    usable = (n > 2) & (variance > 1e-9 * sxx)
    slope = np.divide(sxy - sx * sy / count, variance, out=np.ones_like(n), where=usable)
    offset = means[1] + sy / count - slope * (means[0] + sx / count)
    nothing = n < 0.5
    return np.where(nothing, np.nan, slope), np.where(nothing, np.nan, offset)


def _filter_similar(fine: FloatArray, values: Array, radius: int, n_similar: int, tie: float) -> FloatArray:
    """Mean of ``values`` over the pixels most similar in ``fine``, the nearer the heavier."""
    known = np.isfinite(fine) & np.isfinite(values)
    padded_fine = pad(np.where(known, fine, np.float32(np.nan)), radius, np.nan)
    padded_values = pad(np.where(known, values, 0.0), radius, 0.0)
    distance = relative_distance(radius).ravel()
    n_chosen, size, width = min(n_similar, distance.size), 2 * radius + 1, fine.shape[1]
    windows = sliding_window_view(padded_fine, (size, size))
    answer = np.full(fine.shape, np.nan, np.float32)
    step = max(1, (1 << 21) // (width * distance.size))
    for start in range(0, fine.shape[0], step):
        rows = slice(start, min(start + step, fine.shape[0]))
        unlike = np.abs(windows[rows] - fine[rows, :, None, None]).reshape(-1, distance.size)
        unlike += (tie * distance).astype(np.float32)
        unlike[np.isnan(unlike)] = np.inf
        chosen = np.argpartition(unlike, n_chosen - 1, axis=1)[:, :n_chosen]
        weights = np.isfinite(np.take_along_axis(unlike, chosen, axis=1)) / distance[chosen]
        row, col = np.divmod(np.arange(rows.start * width, rows.stop * width), width)
        there = padded_values[row[:, None] + chosen // size, col[:, None] + chosen % size]
        total = np.where(known[rows].ravel(), weights.sum(axis=1), np.nan)
        answer[rows] = ((weights * there).sum(axis=1) / total).reshape(-1, width)
    return answer
