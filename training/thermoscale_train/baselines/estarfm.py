"""ESTARFM: Zhu, Chen, Gao, Chen & Masek 2010, RSE 114(11):2610.

With F fine, C coarse on the fine grid, tp the target, tm and tn the pairs before and after, i the similar pixels of a
window around the pixel:

    F_k(tp) = F(tk) + V * sum_i W_i * (C_i(tp) - C_i(tk)),     k = m, n
    W_i = (1 / D_i) / sum(1 / D),    D_i = (1 - R_i) * (1 + distance / (w / 2))
    F(tp) = sum_k T_k * F_k(tp),     T_k = (1 / |sum of C(tk) - C(tp) over the window|) / (the same, summed over k)

Similar pixels differ from the pixel by at most two standard deviations over the number of classes on both dates.
V, the conversion coefficient, is the slope of F on C over the similar pixels on both dates; it is 1 where the coarse
change from tm to tn is within its uncertainty, or the slope is not significant or outside 0 ... 5.
R is the correlation of F_i and C_i, in the paper over bands and both dates. One band and two dates give +-1 and nothing
else, so ours runs over the dates of the library; a pixel with fewer than three has R = 0 (distance alone decides).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, special

from thermoscale.arrays import QUANTITIES, Array, FloatArray, Quantity, in_unit_of
from thermoscale.formats import Series
from thermoscale_train.baselines.neighbours import (
    Pair,
    neighbours,
    on_fine_grid,
    pad,
    pair_at,
    pairs_around,
    relative_distance,
    row_blocks,
    similarity_limit,
    valid_mean,
    window_radius,
)


@dataclass(frozen=True)
class EstarfmConstants:
    """Uncertainties are absolute: a percentage of the value, as for reflectance, means 3 K here and waits for 7 K.

    Attributes:
        n_classes: classes assumed in the scene.
        coarse_uncertainty_k: 1-sigma error of a coarse pixel, K; a coarse change below sqrt(2) times this has V = 1.
        unit_k: K, smallest coarse change in the temporal weight.
        max_p_value: of the regression for V.
        max_conversion: largest V.
        min_dates: library dates that a correlation R needs.
        min_one_minus_r: smallest 1 - R, so that one pixel cannot take all the weight.
    """

    n_classes: int = 4
    coarse_uncertainty_k: float = 0.5
    unit_k: float = 0.01
    max_p_value: float = 0.05
    max_conversion: float = 5.0
    min_dates: int = 3
    min_one_minus_r: float = 1e-3

    def scaled(self, quantity: Quantity) -> "EstarfmConstants":
        """The same constants in the unit of ``quantity``."""
        return in_unit_of(quantity, self)


PUBLISHED = EstarfmConstants()
_N, _C, _F, _CC, _CF, _FF, _STEP, _N_STEP = range(8)  # rows of the regression sums


def estarfm(
    series: Series, coarse_target: FloatArray, time: str, *, constants: EstarfmConstants = PUBLISHED
) -> FloatArray:
    """Fine image ``[H, W]`` of ``time`` from the last pair before and the first after it.

    Where one pair has no value the other speaks alone; NaN where neither has.

    Raises:
        Undetermined: no pair on one of the sides.
    """
    pairs = pairs_around(series, time)
    radius, constants = window_radius(series.coarse_index), constants.scaled(QUANTITIES[series.quantity])
    target = on_fine_grid(coarse_target, series.coarse_index)
    changes = [target.astype(np.float64) - pair.coarse for pair in pairs]
    steadiness = 1.0 / np.maximum(1.0 - _correlation(series, constants.min_dates), constants.min_one_minus_r)
    sums, local = _neighbour_sums(pairs, changes, steadiness, radius, constants.n_classes)
    conversion = _conversion(sums, constants)
    answers = np.stack([pair.fine + conversion * change for pair, change in zip(pairs, local, strict=True)])
    return _mix(answers, changes, radius, constants.unit_k)


def _correlation(series: Series, min_dates: int) -> Array:
    """R ``[H, W]``: correlation in time of fine and coarse over the library, 0 where it is unknown."""
    n, x, y, xx, yy, xy = sums = np.zeros((6, *series.coarse_index.shape))
    means = valid_mean(series.fine), valid_mean(series.coarse)
    for time in series.fine_time:
        fine, coarse = pair_at(series, time)
        valid = np.isfinite(fine) & np.isfinite(coarse)
        a = np.where(valid, fine.astype(np.float64) - means[0], 0.0)
        b = np.where(valid, coarse.astype(np.float64) - means[1], 0.0)
        sums += np.stack([valid, a, b, a * a, b * b, a * b])
    count = np.maximum(n, 1)
    spread = (xx - x * x / count) * (yy - y * y / count)
    known = (n >= min_dates) & (spread > 1e-12 * xx * yy)
    correlation: Array = np.where(known, (xy - x * y / count) / np.sqrt(np.where(known, spread, 1.0)), 0.0)
    return correlation


def _neighbour_sums(
    pairs: tuple[Pair, Pair], changes: list[Array], steadiness: Array, radius: int, n_classes: int
) -> tuple[Array, list[Array]]:
    """Over the similar pixels: the sums that V needs ``[8, H, W]``, and the weighted coarse change since each pair.

    A neighbour is similar if it is within the limit on every date on which the pixel itself is known.
    """
    fine = [pair.fine.astype(np.float64) for pair in pairs]
    unknown = [np.isnan(image) for image in fine]
    limits = [similarity_limit(image, n_classes) for image in fine]
    known_change = [np.isfinite(change) for change in changes]
    weighted = [steadiness * known for known in known_change]
    weighted += [steadiness * np.nan_to_num(change) for change in changes]
    parts = [pad(part, radius, 0.0) for part in (*_regression_terms(pairs), *weighted)]
    padded_fine = [pad(image, radius, np.nan) for image in fine]
    closeness = 1.0 / relative_distance(radius)

    sums = np.zeros((len(parts), *fine[0].shape))
    for rows in row_blocks(fine[0].shape):
        for offset in np.ndindex(closeness.shape):
            similar = ~(unknown[0][rows] & unknown[1][rows])
            for image, padded, lost, limit in zip(fine, padded_fine, unknown, limits, strict=True):
                there = neighbours(padded, rows, image.shape[1], offset)
                similar &= (np.abs(there - image[rows]) <= limit) | lost[rows]
            close = similar * closeness[offset]
            for number, part in enumerate(parts):
                there = neighbours(part, rows, fine[0].shape[1], offset)
                sums[number, rows] += there * (similar if number <= _N_STEP else close)
    weights, totals = sums[-4:-2], sums[-2:]
    missing = np.full(fine[0].shape, np.nan)
    local = [
        np.divide(total, weight, out=missing.copy(), where=weight > 0.0)
        for total, weight in zip(totals, weights, strict=True)
    ]
    return sums[: _N_STEP + 1], local


def _regression_terms(pairs: tuple[Pair, Pair]) -> Array:
    """For every pixel its part ``[8, H, W]`` in the sums: n, C, F, CC, CF, FF over both dates; C(tn) - C(tm) and its n.

    C and F are taken from their means, which changes no slope and keeps the digits.
    """
    means = [valid_mean(np.stack([getattr(pair, name) for pair in pairs])) for name in Pair._fields]
    terms = np.zeros((8, *pairs[0].fine.shape))
    for fine, coarse in pairs:
        valid = np.isfinite(fine) & np.isfinite(coarse)
        f = np.where(valid, fine.astype(np.float64) - means[0], 0.0)
        c = np.where(valid, coarse.astype(np.float64) - means[1], 0.0)
        terms[:_STEP] += np.stack([valid, c, f, c * c, c * f, f * f])
    step = pairs[1].coarse.astype(np.float64) - pairs[0].coarse
    terms[_STEP], terms[_N_STEP] = np.nan_to_num(step), np.isfinite(step)
    return terms


def _conversion(sums: Array, constants: EstarfmConstants) -> Array:
    """V ``[H, W]``: the slope of F on C where it can be trusted, else 1."""
    n = np.maximum(sums[_N], 1)
    var_c, var_f = sums[_CC] - sums[_C] ** 2 / n, sums[_FF] - sums[_F] ** 2 / n
    covariance = sums[_CF] - sums[_C] * sums[_F] / n
    changed = np.abs(sums[_STEP]) > np.sqrt(2.0) * constants.coarse_uncertainty_k * np.maximum(sums[_N_STEP], 1)
    usable = changed & (n > 2) & (var_c > 1e-12 * sums[_CC]) & (var_f > 1e-12 * sums[_FF])
    slope = np.divide(covariance, var_c, out=np.ones_like(n), where=usable)
    explained = np.divide(covariance**2, var_c * var_f, out=np.zeros_like(n), where=usable)
    statistic = explained * (n - 2) / np.maximum(1.0 - explained, 1e-12)
    significant = usable & (special.fdtrc(1, np.maximum(n - 2, 1), statistic) <= constants.max_p_value)
    conversion: Array = np.where(significant & (slope > 0.0) & (slope <= constants.max_conversion), slope, 1.0)
    return conversion


def _mix(answers: Array, changes: list[Array], radius: int, unit_k: float) -> FloatArray:
    """Both answers ``[2, H, W]`` by the temporal weights T; one alone where the other is NaN."""
    weights = np.stack([1.0 / np.maximum(np.abs(_window_mean(change, radius)), unit_k) for change in changes])
    weights[np.isnan(answers)] = 0.0
    total = weights.sum(axis=0)
    mixed = np.full(total.shape, np.nan)
    np.divide((weights * np.nan_to_num(answers)).sum(axis=0), total, out=mixed, where=total > 0.0)
    return mixed.astype(np.float32)


def _window_mean(values: Array, radius: int) -> Array:
    """Mean of the valid pixels of the window ``[H, W]``, 0 where there is none."""
    size = 2 * radius + 1
    valid = np.isfinite(values)
    total = ndimage.uniform_filter(np.nan_to_num(values), size, mode="constant")
    share = ndimage.uniform_filter(valid.astype(np.float64), size, mode="constant")
    mean: Array = np.divide(total, share, out=np.zeros_like(total), where=share > 0.5 / size**2)
    return mean
