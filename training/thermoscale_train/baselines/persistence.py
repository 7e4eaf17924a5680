"""The fine image of the nearest date, unchanged.

Signature of a fusion method: ``method(series, coarse_target [h, w], time) -> [H, W]``, where ``series`` is the library:
it holds neither the fine nor the coarse image of ``time``.
"""

import numpy as np

from thermoscale.arrays import FloatArray
from thermoscale.formats import Series, parse_time


def nearest_fine_time(series: Series, time: str) -> str:
    """The fine date closest to ``time``; of two as close, the earlier."""
    target = parse_time(time)
    return min(series.fine_time, key=lambda other: (abs(parse_time(other) - target), other))


def persistence(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:  # noqa: ARG001
    """What was seen last, or next: NaN where that image is."""
    return series.fine_at(nearest_fine_time(series, time)).astype(np.float32)
