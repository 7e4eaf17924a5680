"""A server that ends is started again, but not for ever."""

import pytest

from thermoscale.errors import Unavailable
from thermoscale.restarts import PAUSES_S, STEADY_S, Restarts


def test_the_first_start_follows_at_once_and_each_further_one_later() -> None:
    restarts = Restarts()
    pauses = [restarts.pause_s(lived_s=1.0) for _ in PAUSES_S]
    assert pauses[0] == 0
    assert pauses == sorted(set(pauses))


def test_it_gives_up_after_early_deaths_in_a_row() -> None:
    restarts = Restarts()
    for _ in PAUSES_S:
        restarts.pause_s(lived_s=STEADY_S / 2)
    with pytest.raises(Unavailable, match=f"{len(PAUSES_S) + 1} times within 60 s"):
        restarts.pause_s(lived_s=STEADY_S / 2)


def test_deaths_after_a_long_life_are_no_row() -> None:
    restarts = Restarts()
    assert [restarts.pause_s(lived_s=STEADY_S) for _ in range(20)] == [0.0] * 20
