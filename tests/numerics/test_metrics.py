"""Scores: laws, naive loops, and what is refused."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.numerics import metrics
from thermoscale.numerics.grids import area_mean, regular_index

laws = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)
KEYS = [
    "rmse",
    "rmse_valid",
    "mae",
    "bias",
    "ubrmse",
    "cc",
    "ssim",
    "psnr",
    "psnr_range",
    "edge",
    "closure",
    "coverage",
    "spread_coverage",
    "crps",
]


def pair(seed: int, shape: tuple[int, int] = (12, 14), gaps: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """A prediction without gaps and a truth with some."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(295, 6, shape).astype(np.float32)
    prediction = (truth + rng.normal(0.3, 2, shape)).astype(np.float32)
    truth[rng.random(shape) < gaps] = np.nan
    truth[:2, :2] = [[290, 300], [301, 295]]
    return prediction, truth


def pixels(prediction: np.ndarray, truth: np.ndarray) -> list[tuple[float, float]]:
    flat = zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True)
    return [(p, t) for p, t in flat if not math.isnan(t)]


# --- laws


@laws
@given(seeds)
def test_a_perfect_prediction_has_perfect_scores(seed: int) -> None:
    _, truth = pair(seed, gaps=0)
    index = regular_index((3, 7), (12, 14))
    found = metrics.score(
        truth, truth, coarse=area_mean(truth, index, (3, 7)), coarse_index=index, spread=np.ones_like(truth)
    )
    assert list(found) == KEYS
    zero = {key: found[key] for key in ("rmse", "rmse_valid", "mae", "bias", "ubrmse", "edge")}
    assert set(zero.values()) == {0.0}
    assert found["closure"] < 1e-5
    np.testing.assert_allclose([found["cc"], found["ssim"], found["coverage"], found["spread_coverage"]], 1)
    assert found["psnr"] == math.inf


@laws
@given(seeds)
def test_squared_rmse_is_squared_bias_plus_squared_ubrmse(seed: int) -> None:
    found = metrics.score(*pair(seed))
    np.testing.assert_allclose(found["rmse"] ** 2, found["bias"] ** 2 + found["ubrmse"] ** 2)


@laws
@given(seeds, st.floats(-20, 20))
def test_a_constant_error_is_bias_and_nothing_else(seed: int, shift: float) -> None:
    _, truth = pair(seed)
    prediction = truth.astype(np.float64) + shift
    assert metrics.bias(prediction, truth) == pytest.approx(shift)
    assert metrics.ubrmse(prediction, truth) == pytest.approx(0, abs=1e-9)
    assert metrics.cc(prediction, truth) == pytest.approx(1)
    assert metrics.edge(prediction, truth) == pytest.approx(0, abs=1e-9)


@laws
@given(seeds)
def test_what_a_method_says_where_there_is_no_truth_does_not_matter(seed: int) -> None:
    prediction, truth = pair(seed)
    other = np.where(np.isnan(truth), np.float32(1e6), prediction)
    np.testing.assert_equal(metrics.score(other, truth), metrics.score(prediction, truth))


@laws
@given(seeds, st.floats(1, 1000))
def test_psnr_is_the_papers_formula(seed: int, peak: float) -> None:
    prediction, truth = pair(seed)
    expected = 20 * math.log10(peak / metrics.rmse(prediction, truth))
    assert metrics.psnr(prediction, truth, psnr_range=peak) == pytest.approx(expected)


def test_psnr_of_the_paper_has_a_peak_of_400_k() -> None:
    truth = np.full((3, 3), 300.0)
    assert metrics.psnr(truth + 4, truth) == pytest.approx(40)
    assert metrics.score(truth + 4, truth)["psnr_range"] == 400.0


@laws
@given(seeds)
def test_smoothing_gives_a_negative_edge_and_noise_a_positive_one(seed: int) -> None:
    prediction, truth = pair(seed, gaps=0)
    smooth = (truth + np.roll(truth, 1, 0) + np.roll(truth, 1, 1)) / 3
    assert metrics.edge(smooth, truth) < 0 < metrics.edge(truth + 3 * (prediction - truth), truth)


# --- naive twins


