"""STARFM: Gao, Masek, Schwaller & Hall 2006, IEEE TGRS 44(8):2207.

With L fine, M coarse on the fine grid, t0 the target, tk the pairs and (i, j) the pixels of a window around the pixel:

    L(t0) = sum_ijk W_ijk * (M_ij(t0) + L_ij(tk) - M_ij(tk)),    W = (1 / C) / sum(1 / C)
    C_ijk = ln(B * S_ijk + 1) * ln(B * T_ijk + 1) * D_ij
    S = |L(tk) - M(tk)|,   T = |M(tk) - M(t0)|,   D = 1 + distance / A

Only similar pixels count (|L_ij(tk) - L(tk)| within two standard deviations over the number of classes) that are no
worse than the pixel itself: S and T below its own, of the worst pair, plus the uncertainty of the two sensors. Where
the coarse pixel did not change (T = 0) the fine one is taken as it was, as the paper prescribes.
Ours: A is half the window, coarse images come bilinearly, and S and T count as at least one unit 1 / B (in the paper's
integers a zero would take all the weight).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from thermoscale.arrays import QUANTITIES, Array, FloatArray, Quantity, in_unit_of
from thermoscale.formats import Series
from thermoscale_train.baselines.neighbours import (
    Pair,
    nearest_pair,
    neighbours,
    on_fine_grid,
    pad,
    pairs_around,
    relative_distance,
    row_blocks,
    similarity_limit,
    valid_mean,
    window_radius,
)


@dataclass(frozen=True)
class StarfmConstants:
    """Published for reflectance, here in kelvin at 0.01 of reflectance for 1 K (``Quantity.kelvin``).

    Attributes:
        n_classes: classes assumed in the scene.
        fine_uncertainty_k, coarse_uncertainty_k: 1-sigma error of a pixel, K (0.005 of near-infrared reflectance).
        unit_k: 1 / B, K (0.0001 of reflectance).
    """

    n_classes: int = 4
    fine_uncertainty_k: float = 0.5
    coarse_uncertainty_k: float = 0.5
    unit_k: float = 0.01

    def scaled(self, quantity: Quantity) -> "StarfmConstants":
        """The same constants in the unit of ``quantity``."""
        return in_unit_of(quantity, self)


PUBLISHED = StarfmConstants()


class _Evidence(NamedTuple):
    """What one pair says, all ``[H, W]`` float32; weight and value are 0 where something is missing."""

    fine: Array
    spectral: Array  # S, NaN where missing
    temporal: Array  # T, NaN where missing
    weight: Array  # 1 / (ln(B S + 1) * ln(B T + 1))
    value: Array  # M(t0) + L(tk) - M(tk), from the reference


def starfm(
    series: Series,
    coarse_target: FloatArray,
    time: str,
    *,
    pairs: Literal["both", "nearest"] = "both",
    constants: StarfmConstants = PUBLISHED,
) -> FloatArray:
    """Fine image ``[H, W]`` of ``time``; NaN where no chosen pair has both a fine value and a usable neighbour.

    Args:
        pairs: ``both`` is the last pair before and the first after ``time``; ``nearest`` is the nearest one alone.

    Raises:
        Undetermined: such a pair does not exist.
    """
    chosen = pairs_around(series, time) if pairs == "both" else (nearest_pair(series, time),)
    target = on_fine_grid(coarse_target, series.coarse_index)
    constants = constants.scaled(QUANTITIES[series.quantity])
    return _predict(chosen, target, window_radius(series.coarse_index), constants)


def _predict(chosen: tuple[Pair, ...], target: FloatArray, radius: int, constants: StarfmConstants) -> FloatArray:
    """STARFM from ``chosen`` pairs, with ``target`` the coarse image of t0 on the fine grid."""
    values = [target.astype(np.float64) + pair.fine - pair.coarse for pair in chosen]
    reference = valid_mean(np.stack(values))  # float32 sums of what is left of it are exact enough
    evidence = [
        _evidence(pair, target, value - reference, constants) for pair, value in zip(chosen, values, strict=True)
    ]
    fine_error, coarse_error = constants.fine_uncertainty_k, constants.coarse_uncertainty_k
    spectral_limit = _own([pair.spectral for pair in evidence]) + np.float32(np.hypot(fine_error, coarse_error))
    temporal_limit = _own([pair.temporal for pair in evidence]) + np.float32(np.hypot(coarse_error, coarse_error))

    total, weight = np.zeros(target.shape), np.zeros(target.shape)
    for pair in evidence:
        limit = similarity_limit(pair.fine, constants.n_classes)
        _add_neighbours(pair, limit, (spectral_limit, temporal_limit), radius, total, weight)
    answer = np.full(target.shape, np.nan)
    np.divide(total, weight, out=answer, where=weight > 0.0)
    return _keep_unchanged(answer + reference, evidence, constants.unit_k)


def _evidence(pair: Pair, target: FloatArray, value: Array, constants: StarfmConstants) -> _Evidence:
    spectral, temporal = np.abs(pair.fine - pair.coarse), np.abs(pair.coarse - target)
    steps = [np.log(np.maximum(part.astype(np.float64) / constants.unit_k, 1.0) + 1.0) for part in (spectral, temporal)]
    weight = np.nan_to_num(1.0 / (steps[0] * steps[1])).astype(np.float32)
    return _Evidence(pair.fine, spectral, temporal, weight, np.nan_to_num(value).astype(np.float32))


def _own(parts: list[Array]) -> Array:
    """The pixel's own difference, of the worst pair; no limit where it is unknown."""
    worst = np.fmax.reduce(parts)
    return np.where(np.isnan(worst), np.float32(np.inf), worst)


def _add_neighbours(
    pair: _Evidence, limit: float, own_limits: tuple[Array, Array], radius: int, total: Array, weight: Array
) -> None:
    """Add the weighted values and the weights of all neighbours to ``total`` and ``weight``."""
    padded = _Evidence(
        *(pad(part, radius, fill) for part, fill in zip(pair, (np.nan, np.nan, np.nan, 0, 0), strict=True))
    )
    closeness = (1.0 / relative_distance(radius)).astype(np.float32)
    width = total.shape[1]
    for rows in row_blocks(total.shape):
        own, spectral_limit, temporal_limit = pair.fine[rows], own_limits[0][rows], own_limits[1][rows]
        for row in range(2 * radius + 1):
            row_total, row_weight = np.zeros(own.shape, np.float32), np.zeros(own.shape, np.float32)
            for col in range(2 * radius + 1):
                there = _Evidence(*(neighbours(part, rows, width, (row, col)) for part in padded))
                share = there.weight * closeness[row, col]
                share *= np.abs(there.fine - own) <= limit
                share *= there.spectral <= spectral_limit
                share *= there.temporal <= temporal_limit
                row_weight += share
                share *= there.value
                row_total += share
            total[rows] += row_total
            weight[rows] += row_weight


def _keep_unchanged(answer: Array, evidence: list[_Evidence], unit_k: float) -> FloatArray:
    """Where the coarse pixel changed by less than half a unit since a pair, that pair's fine pixel (mean of two)."""
    kept = np.stack([np.where(pair.temporal < 0.5 * unit_k, pair.fine, np.nan) for pair in evidence]).astype(np.float64)
    n_kept = np.isfinite(kept).sum(axis=0)
    mean = np.nansum(kept, axis=0) / np.maximum(n_kept, 1)
    unchanged: FloatArray = np.where(n_kept > 0, mean, answer).astype(np.float32)
    return unchanged
