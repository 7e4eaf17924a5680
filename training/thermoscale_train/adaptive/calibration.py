"""The spread: a variance from four features, calibrated so that 68 % of the left-out truth lies within one sigma."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from thermoscale.arrays import Array

_STUDENT = (1.837, 1.321, 1.197, 1.142, 1.111, 1.091, 1.077, 1.067, 1.059, 1.053, 1.048, 1.044)
"""68.27 % points of |t| with 1 to 12 degrees of freedom."""
_ONE_SIGMA = 0.6827
_BINS = 8
_LEAST_PIXELS = 50
_TINY = 1e-12
UNTAUGHT = (np.array([0.1, 0.0, 0.0, 0.0, 1e-3]), np.array([[0.0], [2.0]]))
"""Spread and calibration where no date could be left out: a third of the library's standard deviation, doubled."""


def class_errors(labels: Sequence[Array], squares: Sequence[Array], n_classes: int) -> tuple[Array, list[Array]]:
    """Mean squared error of each class, shrunk to that of all: over all dates, and without each date in turn.

    Args:
        labels, squares: ``[m]`` per date.
    """
    sums = np.stack([np.bincount(k, e, n_classes) for k, e in zip(labels, squares, strict=True)])
    counts = np.stack([np.bincount(k, minlength=n_classes) for k in labels])
    everywhere = sums.sum() / max(counts.sum(), 1)

    def table(total: Array, count: Array) -> Array:
        shrunk: Array = (total + 50 * everywhere) / (count + 50)
        return shrunk

    whole = sums.sum(0), counts.sum(0)
    return table(*whole), [table(whole[0] - s, whole[1] - c) for s, c in zip(sums, counts, strict=True)]


def fit_spread(features: Sequence[Array], errors: Sequence[Array]) -> tuple[Array, Array]:
    """Variance model ``[5]`` and calibration ``[2, knots]`` as :class:`thermoscale.numerics.adaptive_state` wants them.

    Args:
        features: ``[4, m]`` per date: 1, class, disagreement, misfit. errors: ``[m]`` per date.
    """
    inputs, squares = np.concatenate(features, 1), np.concatenate(errors) ** 2
    clipped = np.minimum(squares, np.quantile(squares, 0.995))
    scale, floor = inputs.mean(1) + _TINY, 0.02 * float(clipped.mean()) + _TINY
    variance = np.full(len(squares), clipped.mean() + _TINY)
    for _ in range(3):
        theta = nnls((inputs / scale[:, None] / variance).T, clipped / variance)[0] / scale
        variance = np.maximum(theta @ inputs, floor)
    dates = np.repeat(np.arange(len(errors)), [len(error) for error in errors])
    calibration = _knots(np.sqrt(variance), np.sqrt(squares), dates)
    calibration[1] *= _few_dates(errors)
    return np.append(theta, floor), calibration


def _knots(sigma: Array, error: Array, dates: Array) -> Array:
    """Logarithm of the modelled sigma, and what it must be multiplied with, in bins of equal count.

    The bins' factors are shrunk to the factor of all, in logarithms and by empirical Bayes: the pixels of a date err
    together, so that a bin's factor is only as certain as the dates agree on it.

    Args:
        sigma, error: ``[m]`` of all dates. dates: ``[m]`` which date.
    """
    edges = np.quantile(sigma, np.linspace(0, 1, _BINS + 1))
    bins = np.clip(np.searchsorted(edges, sigma, side="right") - 1, 0, _BINS - 1)
    ratio = np.maximum(error / sigma, _TINY)
    everywhere = np.quantile(ratio, _ONE_SIGMA)
    members = [bins == number for number in range(_BINS)]
    found = np.array(
        [
            (
                np.log(np.median(sigma[m])),
                np.log(np.quantile(ratio[m], _ONE_SIGMA) / everywhere),
                _doubt(ratio, m, dates),
            )
            for m in members
            if m.sum() > _LEAST_PIXELS
        ]
        or [(0.0, 0.0, 0.0)]
    ).T
    place, departure, doubt = found
    true_variance = max(float((departure**2).mean() - doubt.mean()), 0.0)
    factor = everywhere * np.exp(departure * true_variance / (true_variance + doubt + _TINY))
    return np.stack([place, factor])[:, np.append(True, np.diff(place) > 1e-6)]


def _doubt(ratio: Array, bin_: Array, dates: Array) -> float:
    """Variance of the logarithm of a bin's factor, from how the factors of the single dates differ; 1 from one date."""
    logs = [
        float(np.log(np.quantile(ratio[own], _ONE_SIGMA)))
        for own in (bin_ & (dates == date) for date in np.unique(dates))
        if own.sum() > _LEAST_PIXELS
    ]
    return float(np.var(logs, ddof=1)) / len(logs) if len(logs) > 1 else 1.0


def _few_dates(errors: Sequence[Array]) -> float:
    """Widening because the common error of a date is known from a few left-out dates only (Student's t)."""
    if len(errors) < 2:
        return 2.0
    common = np.mean([error.mean() ** 2 for error in errors]) / (
        np.mean([(error**2).mean() for error in errors]) + _TINY
    )
    wider = _STUDENT[min(len(errors) - 1, len(_STUDENT)) - 1]
    return float(np.sqrt(1 + common * (wider**2 - 1)))
