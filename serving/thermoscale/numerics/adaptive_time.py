"""Kriging in time: how much each library date tells about the target date if no coarse image is looked at."""

from typing import NamedTuple

import numpy as np

from thermoscale.arrays import Array

KINDS = ("linear", "root", "matern")
"""Variograms: |t|, sqrt(|t|), and Matern 3/2, which forgets."""


class Variogram(NamedTuple):
    """``length`` in median gaps between library dates; ``nugget``: change from one date to the next that no time
    separates, in units of the variogram at one ``length``."""

    kind: str
    length: float
    nugget: float


EVEN = Variogram("linear", 1.0, 100.0)
"""So much nugget that all dates count alike: what two dates allow."""


def time_weights(times: Array, target: float, variogram: Variogram) -> Array:
    """Ordinary-kriging weights ``[T]``, sum 1; ``linear`` without nugget interpolates linearly between neighbours.

    Args:
        times: ``[T]`` in median gaps. target: the same unit.
    """
    n = len(times)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = _covariance(np.abs(times[:, None] - times), variogram) + variogram.nugget * np.eye(n)
    system[n, n] = 0.0
    known = _covariance(np.abs(times - target), variogram)
    weights: Array = np.linalg.solve(system, np.append(known, 1.0))[:n]
    return weights


def near_weights(times: Array, target: float) -> Array:
    """``[T]``, sum 1: dates near in time, whose disagreement tells how uncertain a pixel is; faint ones are 0."""
    weights = 1.0 / (np.abs(times - target) + 0.5) ** 2
    weights /= weights.sum()
    weights[weights <= 0.02] = 0.0
    near: Array = weights / weights.sum() if weights.any() else np.full(len(times), 1.0 / len(times))
    return near


def _covariance(distance: Array, variogram: Variogram) -> Array:
    """Up to a constant, which ordinary kriging does not see."""
    x = distance / variogram.length
    if variogram.kind == "linear":
        return -x
    if variogram.kind == "root":
        return -np.sqrt(x)
    matern: Array = (1 + 3**0.5 * x) * np.exp(-(3**0.5) * x)
    return matern
