"""Which values a surface factor can have; what lies outside is a fill value or another unit and would pass for data."""

from typing import NamedTuple

import numpy as np

from thermoscale.arrays import FloatArray
from thermoscale.errors import InvalidInput


class FactorRange(NamedTuple):
    """Factors whose name begins with ``prefixes`` lie between ``low`` and ``high`` if given in ``unit``."""

    prefixes: tuple[str, ...]
    unit: str
    low: float
    high: float


FACTOR_RANGES = (
    FactorRange(("ndvi", "evi", "ndwi", "ndbi", "mndwi"), "1", -2.0, 2.0),
    FactorRange(("reflectance", "albedo", "red", "green", "blue", "nir", "swir"), "1", -0.5, 2.0),
    FactorRange(("lc_", "fvc"), "1", 0.0, 1.0),
    FactorRange(("elevation", "dem"), "m", -500.0, 9000.0),
    FactorRange(("slope",), "degree", 0.0, 90.0),
    FactorRange(("aspect_sin", "aspect_cos"), "1", -1.0, 1.0),
)
"""Physical bounds with some room for noise; a factor in another unit, or of another name, has none here."""

FILL_VALUES = (-9999.0, -32768.0, -999.0)
"""Numbers that products use for "no data"."""

_LARGEST_PHYSICAL = 1e30


def require_factor(name: str, unit: str, values: FloatArray) -> None:
    """Check that the valid pixels of one factor can be what its name says.

    Args:
        values: any shape, NaN = no data.

    Raises:
        InvalidInput: infinite, a known fill value, or outside the bounds of :data:`FACTOR_RANGES`.
    """
    if np.isinf(values).any():
        raise InvalidInput(f"factor {name} holds {int(np.isinf(values).sum())} infinite values; use NaN for no data")
    if np.isnan(values).all():
        return
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    least, most = bounds_of(name, unit)
    if low < least or high > most:
        raise InvalidInput(
            f"factor {name} ranges from {low:.6g} to {high:.6g} (unit {unit}), needed {least:g} to {most:g}; "
            "use NaN for no data"
        )
    fills = [fill for fill in FILL_VALUES if low <= fill and (values == fill).any()]
    if fills:
        raise InvalidInput(f"factor {name} holds the fill value {fills[0]:g}; use NaN for no data")


def bounds_of(name: str, unit: str) -> tuple[float, float]:
    """Least and largest value a factor of this name and unit can have."""
    return known_bounds(name, unit) or (-_LARGEST_PHYSICAL, _LARGEST_PHYSICAL)


def known_bounds(name: str, unit: str) -> tuple[float, float] | None:
    """The bounds of :data:`FACTOR_RANGES` for a factor of this name and unit, None where it has none there."""
    for known in FACTOR_RANGES:
        if unit == known.unit and name.lower().startswith(known.prefixes):
            return known.low, known.high
    return None
