"""Spread of values of which up to half may be outliers."""

import numpy as np

from thermoscale.arrays import Array

_MAD_TO_SD = 1.4826  # of a normal distribution


def robust_sd(values: Array, centre: float | None = None) -> float:
    """1.4826 x the median distance of ``values`` from ``centre`` (default: their median); 0 where there is none."""
    if not values.size:
        return 0.0
    return _MAD_TO_SD * float(np.median(np.abs(values - (np.median(values) if centre is None else centre))))
