"""Closure: the exact correction closes, the weighted one never overshoots, gaps stay where they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import Array, IntArray
from thermoscale.errors import InvalidInput
from thermoscale.numerics.closure import closure_residual, closure_weight, correct_closure
from thermoscale.numerics.grids import area_mean, regular_index

LAW = settings(max_examples=25, deadline=None)
NAN = float("nan")
COARSE = (4, 5)
seeds = st.integers(0, 2**32 - 1)


def sheared_index(height: int, width: int) -> IntArray:
    """Parallelogram cells of 3.7 x 4.1 pixels, some pixels outside."""
    row, col = np.mgrid[:height, :width] + 0.5
    coarse_row, coarse_col = np.floor(row / 3.7), np.floor((col + 0.3 * row) / 4.1) - 1
    inside = (coarse_row < COARSE[0]) & (coarse_col >= 0) & (coarse_col < COARSE[1])
    return np.where(inside, coarse_row * COARSE[1] + coarse_col, -1).astype(np.int32)


INDEXES = {
    "whole factor": regular_index(COARSE, (12, 15)),
    "factor 3.4": regular_index(COARSE, (14, 17)),
    "sheared": sheared_index(16, 22),
}


def scene(seed: int, coarse_index: IntArray) -> tuple[Array, Array]:
    """A fine scene with gaps and a coarse scene that it does not close with."""
    rng = np.random.default_rng(seed)
    fine = (290 + 5 * rng.standard_normal(coarse_index.shape)).astype(np.float32)
    fine[rng.random(fine.shape) < 0.1] = NAN
    coarse = area_mean(fine, coarse_index, COARSE) + 2 * rng.standard_normal(COARSE).astype(np.float32)
    coarse[0, 0] = NAN
    return fine, coarse


@pytest.mark.parametrize("kind", INDEXES)
@LAW
@given(seed=seeds)
def test_the_residual_equals_its_slow_twin(kind: str, seed: int) -> None:
    coarse_index = INDEXES[kind]
    fine, coarse = scene(seed, coarse_index)
    slow = np.full(COARSE, NAN)
    for cell in range(coarse.size):
        mine = fine[coarse_index == cell].astype(np.float64)
        valid = mine[~np.isnan(mine)]
        if valid.size and valid.size >= 0.5 * mine.size:
            slow.flat[cell] = coarse.flat[cell] - valid.mean()
    np.testing.assert_allclose(closure_residual(fine, coarse, coarse_index), slow, atol=1e-4)


@pytest.mark.parametrize("kind", INDEXES)
@LAW
@given(seed=seeds)
def test_the_exact_correction_makes_the_residual_zero(kind: str, seed: int) -> None:
    coarse_index = INDEXES[kind]
    fine, coarse = scene(seed, coarse_index)
    before = closure_residual(fine, coarse, coarse_index)
    after = closure_residual(correct_closure(fine, coarse, coarse_index, sigma_k=None), coarse, coarse_index)
    np.testing.assert_allclose(after, np.where(np.isnan(before), NAN, 0.0), atol=2e-4)


@pytest.mark.parametrize("kind", INDEXES)
@LAW
@given(seed=seeds, sigma_k=st.floats(0, 5))
def test_the_weighted_correction_never_overshoots(kind: str, seed: int, sigma_k: float) -> None:
    coarse_index = INDEXES[kind]
    fine, coarse = scene(seed, coarse_index)
    before = closure_residual(fine, coarse, coarse_index)
    after = closure_residual(correct_closure(fine, coarse, coarse_index, sigma_k=sigma_k), coarse, coarse_index)
    weight = closure_weight(before, sigma_k)
    assert 0.0 <= weight <= 1.0
    np.testing.assert_allclose(after, (1.0 - weight) * before, atol=2e-4)


@LAW
@given(seed=seeds)
def test_gaps_stay_gaps_and_cells_without_residual_keep_their_pixels(seed: int) -> None:
    coarse_index = INDEXES["sheared"]
    fine, coarse = scene(seed, coarse_index)
    kept, kept_coarse = fine.copy(), coarse.copy()
    corrected = correct_closure(fine, coarse, coarse_index, sigma_k=None)
    np.testing.assert_array_equal(np.isnan(corrected), np.isnan(fine))
    untouched = np.isin(coarse_index, [-1, *np.flatnonzero(np.isnan(closure_residual(fine, coarse, coarse_index)))])
    np.testing.assert_array_equal(corrected[untouched], fine[untouched])
    np.testing.assert_array_equal(fine, kept)
    np.testing.assert_array_equal(coarse, kept_coarse)
    assert corrected.dtype == np.float32


def test_a_scene_that_closes_is_not_changed() -> None:
    coarse_index = INDEXES["factor 3.4"]
    fine, _ = scene(1, coarse_index)
    coarse = area_mean(fine, coarse_index, COARSE)
    corrected = correct_closure(fine, coarse, coarse_index, sigma_k=None)
    np.testing.assert_allclose(corrected, fine, atol=1e-4)


def test_a_residual_no_larger_than_the_noise_is_left_alone() -> None:
    residual = np.array([[1.0, -1.0], [1.0, -1.0]], np.float32)  # variance 1
    assert closure_weight(residual, 1.0) == 0.0
    assert closure_weight(residual, 2.0) == 0.0
    assert closure_weight(residual, 0.5) == pytest.approx(0.75)
    assert closure_weight(residual, 0.0) == 1.0
    assert closure_weight(residual, None) == 1.0


def test_without_any_residual_nothing_is_corrected() -> None:
    coarse_index = INDEXES["whole factor"]
    fine, coarse = scene(1, coarse_index)
    nothing = np.full_like(coarse, NAN)
    assert closure_weight(nothing, 1.0) == 0.0
    for sigma_k in (None, 1.0):
        np.testing.assert_array_equal(correct_closure(fine, nothing, coarse_index, sigma_k=sigma_k), fine)


@pytest.mark.parametrize("sigma_k", [-0.1, NAN, float("inf")])
def test_an_impossible_error_is_refused(sigma_k: float) -> None:
    with pytest.raises(InvalidInput, match="sigma_k is"):
        closure_weight(np.zeros((1, 2)), sigma_k)
