"""TsHARP and the random forest: laws on scenes whose detail is known."""

from dataclasses import replace

import numpy as np
import pytest

from thermoscale.arrays import FloatArray
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.numerics.closure import closure_residual
from thermoscale.numerics.grids import area_mean, regular_index
from thermoscale.numerics.metrics import rmse
from thermoscale.testing.worlds import make_pairs
from thermoscale_train.baselines import DOWNSCALING
from thermoscale_train.baselines.random_forest import Forest, features, fit_forest, window_mean
from thermoscale_train.baselines.tsharp import EXPONENT, RANGE, tsharp
from thermoscale_train.config import ForestSettings

INDEX = regular_index((8, 8), (32, 32))
SMALL = ForestSettings(trees=8, max_depth=10, min_leaf=3, max_features=0.5, windows_px=(3, 7), pixels_per_scene=800)


def ndvi_field(seed: int) -> FloatArray:
    return np.random.default_rng(seed).uniform(0.1, 0.9, (32, 32)).astype(np.float32)


def test_tsharp_recovers_a_scene_that_is_linear_in_vegetation_cover() -> None:
    blocks = np.random.default_rng(0).uniform(0.1, 0.9, (8, 8)).astype(np.float32)
    ndvi = blocks.repeat(4, axis=0).repeat(4, axis=1)  # NDVI does not vary inside a cell: cover of the mean is exact
    low, high = np.quantile(ndvi, RANGE)
    cover = 1 - ((high - np.clip(ndvi, low, high)) / (high - low)) ** EXPONENT
    truth = (310 - 12 * cover).astype(np.float32)
    np.testing.assert_allclose(tsharp(area_mean(truth, INDEX, (8, 8)), ndvi, INDEX), truth, atol=1e-3)


def test_tsharp_puts_the_cool_pixels_where_vegetation_is_dense() -> None:
    ndvi = ndvi_field(1)
    truth = (310 - 12 * ndvi).astype(np.float32)
    coarse = area_mean(truth, INDEX, (8, 8))
    error = rmse(tsharp(coarse, ndvi, INDEX), truth)
    assert error < 0.5 * rmse(DOWNSCALING["bilinear"](coarse, None, INDEX), truth)


def test_tsharp_without_ndvi_somewhere_gives_interpolation_there() -> None:
    ndvi = ndvi_field(2)
    coarse = area_mean(310 - 12 * ndvi, INDEX, (8, 8))
    ndvi[:4, :4] = np.nan
    answer = tsharp(coarse, ndvi, INDEX)
    np.testing.assert_allclose(answer[:4, :4], DOWNSCALING["bilinear"](coarse, None, INDEX)[:4, :4], rtol=1e-6)
    assert np.isfinite(answer).all()


@pytest.mark.parametrize("ndvi", [np.full((32, 32), 0.4), np.full((32, 32), np.nan)], ids=["the same", "missing"])
def test_tsharp_says_when_ndvi_tells_nothing(ndvi: np.ndarray) -> None:
    with pytest.raises(Undetermined, match="tsharp"):
        tsharp(np.full((8, 8), 300, np.float32), ndvi.astype(np.float32), INDEX)


def test_a_window_mean_is_the_mean_of_the_valid_pixels() -> None:
    image = np.random.default_rng(3).normal(0, 1, (9, 11)).astype(np.float32)
    image[2:5, 3:6] = np.nan
    slow = np.full(image.shape, np.nan)
    for row in range(9):
        for col in range(11):
            square = image[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2]
            if np.isfinite(square).any():
                slow[row, col] = np.nanmean(square)
    np.testing.assert_allclose(window_mean(image, 3), slow, atol=1e-5)


@pytest.fixture(scope="module")
def forest() -> Forest:
    return fit_forest(make_pairs(5, n_grounds=2), SMALL, seed=0)


def test_a_forest_that_knows_the_factors_beats_interpolation_on_other_ground(forest: Forest) -> None:
    other = make_pairs(6, n_grounds=1, scenes_per_ground=2)
    index = regular_index((16, 16), other.fine_shape)
    assert other.fine is not None
    assert other.factors is not None
    for coarse, fine, factors in zip(other.coarse, other.fine, other.factors, strict=True):
        by_bicubic = rmse(DOWNSCALING["bicubic"](coarse, None, index), fine)
        assert rmse(forest.predict(coarse, factors, index), fine) < 0.8 * by_bicubic


def test_the_residual_brings_the_cell_means_nearer_to_the_coarse_image(forest: Forest) -> None:
    other = make_pairs(7, n_grounds=1, scenes_per_ground=1)
    assert other.factors is not None
    index = regular_index((16, 16), other.fine_shape)
    given = other.coarse[0], other.factors[0], index
    plain, with_residual = (
        np.nanstd(closure_residual(answer, other.coarse[0], index))
        for answer in (forest.predict(*given), forest.predict_with_residual(*given))
    )
    assert with_residual < plain


def test_gaps_of_a_factor_are_answered_and_gaps_of_lst_are_not(forest: Forest) -> None:
    other = make_pairs(8, n_grounds=1, scenes_per_ground=1, factor_gap_share=0.3)
    assert other.factors is not None
    assert np.isnan(other.factors).any()
    coarse = other.coarse[0].copy()
    coarse[3, 4] = np.nan
    index = regular_index((16, 16), other.fine_shape)
    answer = forest.predict(coarse, other.factors[0], index)
    np.testing.assert_array_equal(np.isnan(answer), index == 3 * 16 + 4)


def test_a_forest_is_the_same_for_the_same_seed(forest: Forest) -> None:
    again = fit_forest(make_pairs(5, n_grounds=2), SMALL, seed=0)
    scene = make_pairs(9, n_grounds=1, scenes_per_ground=1)
    assert scene.factors is not None
    index = regular_index((16, 16), scene.fine_shape)
    given = scene.coarse[0], scene.factors[0], index
    np.testing.assert_array_equal(forest.predict(*given), again.predict(*given))


def test_the_pixel_alone_has_the_interpolated_lst_and_its_factors_for_features() -> None:
    scene = make_pairs(9, n_grounds=1, scenes_per_ground=1)
    assert scene.factors is not None
    index = regular_index((16, 16), scene.fine_shape)
    inputs, bicubic = features(scene.coarse[0], scene.factors[0], index, ())
    np.testing.assert_array_equal(inputs, np.stack([bicubic, *scene.factors[0]], axis=-1))


def test_nothing_to_learn_from_is_refused() -> None:
    pairs = make_pairs(5, n_grounds=1, scenes_per_ground=1)
    with pytest.raises(InvalidInput, match="no fine scenes"):
        fit_forest(replace(pairs, fine=None), SMALL, seed=0)
    with pytest.raises(InvalidInput, match="no pixel"):
        fit_forest(replace(pairs, coarse=np.full_like(pairs.coarse, np.nan)), SMALL, seed=0)


def test_a_window_with_an_even_side_is_refused() -> None:
    with pytest.raises(InvalidInput, match="odd"):
        replace(SMALL, windows_px=(4,))
