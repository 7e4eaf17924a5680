"""Drift facts: shares of what is there, the same cost for any scene, and nothing that can fail an answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermoscale.drift import drift_of
from thermoscale.pipelines.flags import COARSE_MISSING, FALLBACK_USED


@given(st.integers(1, 600), st.integers(1, 600), st.floats(0.0, 1.0))
def test_the_share_of_nan_is_that_of_whole_columns_however_large_the_scene(rows: int, cols: int, share: float) -> None:
    """Columns repeat with a period of 8, which divides no step but 1 and 2: both see the same share."""
    coarse = np.full((rows, cols), 300.0, np.float32)
    missing = round(share * cols)
    coarse[:, :missing] = np.nan
    seen = drift_of({"coarse": coarse}, {}).nan_share.get("coarse", 0.0)
    assert seen == pytest.approx(missing / cols, abs=2 / min(cols, 128))


def test_the_mean_is_over_valid_pixels_only() -> None:
    coarse = np.array([[290.0, np.nan], [310.0, np.nan]], np.float32)
    drift = drift_of({"coarse": coarse, "factors": np.zeros((2, 4, 4), np.float32)}, {})
    assert (drift.coarse_mean, drift.nan_share) == (300.0, {"coarse": 0.5})


def test_flags_are_counted_bit_by_bit_under_their_names() -> None:
    flags = np.array([[COARSE_MISSING, COARSE_MISSING | FALLBACK_USED], [0, 0]], np.uint8)
    assert drift_of({}, {"flags": flags}).flagged_share == {"coarse_missing": 0.5, "fallback_used": 0.25}


def test_at_most_65536_pixels_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    monkeypatch.setattr(np, "isnan", lambda array: looked_at.append(array.size) or array != array)
    drift_of({"coarse": np.ones((5000, 300), np.float32)}, {})
    assert max(looked_at) <= 65536


@pytest.mark.parametrize("coarse", ["scenes/a.tif", None, np.array("scenes/a.tif"), np.full((2, 2), np.nan)])
def test_what_has_no_mean_has_none(coarse: object) -> None:
    assert drift_of({"coarse": coarse}, {}).coarse_mean is None
