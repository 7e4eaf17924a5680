"""One outlier in three values must not show."""

import numpy as np
import pytest

from thermoscale.numerics.robust import robust_sd


def test_it_is_the_standard_deviation_of_normal_values_whatever_a_third_of_them_becomes() -> None:
    values = np.random.default_rng(0).normal(7.0, 2.0, 20_001)
    assert robust_sd(values) == pytest.approx(2.0, rel=0.02)
    values[:3000] = 1e9
    assert robust_sd(values) == pytest.approx(2.0, rel=0.3)


def test_it_can_be_taken_around_another_centre_and_is_0_without_values() -> None:
    assert robust_sd(np.array([3.0, 3.0, 3.0]), centre=0.0) == pytest.approx(3 * 1.4826)
    assert robust_sd(np.array([])) == 0.0
