"""The sorting network, against numpy's sort and the zero-one principle."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thermoscale.arrays import Array
from thermoscale.numerics.rank_network import NETWORK_ROWS, comparators, sort_rows

LAW = settings(max_examples=50, deadline=None)
stacks = st.tuples(st.integers(1, 20), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-400, 400, width=32) | st.just(np.float32(np.inf)))
)


@LAW
@given(stacks)
def test_rows_are_sorted_as_numpy_sorts(stack: Array) -> None:
    ordered = sort_rows(list(stack.copy()), np.empty_like(stack[0]))
    np.testing.assert_array_equal(np.stack(ordered), np.sort(stack, axis=0))


@pytest.mark.parametrize("n_rows", range(1, 13))
def test_every_pattern_of_zeros_and_ones_is_sorted(n_rows: int) -> None:
    """The zero-one principle: a network that sorts these sorts everything."""
    patterns = np.array(list(product([0, 1], repeat=n_rows)), np.float32).T.copy()
    ordered = np.stack(sort_rows(list(patterns), np.empty_like(patterns[0])))
    assert (np.diff(ordered, axis=0) >= 0).all()


def test_many_rows_are_sorted_without_a_network() -> None:
    stack = np.random.default_rng(0).normal(size=(NETWORK_ROWS + 1, 7)).astype(np.float32)
    ordered = sort_rows(list(stack.copy()), np.empty_like(stack[0]))
    np.testing.assert_array_equal(np.stack(ordered), np.sort(stack, axis=0))


def test_twelve_rows_need_41_comparators() -> None:
    assert len(comparators(12)) == 41
    assert comparators(1) == ()
