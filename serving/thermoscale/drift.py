"""Facts about one request and its answer by which an operator sees that the input has changed.

Shares are of a regular subsample of at most about 65,536 pixels an array, so that they cost the same for every scene.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import Array
from thermoscale.pipelines import flags as flag_bits

_SIDE = 128
_INPUTS = ("coarse", "factors")
_FLAGS = {name.lower(): bit for name, bit in vars(flag_bits).items() if name.isupper()}


class Drift(NamedTuple):
    """Shares are from 0 to 1; those of 0 are left out.

    Attributes:
        coarse_mean: of the valid coarse pixels, in the model's unit; None where there are none.
        nan_share: input array -> share of its values that are NaN.
        flagged_share: name of a flag in lower case -> share of the answered pixels that carry it.
    """

    coarse_mean: float | None
    nan_share: dict[str, float]
    flagged_share: dict[str, float]


def drift_of(values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Drift:
    """Summarize one answered request.

    Args:
        values: the request's named values; of these ``coarse`` and ``factors`` count, ``(..., h, w)``.
        arrays: the answer's arrays; of these ``flags`` counts, ``(H, W)`` uint8.
    """
    inputs = {name: _subsample(values[name]) for name in _INPUTS if _is_numeric(values.get(name))}
    missing = {name: np.isnan(array) for name, array in inputs.items()}
    nan_share = {name: np.count_nonzero(absent) / absent.size for name, absent in missing.items()}
    valid = inputs["coarse"][~missing["coarse"]] if "coarse" in inputs else np.empty(0)
    coarse_mean = float(valid.mean(dtype=np.float64)) if valid.size else None
    return Drift(coarse_mean, {name: share for name, share in nan_share.items() if share}, _flagged_share(arrays))


def _flagged_share(arrays: Mapping[str, Array]) -> dict[str, float]:
    if "flags" not in arrays:
        return {}
    flags = _subsample(arrays["flags"])
    present = int(np.bitwise_or.reduce(flags, axis=None))
    return {name: np.count_nonzero(flags & bit) / flags.size for name, bit in _FLAGS.items() if present & bit}


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu"


def _subsample(array: Array) -> Array:
    rows, cols = (max(1, length // _SIDE) for length in array.shape[-2:])
    return array[..., ::rows, ::cols]
