"""Homogeneous change regions: paint and mean undo each other; every sum equals its slow twin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.numerics.hcr import area_fractions, hcr_alpha, mean_per_hcr, paint_hcr

LAW = settings(max_examples=50, deadline=None)
NAN = float("nan")
N_HCR = 5
SHAPE = (6, 7)

labels_2d = arrays(np.int32, SHAPE, elements=st.integers(-1, N_HCR - 1))
kelvin_or_nan = arrays(np.float32, SHAPE, elements=st.floats(250, 340, width=32) | st.just(NAN))


@LAW
@given(labels_2d, arrays(np.float32, N_HCR, elements=st.floats(-5, 5, width=32) | st.just(NAN)))
def test_the_mean_of_painted_values_is_the_values(labels: Array, values: Array) -> None:
    present = np.isin(np.arange(N_HCR), labels)
    expected = np.where(present, values, np.float32(NAN))
    np.testing.assert_allclose(mean_per_hcr(paint_hcr(values, labels), labels, N_HCR), expected, rtol=1e-6)


@LAW
@given(labels_2d)
def test_unlabelled_pixels_are_painted_nan(labels: Array) -> None:
    painted = paint_hcr(np.arange(N_HCR), labels)
    assert painted.dtype == np.float32
    np.testing.assert_array_equal(painted, np.where(labels < 0, NAN, labels))


@LAW
@given(kelvin_or_nan, labels_2d)
def test_the_mean_per_hcr_equals_its_slow_twin(values: Array, labels: Array) -> None:
    slow = []
    for hcr in range(N_HCR):
        mine = [v for v, label in zip(values.ravel(), labels.ravel(), strict=True) if label == hcr and v == v]
        slow.append(np.mean(np.array(mine, dtype=np.float64)) if mine else NAN)
    np.testing.assert_allclose(mean_per_hcr(values, labels, N_HCR), slow, rtol=1e-6)


@LAW
@given(kelvin_or_nan, kelvin_or_nan, kelvin_or_nan, labels_2d)
def test_hcr_alpha_equals_its_slow_twin(pre: Array, target: Array, post: Array, labels: Array) -> None:
    sums, means = [], []
    for hcr in range(N_HCR):
        scenes = (scene[labels == hcr].astype(np.float64) for scene in (pre, target, post))
        pixels = [(p, t, q) for p, t, q in zip(*scenes, strict=True) if p == p and t == t and q == q]
        after, before = sum(q - t for _, t, q in pixels), sum(t - p for p, t, _ in pixels)
        ratios = [(q - t) / (t - p) for p, t, q in pixels if t != p]
        sums.append(after / before if before else NAN)
        means.append(sum(ratios) / len(ratios) if ratios else NAN)
    np.testing.assert_allclose(hcr_alpha(pre, target, post, labels, N_HCR), sums, rtol=1e-5, atol=1e-5)
    mean_of_ratios = hcr_alpha(pre, target, post, labels, N_HCR, "mean_of_ratios")
    np.testing.assert_allclose(mean_of_ratios, means, rtol=1e-5, atol=1e-5)


@LAW
@given(st.floats(-3, 3).filter(lambda a: abs(1 + a) > 0.2), labels_2d)
def test_both_definitions_agree_where_every_pixel_has_the_ratio(alpha: float, labels: Array) -> None:
    rng = np.random.default_rng(0)
    pre = rng.uniform(280, 290, SHAPE)
    target = pre + rng.uniform(2, 4, SHAPE)
    post = target + alpha * (target - pre)
    expected = np.where(np.isin(np.arange(N_HCR), labels), alpha, NAN)
    for got in (
        hcr_alpha(pre, target, post, labels, N_HCR, "ratio_of_sums"),
        hcr_alpha(pre, target, post, labels, N_HCR, "mean_of_ratios"),
    ):
        np.testing.assert_allclose(got, expected, atol=1e-4)


@LAW
@given(labels_2d, arrays(np.int32, SHAPE, elements=st.integers(-1, 3)))
def test_area_fractions_equal_their_slow_twin_and_sum_to_one(labels: Array, coarse_index: Array) -> None:
    slow = np.zeros((4, N_HCR))
    for hcr, cell in zip(labels.ravel(), coarse_index.ravel(), strict=True):
        if hcr >= 0 and cell >= 0:
            slow[cell, hcr] += 1
    labelled = slow.sum(axis=1)
    slow[labelled > 0] /= labelled[labelled > 0, np.newaxis]
    fractions = area_fractions(labels, coarse_index, 4, N_HCR)
    assert fractions.dtype == np.float32
    np.testing.assert_allclose(fractions, slow, rtol=1e-6)
    np.testing.assert_allclose(fractions.sum(axis=1), (labelled > 0).astype(float), rtol=1e-6)


def test_an_hcr_that_did_not_change_has_no_ratio() -> None:
    labels = np.zeros((1, 2), np.int32)
    pre, post = np.array([[280.0, 290.0]]), np.array([[281.0, 291.0]])
    assert np.isnan(hcr_alpha(pre, pre, post, labels, 1)).all()
    assert np.isnan(hcr_alpha(pre, pre, post, labels, 1, "mean_of_ratios")).all()


def test_a_pixel_missing_on_one_date_counts_on_none() -> None:
    labels = np.zeros((1, 2), np.int32)
    pre, target, post = np.array([[280.0, 200.0]]), np.array([[282.0, 220.0]]), np.array([[283.0, NAN]])
    np.testing.assert_array_equal(hcr_alpha(pre, target, post, labels, 1), [0.5])


def test_labels_beyond_the_last_hcr_are_refused() -> None:
    with pytest.raises(InvalidInput, match="labels range from 3 to 3, needed -1"):
        mean_per_hcr(np.zeros((1, 1)), np.array([[3]], np.int32), 3)
    with pytest.raises(InvalidInput, match="labels range from -2"):
        paint_hcr(np.zeros(3), np.array([[-2]], np.int32))
    with pytest.raises(InvalidInput, match="labels have type float64"):
        area_fractions(np.zeros((1, 1)), np.zeros((1, 1), np.int32), 1, 1)


def test_an_unknown_definition_is_refused() -> None:
    scene = np.zeros((1, 1))
    with pytest.raises(InvalidInput, match="definition is 'median'"):
        hcr_alpha(scene, scene, scene, np.zeros((1, 1), np.int32), 1, "median")  # type: ignore[arg-type]
