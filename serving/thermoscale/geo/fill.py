"""Fill values that nobody declared."""

import numpy as np

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput

_LARGEST_PHYSICAL = 1e30


def require_no_fill(name: str, values: Array) -> None:
    """Refuse numbers such as -3.4e38 that no sensor measures: a fill value whose nodata tag was lost.

    One such pixel would ruin every mean it takes part in. Infinite values are left to the quantity's own check.

    Raises:
        InvalidInput: such numbers are there; the message gives one and how many.
    """
    absurd = np.isfinite(values) & (np.abs(values) > _LARGEST_PHYSICAL)
    if absurd.any():
        raise InvalidInput(
            f"{name} holds {float(values[absurd][0]):.6g} in {int(absurd.sum())} pixels and no nodata tag names it: "
            "an undeclared fill value; use NaN, or set the tag (gdal_edit.py -a_nodata VALUE)"
        )
