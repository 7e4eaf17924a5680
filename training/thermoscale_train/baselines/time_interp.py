"""Linear in time between the two neighbouring fine images."""

import numpy as np

from thermoscale.arrays import FloatArray
from thermoscale.formats import Series, parse_time
from thermoscale_train.baselines.persistence import persistence


def time_interp(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:
    """The two neighbouring fine images, weighted by how close they are.

    Where one of them has no value the other speaks alone; outside the library's dates this is persistence.
    """
    before = max((other for other in series.fine_time if other < time), default=None)
    after = min((other for other in series.fine_time if other > time), default=None)
    if before is None or after is None:
        return persistence(series, coarse_target, time)
    start, end = parse_time(before), parse_time(after)
    share = float((parse_time(time) - start) / (end - start))
    first, last = series.fine_at(before), series.fine_at(after)
    mixed = (1.0 - share) * first + share * last
    mixed = np.where(np.isnan(last), first, mixed)
    return np.where(np.isnan(first), last, mixed).astype(np.float32)
