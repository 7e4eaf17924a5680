"""A server that ends is started again, but not for ever."""

from thermoscale.server.restarts import PAUSES_S, STEADY_S, Restarts


def test_the_first_start_follows_at_once_and_each_further_one_later() -> None:
    restarts = Restarts()
    assert [restarts.pause_s(lived_s=1.0) for _ in PAUSES_S] == sorted(set(PAUSES_S))
    assert PAUSES_S[0] == 0


def test_it_gives_up_after_early_deaths_in_a_row() -> None:
    restarts = Restarts()
    for _ in PAUSES_S:
        restarts.pause_s(lived_s=STEADY_S / 2)
    assert restarts.pause_s(lived_s=STEADY_S / 2) is None


def test_deaths_after_a_long_life_are_no_row() -> None:
    restarts = Restarts()
    assert [restarts.pause_s(lived_s=STEADY_S) for _ in range(20)] == [0.0] * 20
