"""Limits check themselves."""

import pytest

from thermoscale.wire.limits import Limits


def test_a_limit_below_one_is_refused_by_name():
    with pytest.raises(ValueError, match="max_pixels is 0"):
        Limits(max_pixels=0)