@laws
@given(seeds)
def test_pixel_scores_equal_a_loop(seed: int) -> None:
    prediction, truth = pair(seed)
    both = pixels(prediction, truth)
    n = len(both)
    errors = [p - t for p, t in both]
    mean_p, mean_t = sum(p for p, _ in both) / n, sum(t for _, t in both) / n
    cov = sum((p - mean_p) * (t - mean_t) for p, t in both)
    var_p, var_t = sum((p - mean_p) ** 2 for p, _ in both), sum((t - mean_t) ** 2 for _, t in both)
    found = metrics.score(prediction, truth)
    assert found["rmse"] == pytest.approx(math.sqrt(sum(e * e for e in errors) / n))
    assert found["mae"] == pytest.approx(sum(abs(e) for e in errors) / n)
    assert found["bias"] == pytest.approx(sum(errors) / n)
    assert found["cc"] == pytest.approx(cov / math.sqrt(var_p * var_t))


@laws
@given(seeds, st.sampled_from([0.0, 0.2, 0.5]))
def test_ssim_equals_a_loop_over_windows(seed: int, gaps: float) -> None:
    prediction, truth = pair(seed, gaps=gaps)
    valid = truth[~np.isnan(truth)]
    c1, c2 = (0.01 * float(np.ptp(valid))) ** 2, (0.03 * float(np.ptp(valid))) ** 2
    likeness = []
    for i in range(3, 9):
        for j in range(3, 11):
            window = slice(i - 3, i + 4), slice(j - 3, j + 4)
            ok = ~np.isnan(truth[window])
            if np.isnan(truth[i, j]) or ok.sum() < 24.5:
                continue
            a, b = prediction[window][ok].astype(float), truth[window][ok].astype(float)
            (var_a, cov), (_, var_b) = np.cov(a, b)
            above = (2 * a.mean() * b.mean() + c1) * (2 * cov + c2)
            likeness.append(above / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (var_a + var_b + c2)))
    expected = np.mean(likeness) if likeness else np.nan
    np.testing.assert_allclose(metrics.ssim(prediction, truth), expected, rtol=1e-7)


def test_ssim_is_that_of_skimage() -> None:
    """Number taken from scikit-image 0.26, structural_similarity(a, b, data_range=np.ptp(b))."""
    i, j = np.mgrid[:20, :24]
    truth = 300 + 5 * np.sin(i / 3.0) * np.cos(j / 4.0)
    prediction = truth + np.sin(i * j * 1.0)
    assert metrics.ssim(prediction, truth) == pytest.approx(0.9138218824452762, abs=1e-9)


@laws
@given(seeds)
def test_edge_equals_a_loop_over_blocks(seed: int) -> None:
    prediction, truth = pair(seed)
    sums = [0.0, 0.0]
    for i in range(11):
        for j in range(13):
            if not np.isnan(truth[i : i + 2, j : j + 2]).any():
                for k, image in enumerate((prediction.astype(float), truth.astype(float))):
                    sums[k] += abs(image[i, j] - image[i + 1, j + 1]) + abs(image[i, j + 1] - image[i + 1, j])
    assert metrics.edge(prediction, truth) == pytest.approx((sums[0] - sums[1]) / (sums[0] + sums[1]))


@laws
@given(seeds)
def test_closure_equals_a_loop_over_cells(seed: int) -> None:
    prediction, _ = pair(seed)
    coarse = np.random.default_rng(seed).normal(295, 5, (3, 7)).astype(np.float32)
    coarse[1, 1] = np.nan
    residuals = [
        float(coarse[i, j]) - prediction[4 * i : 4 * i + 4, 2 * j : 2 * j + 2].mean(dtype=float)
        for i, j in np.ndindex(3, 7)
        if (i, j) != (1, 1)
    ]
    found = metrics.closure(prediction, coarse, regular_index((3, 7), (12, 14)))
    assert found == pytest.approx(math.sqrt(np.mean(np.square(residuals))), rel=1e-5)


