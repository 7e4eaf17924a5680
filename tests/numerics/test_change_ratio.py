"""The change ratio: both weightings agree, the transform can be undone, every guard acts at its edge."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thermoscale.arrays import LST, REFLECTANCE, Array
from thermoscale.errors import InvalidInput
from thermoscale.numerics.change_ratio import (
    Guards,
    apply_transform,
    baseline_k,
    closed_form,
    closed_form_beta,
    coarse_alpha,
    invert_transform,
    lst_from_delta,
    scene_range,
    usable_pixels,
    within_range,
)

LAW = settings(max_examples=50, deadline=None)
NAN = float("nan")
OPEN = Guards(
    min_coarse_change_k=0.0,
    max_abs_alpha=1e30,
    min_abs_one_plus_alpha=0.0,
    min_baseline_k=0.0,
    min_distance_k=0.0,
    range_margin_k=1e30,
)

kelvin = arrays(np.float32, 6, elements=st.floats(250, 340, width=32))
ratios = arrays(np.float32, 6, elements=st.floats(-20, 20, width=32))
gaps = arrays(np.bool_, 6)


def f4(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


@LAW
@given(ratios, kelvin, kelvin)
def test_inverting_the_transform_gives_the_ratio_back(alpha: Array, pre: Array, post: Array) -> None:
    a2 = apply_transform(alpha, pre, post)
    np.testing.assert_allclose(invert_transform(a2, pre, post), alpha, atol=1e-5)


@LAW
@given(kelvin, kelvin, ratios)
def test_the_three_steps_give_the_closed_form(pre: Array, post: Array, alpha: Array) -> None:
    alpha = np.where(np.abs(1 + alpha) < 0.1, np.float32(0), alpha)
    delta = np.abs(post - pre) / apply_transform(alpha, pre, post)
    np.testing.assert_allclose(lst_from_delta(pre, delta), closed_form(pre, post, alpha), atol=2e-3)


@LAW
@given(kelvin, kelvin, ratios)
def test_alpha_and_beta_are_one_weighting(pre: Array, post: Array, alpha: Array) -> None:
    alpha = np.where(np.abs(1 + alpha) < 0.1, np.float32(0), alpha)
    beta = 1.0 / (1.0 + alpha.astype(np.float64))
    np.testing.assert_allclose(closed_form_beta(pre, post, beta), closed_form(pre, post, alpha), atol=1e-3)


@LAW
@given(kelvin, kelvin, arrays(np.float32, 6, elements=st.floats(-3, 3, width=32)))
def test_exchanging_pre_and_post_mirrors_beta(pre: Array, post: Array, beta: Array) -> None:
    there, back = closed_form_beta(pre, post, beta), closed_form_beta(post, pre, 1.0 - beta.astype(np.float64))
    np.testing.assert_allclose(there, back, atol=1e-4)


@LAW
@given(kelvin, kelvin, st.floats(0.05, 0.95))
def test_the_closed_form_is_exact_where_all_pixels_change_at_one_pace(pre: Array, post: Array, beta: float) -> None:
    """A linear world: the target lies the same share of the way from pre to post in every pixel."""
    target = pre + beta * (post.astype(np.float64) - pre)
    coarse = [np.array([scene.astype(np.float64).mean()]) for scene in (pre, target, post)]
    if abs(coarse[1] - coarse[0]).item() < 0.01:
        return  # no change to take a ratio of
    alpha = coarse_alpha(*coarse, OPEN)
    np.testing.assert_allclose(closed_form(pre, post, alpha), target, atol=1e-3)


@LAW
@given(kelvin, kelvin, kelvin, gaps)
def test_coarse_alpha_equals_its_slow_twin(pre: Array, target: Array, post: Array, gap: Array) -> None:
    target = np.where(gap, np.float32(NAN), target)
    guards = Guards()
    slow = []
    for first, middle, last in zip(pre.tolist(), target.tolist(), post.tolist(), strict=True):
        alpha = NAN
        if abs(middle - first) >= guards.min_coarse_change_k:
            alpha = (last - middle) / (middle - first)
        slow.append(alpha if abs(alpha) <= guards.max_abs_alpha else NAN)
    fast = coarse_alpha(pre, target, post, guards)
    assert fast.dtype == np.float32
    np.testing.assert_allclose(fast, slow, rtol=1e-6)


@LAW
@given(kelvin, kelvin, ratios, gaps)
def test_a_gap_spreads_no_further_than_its_pixel(pre: Array, post: Array, alpha: Array, gap: Array) -> None:
    alpha = np.where(np.abs(1 + alpha) < 0.1, np.float32(0), alpha)
    holed = np.where(gap, np.float32(NAN), pre)
    for answer in (
        closed_form(holed, post, alpha),
        closed_form_beta(holed, post, alpha),
        apply_transform(alpha, holed, post),
        invert_transform(alpha, holed, post),
        lst_from_delta(holed, alpha),
        coarse_alpha(holed, post, post + 1, OPEN),
    ):
        assert np.isnan(answer[gap]).all()
        assert answer.dtype == np.float32
    assert not np.isnan(closed_form(holed, post, alpha)[~gap]).any()


def test_the_sign_flips_only_where_the_pixel_cools() -> None:
    a2 = apply_transform(f4(1.0, 1.0, 1.0), f4(290, 290, 290), f4(300, 280, 290))
    np.testing.assert_array_equal(a2, f4(2, -2, 2))


def test_the_pole_gives_nan_and_no_warning() -> None:
    assert np.isnan(closed_form(f4(280), f4(300), f4(-1))).all()


def test_no_change_gives_no_ratio_even_without_guards() -> None:
    assert np.isnan(coarse_alpha(f4(280), f4(280), f4(300), OPEN)).all()
    assert np.isnan(coarse_alpha(f4(280), f4(280), f4(280), OPEN)).all()


@pytest.mark.parametrize(("change", "used"), [(0.5, True), (-0.5, True), (0.49, False), (-0.49, False)])
def test_coarse_change_guard_at_its_edge(change: float, used: bool) -> None:
    pre = np.array([280.0])
    alpha = coarse_alpha(pre, pre + change, pre + 2 * change, Guards())
    assert np.isfinite(alpha).all() == used


@pytest.mark.parametrize(("alpha", "used"), [(5.0, True), (-5.0, True), (5.01, False), (-5.01, False)])
def test_ratio_guard_at_its_edge(alpha: float, used: bool) -> None:
    got = coarse_alpha(np.array([280.0]), np.array([281.0]), np.array([281.0 + alpha]), Guards())
    assert np.isfinite(got).all() == used


@pytest.mark.parametrize(
    ("alpha", "used"), [(-0.875, True), (-1.125, True), (-0.89, True), (-0.91, False), (-1.09, False), (-1.0, False)]
)
def test_pole_guard_at_its_edge(alpha: float, used: bool) -> None:
    usable = usable_pixels(f4(280), f4(290), f4(alpha), Guards(), baseline_k=10.0)
    assert usable.tolist() == [used]
    edge = usable_pixels(f4(280), f4(290), f4(-0.875), Guards(min_abs_one_plus_alpha=0.125), baseline_k=10.0)
    assert edge.tolist() == [True]


@pytest.mark.parametrize(("baseline", "used"), [(2.0, True), (1.99, False), (NAN, False)])
def test_baseline_guard_at_its_edge(baseline: float, used: bool) -> None:
    usable = usable_pixels(f4(280), f4(290), f4(1), Guards(), baseline_k=baseline)
    assert usable.tolist() == [used]


@pytest.mark.parametrize(("distance", "used"), [(0.125, True), (-0.125, True), (0.12, False), (0.0, False)])
def test_distance_guard_at_its_edge(distance: float, used: bool) -> None:
    pre = np.array([280.0])
    usable = usable_pixels(pre, pre + distance, np.array([1.0]), Guards(min_distance_k=0.125), baseline_k=10.0)
    assert usable.tolist() == [used]


@pytest.mark.parametrize(
    ("result", "used"), [(265.0, True), (315.0, True), (264.9, False), (315.1, False), (NAN, False)]
)
def test_range_guard_at_its_edge(result: float, used: bool) -> None:
    low, high = scene_range(f4(280, NAN, 290), f4(285, 300, NAN))
    assert (low, high) == (280.0, 300.0)
    assert within_range(np.array([result]), low, high, Guards()).tolist() == [used]


def test_the_range_of_empty_scenes_admits_nothing() -> None:
    low, high = scene_range(f4(NAN), f4(NAN))
    assert within_range(f4(290), low, high, Guards()).tolist() == [False]


def test_a_gap_is_never_usable() -> None:
    usable = usable_pixels(f4(NAN, 280, 280), f4(290, NAN, 290), f4(1, 1, NAN), Guards(), baseline_k=10.0)
    assert not usable.any()


def test_the_baseline_compares_the_same_pixels() -> None:
    pre, post = f4(280, 280, 200), f4(283, 285, NAN)
    assert baseline_k(pre, post) == 4.0
    assert baseline_k(post, pre) == 4.0
    assert np.isnan(baseline_k(f4(NAN, 280), f4(280, NAN)))


def test_kelvin_guards_follow_the_quantity_and_ratios_do_not() -> None:
    scaled = Guards().scaled(REFLECTANCE)
    assert scaled.min_baseline_k == pytest.approx(0.02)
    assert scaled.range_margin_k == pytest.approx(0.15)
    assert scaled.max_abs_alpha == 5.0
    assert scaled.min_abs_one_plus_alpha == 0.1
    assert Guards().scaled(LST) == Guards()


@LAW
@given(st.lists(st.floats(0, 1e6), min_size=6, max_size=6))
def test_guards_survive_json(values: list[float]) -> None:
    guards = Guards(*values)
    assert Guards.from_json(guards.to_json()) == guards


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_alpha": 5.0}, r"unknown keys \['max_alpha'\]"),
        ({"max_abs_alpha": "5"}, "max_abs_alpha is '5', needed a number"),
        ({"max_abs_alpha": True}, "max_abs_alpha is True"),
        ({"min_baseline_k": -1.0}, "min_baseline_k is -1.0"),
        ({"min_baseline_k": NAN}, "min_baseline_k is nan"),
    ],
)
def test_guards_refuse(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Guards.from_json(Guards().to_json() | changes)


def test_a_missing_guard_is_named() -> None:
    values: dict[str, Any] = dict(Guards().to_json())
    del values["range_margin_k"]
    with pytest.raises(InvalidInput, match=r"missing keys \['range_margin_k'\]"):
        Guards.from_json(values)
