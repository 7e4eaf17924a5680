"""How far the adaptive mode may be off: a variance from four features, and a calibration learnt on left-out dates."""

from collections.abc import Callable

import numpy as np

from thermoscale.arrays import Array
from thermoscale.numerics.adaptive_grid import CellGrid

_NODES = 4096
_WIDEST = 50.0  # largest disagreement tabled, squared standard deviations of the library


def disagreement(scenes: Array, weights: Array) -> Array:
    """Weighted variance over dates of ``scenes [T, N]``; ``weights [T]`` with sum 1."""
    mean = np.tensordot(weights, scenes, 1)
    total = np.zeros(scenes.shape[1], scenes.dtype)
    for weight, scene in zip(weights, scenes, strict=True):
        if weight > 0:
            total += weight * (scene - mean) ** 2
    return total


def misfit(coarse: Array, means: Array, grid: CellGrid) -> Array:
    """Mean square of coarse minus predicted cell mean around each cell, ``[n]``; 0 if no cell has a value."""
    square = (coarse - means) ** 2
    valid = np.isfinite(square)
    if not valid.any():
        return np.zeros(grid.n)
    total = grid.smooth(np.where(valid, square, 0.0), "smooth_3")
    around: Array = (total + 1e-3 * square[valid].mean()) / (grid.smooth(valid.astype(float), "smooth_3") + 1e-3)
    return around


def spread_table(spread: Array, calibration: Array, largest: float) -> Callable[[Array], Array]:
    """A function from modelled variance to calibrated 1 sigma, both in standard deviations of the library.

    Args:
        spread, calibration: of the state. largest: variance of class and misfit, at most.
    """
    low = float(np.log(spread[4]))
    high = float(np.log(max(spread[4], largest + spread[2] * _WIDEST))) + 1.0
    deviation = np.linspace(low, high, _NODES) / 2
    table = (np.exp(deviation) * np.interp(deviation, *calibration)).astype(np.float32)
    scale = np.float32((_NODES - 1) / (high - low))

    def sigma(variance: Array) -> Array:
        place = (np.log(np.maximum(variance, np.float32(spread[4]))) - np.float32(low)) * scale
        looked_up: Array = np.take(table, place.astype(np.intp), mode="clip")
        return looked_up

    return sigma