@laws
@given(seeds)
def test_crps_and_spread_coverage_equal_a_loop_with_the_standard_library(seed: int) -> None:
    prediction, truth = pair(seed)
    spread = np.random.default_rng(seed).uniform(0, 3, truth.shape).astype(np.float32)
    spread[0], spread[1, 0] = 0, np.nan
    scores, within, normal = [], [], NormalDist()
    for p, t, s in zip(prediction.ravel().tolist(), truth.ravel().tolist(), spread.ravel().tolist(), strict=True):
        if math.isnan(t) or math.isnan(s):
            continue
        within.append(abs(p - t) <= s)
        z = (t - p) / s if s else 0
        gaussian = s * (z * (2 * normal.cdf(z) - 1) + 2 * normal.pdf(z) - 1 / math.sqrt(math.pi))
        scores.append(gaussian if s else abs(p - t))
    assert metrics.crps_gaussian(prediction, spread, truth) == pytest.approx(np.mean(scores), abs=1e-5)
    assert metrics.spread_coverage(prediction, spread, truth) == pytest.approx(np.mean(within))


def test_an_honest_spread_covers_68_percent_and_has_the_least_crps() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(300, 5, (200, 200))
    prediction = truth + rng.normal(0, 2, truth.shape)
    crps = {s: metrics.crps_gaussian(prediction, np.full_like(truth, s), truth) for s in (1.0, 2.0, 4.0)}
    assert metrics.spread_coverage(prediction, np.full_like(truth, 2), truth) == pytest.approx(0.683, abs=0.01)
    assert min(crps, key=lambda s: crps[s]) == 2.0


# --- gaps


@laws
@given(seeds)
def test_refusing_pixels_is_scored_with_the_fallback_and_shown_as_coverage(seed: int) -> None:
    prediction, truth = pair(seed)
    refused = np.random.default_rng(seed).random(truth.shape) < 0.4
    fallback = truth + 5
    holed = np.where(refused, np.nan, prediction)
    found = metrics.score(holed, truth, fallback=fallback)
    assert found["rmse"] == metrics.rmse(np.where(refused, fallback, prediction), truth)
    assert found["coverage"] == pytest.approx((~refused & ~np.isnan(truth)).sum() / (~np.isnan(truth)).sum())
    assert found["rmse_valid"] == metrics.rmse(prediction, np.where(refused, np.nan, truth))


def test_a_method_that_answers_nothing_has_the_scores_of_the_fallback() -> None:
    prediction, truth = pair(5)
    found = metrics.score(np.full_like(truth, np.nan), truth, fallback=prediction, spread=np.full_like(truth, np.nan))
    assert found["rmse"] == metrics.rmse(prediction, truth)
    assert found["coverage"] == 0
    assert math.isnan(found["rmse_valid"])
    assert math.isnan(found["crps"])
    assert math.isnan(found["spread_coverage"])


def test_what_cannot_be_scored_is_nan() -> None:
    truth = np.full((3, 4), 300.0)
    truth[::2, ::2] = np.nan
    truth[1::2, 1::2] = np.nan
    found = metrics.score(np.full((3, 4), 301.0), truth)
    undefined = {key for key, value in found.items() if math.isnan(value)}
    assert undefined == {"cc", "ssim", "edge", "closure", "spread_coverage", "crps"}
    no_coarse = np.full((1, 1), np.nan)
    assert math.isnan(metrics.closure(truth, no_coarse, regular_index((1, 1), (3, 4))))


def test_flat_images_are_alike_and_equally_sharp() -> None:
    flat = np.full((9, 9), 300.0)
    assert metrics.ssim(flat, flat) == 1
    assert metrics.edge(flat, flat) == 0


def test_a_gap_that_nothing_fills_is_refused() -> None:
    prediction, truth = pair(2)
    prediction[0, 0] = np.nan
    with pytest.raises(InvalidInput, match="prediction has 1 gaps where the truth is valid"):
        metrics.score(prediction, truth)


def test_a_truth_without_valid_pixel_is_refused() -> None:
    with pytest.raises(InvalidInput, match="truth has no valid pixel"):
        metrics.score(np.ones((3, 3)), np.full((3, 3), np.nan))


def test_images_of_different_shape_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"prediction has shape \[3, 3\], truth \[3, 4\]"):
        metrics.score(np.ones((3, 3)), np.ones((3, 4)))
