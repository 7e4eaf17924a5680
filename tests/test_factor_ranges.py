"""Fill values and foreign units among the factors are refused before they pass for data."""

import numpy as np
import pytest

from thermoscale.errors import InvalidInput
from thermoscale.factor_ranges import FACTOR_RANGES, FILL_VALUES, bounds_of, require_factor
from thermoscale.formats import Pairs
from thermoscale.testing.worlds import make_pairs

NDVI = np.array([[0.1, np.nan], [0.8, -0.2]], np.float32)


def test_plausible_values_and_gaps_pass() -> None:
    require_factor("ndvi", "1", NDVI)
    require_factor("elevation", "m", np.array([-300.0, 8848.0], np.float32))
    require_factor("ndvi", "1", np.full((2, 2), np.nan, np.float32))
    require_factor("distance_to_sea", "km", np.array([0.0, 5000.0], np.float32))


@pytest.mark.parametrize("known", FACTOR_RANGES, ids=lambda known: known.prefixes[0])
def test_the_bounds_of_every_known_factor_hold_at_their_edges(known) -> None:
    name = f"{known.prefixes[0]}_of_something"
    assert bounds_of(name, known.unit) == (known.low, known.high)
    require_factor(name, known.unit, np.array([known.low, known.high], np.float32))
    for beyond in (known.low - 0.5, known.high * 1.01 + 0.01):
        with pytest.raises(InvalidInput, match=rf"factor {name} ranges from .* needed {known.low:g} to {known.high:g}"):
            require_factor(name, known.unit, np.array([known.high, known.low, beyond], np.float32))


@pytest.mark.parametrize("fill", [*FILL_VALUES, -3.4e38, 1e32, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "unit"), [("ndvi", "1"), ("elevation", "m"), ("soil", "class")])
def test_a_fill_value_is_refused_whatever_the_factor(name: str, unit: str, fill: float) -> None:
    values = NDVI.copy()
    values[0, 0] = fill
    with pytest.raises(InvalidInput, match=f"factor {name} .*use NaN for no data"):
        require_factor(name, unit, values)


def test_a_factor_in_another_unit_has_no_bounds() -> None:
    require_factor("ndvi", "1e-4", np.array([8000.0], np.float32))


def test_pairs_with_a_fill_value_in_a_factor_are_refused() -> None:
    arrays = make_pairs(0, n_grounds=1, scenes_per_ground=1, coarse_shape=(6, 6)).to_arrays()
    arrays["factors"] = arrays["factors"].copy()
    arrays["factors"][0, 0, 0, 0] = -9999.0
    with pytest.raises(InvalidInput, match="factor ndvi ranges from -9999"):
        Pairs.from_arrays(arrays)
