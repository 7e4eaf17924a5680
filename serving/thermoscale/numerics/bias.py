"""The coarse sensor against the fine one: offset and scale of each date, and what a date without a fine image gets.

Of a pair on one date the cell means of the fine image are compared with the coarse image. The two sensors never
agree (METHODS 3: +0.1 K on one date, +4.5 K on another), and change ratios do not forgive it: they are invariant
to an offset common to all dates, not to one of a single date.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import Array, FloatArray, Quantity, in_unit_of
from thermoscale.errors import Undetermined
from thermoscale.numerics.robust import robust_sd

_MAX_PAIRED_CELLS = 200  # Theil-Sen over all pairs of them: 20,000 slopes


@dataclass(frozen=True)
class BiasRule:
    """When a pair of images is believed.

    Attributes:
        min_cells: cells with both values that an offset needs.
        min_scale_cells: the same for a scale.
        min_correlation: of the coarse image with the cell means of the fine one; below it they did not see the same
            thing. At 0.5 the best straight line through the pair still leaves 87 % of the fine image's standard
            deviation: the coarse image says next to nothing about the pattern. Measured on public pairs: 78 good
            ones 0.79 to 0.97, a cloud that one sensor missed 0.35, an orbit seam 0.0.
        min_contrast_k: standard deviation of the fine cell means, K, below which a low correlation is no evidence:
            there the coarse sensor's noise, about 1 K, alone takes the correlation to 0.7.
        min_scale_excess: how far 1 must lie outside the slopes that the pair allows before a scale is applied.
    """

    min_cells: int = 8
    min_scale_cells: int = 30
    min_correlation: float = 0.5
    min_contrast_k: float = 1.0
    min_scale_excess: float = 0.1

    def scaled(self, quantity: Quantity) -> "BiasRule":
        """The same rule in the unit of ``quantity``."""
        return in_unit_of(quantity, self)


@dataclass(frozen=True)
class Bias:
    """What makes a coarse image comparable with its fine one: ``coarse + offset_k + (scale - 1) (coarse - centre_k)``.

    Attributes:
        offset_k: to add at the scene's centre value; NaN where too few cells hold both values.
        scale: factor on the departures from ``centre_k``; 1 unless the pair rules 1 out.
        centre_k: median of the coarse cells compared; NaN: that of the image it is applied to.
        correlation: of the coarse image with the cell means; 0 if only one of them is constant, NaN if undefined.
        contrast_k: standard deviation of the fine cell means.
        n_cells: cells compared.
        residual_k: robust standard deviation of what remains.
    """

    offset_k: float
    scale: float
    centre_k: float
    correlation: float
    contrast_k: float
    n_cells: int
    residual_k: float


@dataclass(frozen=True)
class CarriedBias:
    """The bias expected of a date without a fine image.

    Attributes:
        bias: to apply; its ``correlation`` and ``residual_k`` are NaN, ``n_cells`` is 0.
        spread_k: 1 sigma by which a single date departs from it, from the disagreement of the dates; NaN below two.
        n_dates: dates it rests on.
    """

    bias: Bias
    spread_k: float
    n_dates: int


def fit_bias(coarse: Array, fine_mean: Array, rule: BiasRule) -> Bias:
    """Offset and scale of one pair of images.

    The offset is the median of the differences, so that up to half of the cells may be clouds. A scale is only
    determined where errors in both images cannot explain the slope: the slope of fine on coarse is too low by
    the noise of the coarse image, the inverse of the slope of coarse on fine too high by that of the fine one; between
    the two (Frisch's bounds, here of Theil-Sen slopes) nothing can be told. If 1 lies outside, the nearer bound is
    taken, the smallest correction that the pair asks for.

    Args:
        coarse: ``[h, w]``, NaN = no data.
        fine_mean: ``[h, w]`` from :func:`thermoscale.numerics.grids.area_mean`.
        rule: in the unit of the images.
    """
    both = ~np.isnan(coarse) & ~np.isnan(fine_mean)
    seen, made = coarse[both].astype(np.float64), fine_mean[both].astype(np.float64)
    correlation = _correlation(seen, made)
    contrast = float(made.std()) if made.size else np.nan
    if seen.size < rule.min_cells:
        return Bias(np.nan, 1.0, np.nan, correlation, contrast, seen.size, np.nan)
    trusted = seen.size >= rule.min_scale_cells and correlation >= rule.min_correlation
    scale = _forced_scale(seen, made, rule.min_scale_excess) if trusted else 1.0
    centre = float(np.median(seen))
    remaining = made - seen - (scale - 1.0) * (seen - centre)
    offset = float(np.median(remaining))
    return Bias(offset, scale, centre, correlation, contrast, seen.size, robust_sd(remaining))


def apply_bias(coarse: Array, bias: Bias) -> FloatArray:
    """``coarse [..., h, w]`` made comparable with the fine images; NaN stays NaN.

    Raises:
        Undetermined: the bias has no offset.
    """
    if np.isnan(bias.offset_k):
        raise Undetermined(f"{bias.n_cells} cells hold a coarse and a fine value: too few to know the bias")
    values = coarse.astype(np.float64)
    if bias.scale != 1.0:
        valid = values[~np.isnan(values)]
        own = float(np.median(valid)) if valid.size else np.nan
        values += (bias.scale - 1.0) * (values - (own if np.isnan(bias.centre_k) else bias.centre_k))
    return (values + bias.offset_k).astype(np.float32)


def contradicts(bias: Bias, rule: BiasRule) -> bool:
    """Whether the pair proves that its two images did not see the same thing.

    It does not where cells are few or the ground is too uniform for a correlation to mean anything.

    Args:
        rule: in the unit of the images.
    """
    telling = bias.n_cells >= rule.min_cells and bias.contrast_k >= rule.min_contrast_k
    return telling and bias.correlation < rule.min_correlation


def carry_over(biases: Sequence[Bias]) -> CarriedBias:
    """The bias of a date without a fine image: median offset and median scale of the dates that have one.

    Nothing more is made of them. On the 18 usable dates of saltonsea_nir, each predicted from the others, weights by
    closeness in time or in mean value, or a regression on the mean, did not beat the median (docs/todays-map.md).
    Where the dates disagree, ``spread_k`` says by how much: the plain standard deviation, because nothing protects
    the new date from being as far out as the furthest of them (saltonsea_nir: 0.57, true error 0.55, robust 0.36).

    Raises:
        Undetermined: no date has an offset.
    """
    known = [bias for bias in biases if not np.isnan(bias.offset_k)]
    if not known:
        raise Undetermined("no library date has enough cells with a coarse and a fine value to know the bias")
    offsets = np.array([bias.offset_k for bias in known])
    offset, scale = float(np.median(offsets)), float(np.median([bias.scale for bias in known]))
    bias = Bias(offset, scale, np.nan, np.nan, np.nan, 0, np.nan)
    spread = float(offsets.std(ddof=1)) if offsets.size > 1 else np.nan
    return CarriedBias(bias, spread, len(known))


def _correlation(seen: Array, made: Array) -> float:
    if seen.size < 2:
        return np.nan
    flat = (np.ptp(seen) == 0.0, np.ptp(made) == 0.0)
    if any(flat):
        return np.nan if all(flat) else 0.0
    return float(np.corrcoef(seen, made)[0, 1])


def _forced_scale(seen: Array, made: Array, excess: float) -> float:
    """The bound nearest to 1 where 1 lies further than ``excess`` outside both bounds, else 1."""
    forward, backward = _theil_sen(seen, made), _theil_sen(made, seen)
    low, high = forward, (1.0 / backward if backward > 0.0 else np.inf)
    if low > 1.0 + excess:
        return low
    return high if 0.0 < high < 1.0 - excess else 1.0


def _theil_sen(x: Array, y: Array) -> float:
    """Median slope over all pairs of points, of at most 200 points evenly spaced; 0 where all x are equal."""
    step = -(-x.size // _MAX_PAIRED_CELLS)
    x, y = x[::step], y[::step]
    first, second = np.triu_indices(x.size, 1)
    run, rise = x[second] - x[first], y[second] - y[first]
    apart = run != 0.0
    return float(np.median(rise[apart] / run[apart])) if apart.any() else 0.0
