"""The golden sample of a bundle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thermoscale.bundle.golden import compare_golden, encode_golden, read_golden, write_golden
from thermoscale.errors import BundleError

LST = np.array([[300.0, np.nan], [301.5, 299.0]], np.float32)
FLAGS = np.array([[0, 1], [2, 0]], np.uint8)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4)), st.text("0123456789-TZ:", min_size=1, max_size=9)
)
@settings(deadline=None, max_examples=25)
def test_what_is_written_is_read_back_and_equals_itself(tmp_path_factory, array, time):
    path = tmp_path_factory.mktemp("golden") / "golden.npz"
    write_golden(path, {"coarse": array, "time": time}, {"lst": array, "flags": FLAGS})
    inputs, outputs = read_golden(path)
    np.testing.assert_array_equal(inputs["coarse"], array)
    assert str(inputs["time"]) == time
    assert compare_golden(outputs, {"lst": array, "flags": FLAGS, "meta": np.zeros(1)}, 0.0) == 0.0


def test_the_same_sample_has_the_same_bytes():
    assert encode_golden({"a": LST}, {"b": LST}) == encode_golden({"a": LST}, {"b": LST})


def test_the_largest_difference_is_returned():
    got = {"lst": LST + np.float32(5e-4), "flags": FLAGS}
    assert compare_golden({"lst": LST, "flags": FLAGS}, got, 1e-3) == pytest.approx(5e-4, abs=5e-5)


def test_all_nan_outputs_that_agree_differ_by_nothing():
    nothing = {"lst": np.full((2, 2), np.nan, np.float32)}
    assert compare_golden(nothing, nothing, 1e-3) == 0.0


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ({"flags": FLAGS}, "lst is missing"),
        ({"lst": LST[:1], "flags": FLAGS}, r"lst has shape \[1, 2\], needed \[2, 2\]"),
        ({"lst": LST + 0.01, "flags": FLAGS}, "lst differs by 0.01, allowed 0.001"),
        ({"lst": np.nan_to_num(LST), "flags": FLAGS}, "NaN elsewhere"),
        ({"lst": LST, "flags": FLAGS + 1}, "flags differs in 4 of 4"),
    ],
)
def test_another_answer_is_refused(got, message):
    with pytest.raises(BundleError, match=message):
        compare_golden({"lst": LST, "flags": FLAGS}, got, 1e-3)


def test_an_infinite_answer_is_refused():
    with pytest.raises(BundleError, match="differs by inf"):
        compare_golden({"lst": np.float32([300, 300])}, {"lst": np.float32([np.inf, 300])}, 1e-3)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage"])
def test_a_broken_sample_is_refused(tmp_path, content):
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(BundleError, match="golden"):
        read_golden(tmp_path / "golden.npz")


def test_a_pickled_sample_is_refused(tmp_path):
    np.savez(tmp_path / "golden.npz", **{"in.x": np.array([None], dtype=object)})
    with pytest.raises(BundleError, match="pickle"):
        read_golden(tmp_path / "golden.npz")
    with pytest.raises(BundleError, match=r"in\.x is not an array"):
        encode_golden({"x": np.array([None], dtype=object)}, {})


def test_foreign_keys_are_refused(tmp_path):
    np.savez(tmp_path / "golden.npz", other=np.zeros(1))
    with pytest.raises(BundleError, match=r"unknown keys \['other'\]"):
        read_golden(tmp_path / "golden.npz")
