"""Limits check themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.wire.limits import InflatedBudget, Limits


def test_a_limit_below_one_is_refused_by_name():
    with pytest.raises(ValueError, match="max_pixels is 0"):
        Limits(max_pixels=0)


@given(st.lists(st.integers(1, 60), max_size=12))
def test_parts_pass_as_long_as_their_sum_does(sizes):
    budget = InflatedBudget(Limits(max_inflated_bytes=100, ratio_free_bytes=1000))
    for number, size in enumerate(sizes):
        if sum(sizes[: number + 1]) > 100:
            with pytest.raises(InvalidInput, match=f"part b inflates .* to {size} bytes.*at most 100"):
                budget.charge("part b", 1, size)
            return
        budget.charge("part b", 1, size)


def test_a_ratio_is_judged_for_each_part_and_only_beyond_the_free_size():
    limits = Limits(max_inflated_bytes=1000, ratio_free_bytes=100, max_ratio=10)
    budget = InflatedBudget(limits)
    budget.charge("coarse", 1, 100)
    budget.charge("coarse", 11, 110)
    with pytest.raises(InvalidInput, match="factors inflates from 10 to 101 bytes, more than 10 times"):
        budget.charge("factors", 10, 101)
