"""Triples and the two medians, against brute force and numpy's slow functions."""

import warnings
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.numerics import triples
from thermoscale.numerics.triples import Triple, enumerate_triples, median_over_clips, median_over_triples
from thermoscale.times import format_time

LAW = settings(max_examples=50, deadline=None)
NAN = float("nan")
times = st.integers(0, 60).map(lambda day: format_time(np.datetime64("2020-01-01T10:30") + np.timedelta64(day, "D")))
libraries = st.lists(times, max_size=9, unique=True)
values = st.floats(-200, 400, width=32) | st.just(NAN)
stacks = arrays(np.float32, array_shapes(min_dims=3, max_dims=3, max_side=7), elements=values)


def slow_quantiles(stack: Array) -> tuple[Array, Array]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanpercentile(stack.astype(np.float64), [25, 75], axis=0)
        return np.nanmedian(stack, axis=0), high - low


@LAW
@given(libraries, times)
def test_triples_equal_brute_force_in_every_order(library: list[str], target: str) -> None:
    library = [time for time in library if time != target]
    pairs = [(pre, post) for pre, post in product(library, library) if pre < post]
    expected = {
        "ordered": {(a, b) for a, b in pairs if a < target < b},
        "past_only": {(a, b) for a, b in pairs if b < target},
        "unordered": set(pairs),
    }
    for order in triples.ORDERS:
        found = enumerate_triples(library, target, order)
        assert {(triple.pre, triple.post) for triple in found} == expected[order]
        assert len(found) == len(expected[order])
        assert {triple.target for triple in found} <= {target}


@LAW
@given(libraries, st.randoms(use_true_random=False))
def test_triples_do_not_depend_on_the_order_of_the_library(library: list[str], random: object) -> None:
    shuffled = list(library)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    target = "2020-01-20T00:00Z"
    assert enumerate_triples(shuffled, target) == enumerate_triples(library, target)


@LAW
@given(st.integers(0, 6), st.integers(0, 6))
def test_k_dates_before_and_m_after_give_k_times_m_triples(k: int, m: int) -> None:
    library = [f"2020-01-{day:02d}" for day in range(1, k + 1)] + [f"2020-03-{day:02d}" for day in range(1, m + 1)]
    assert len(enumerate_triples(library, "2020-02-01")) == k * m


def test_times_of_a_triple_are_canonical() -> None:
    assert enumerate_triples(["2020-01-01", "2020-01-03"], "2020-01-02") == [
        Triple("2020-01-01T12:00Z", "2020-01-02T12:00Z", "2020-01-03T12:00Z")
    ]


@LAW
@given(stacks)
def test_median_and_spread_equal_numpy(stack: Array) -> None:
    before = stack.copy()
    median, iqr, count = median_over_triples(stack)
    slow_median, slow_iqr = slow_quantiles(stack)
    np.testing.assert_array_equal(median, slow_median)
    np.testing.assert_allclose(iqr, slow_iqr, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(count, (~np.isnan(stack)).sum(axis=0))
    np.testing.assert_array_equal(stack, before)
    assert (median.dtype, iqr.dtype, count.dtype) == (np.float32, np.float32, np.uint8)


@LAW
@given(stacks, st.randoms(use_true_random=False))
def test_triples_in_any_order_give_one_median(stack: Array, random: object) -> None:
    order = list(range(len(stack)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for one, other in zip(median_over_triples(stack), median_over_triples(stack[order]), strict=True):
        np.testing.assert_array_equal(one, other)


@LAW
@given(stacks)
def test_row_blocks_change_nothing(stack: Array) -> None:
    whole = median_over_triples(stack)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triples, "_BLOCK_VALUES", 1)
        by_row = median_over_triples(stack)
    for one, other in zip(whole, by_row, strict=True):
        np.testing.assert_array_equal(one, other)


@LAW
@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=values))
def test_the_median_over_clips_equals_numpy(alpha_hcr: Array) -> None:
    np.testing.assert_array_equal(median_over_clips(alpha_hcr), slow_quantiles(alpha_hcr)[0])


def test_no_triple_gives_nan_and_count_zero() -> None:
    median, iqr, count = median_over_triples(np.empty((0, 2, 3), np.float32))
    assert np.isnan(median).all()
    assert np.isnan(iqr).all()
    assert median.shape == iqr.shape == count.shape == (2, 3)
    assert not count.any()
    assert np.isnan(median_over_clips(np.empty((0, 4), np.float32))).tolist() == [True] * 4


def test_one_triple_is_its_own_median_without_spread() -> None:
    median, iqr, count = median_over_triples(np.array([[[291.5, NAN]]], np.float32))
    np.testing.assert_array_equal(median, [[291.5, NAN]])
    np.testing.assert_array_equal(iqr, [[0.0, NAN]])
    assert count.tolist() == [[1, 0]]


def test_the_count_stops_at_255() -> None:
    _, _, count = median_over_triples(np.zeros((300, 1, 1), np.float32))
    assert count.tolist() == [[255]]


def test_enumerating_refuses() -> None:
    with pytest.raises(InvalidInput, match=r"target 2020-01-01T12:00Z is in the library"):
        enumerate_triples(["2020-01-01", "2020-01-02"], "2020-01-01T12:00Z")
    with pytest.raises(InvalidInput, match="twice"):
        enumerate_triples(["2020-01-01", "2020-01-01T12:00Z"], "2020-01-05")
    with pytest.raises(InvalidInput, match="order is 'future'"):
        enumerate_triples([], "2020-01-05", "future")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="time '20200105'"):
        enumerate_triples([], "20200105")
