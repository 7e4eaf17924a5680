"""Channel statistics: laws, a twin by the standard library, refusals."""

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.numerics.normalize import ChannelStats, destandardize, fit_channel_stats, standardize

laws = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def channels(seed: int, gaps: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal([[[290.0]], [[0.4]], [[1500.0]]], [[[9.0]], [[0.2]], [[600.0]]], (3, 6, 7))
    values[rng.random(values.shape) < gaps] = np.nan
    values[:, 0, :2] = 1, 2
    return values.astype(np.float32)


@laws
@given(seeds)
def test_destandardize_undoes_standardize(seed: int) -> None:
    values = channels(seed)
    before = values.copy()
    stats = fit_channel_stats(values)
    back = destandardize(standardize(values, stats), stats)
    np.testing.assert_allclose(back, values, rtol=1e-5, atol=1e-3)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(values, before)


@laws
@given(seeds)
def test_statistics_equal_those_of_the_standard_library(seed: int) -> None:
    values = channels(seed)
    stats = fit_channel_stats(values)
    for channel, offset, scale in zip(values, stats.offset, stats.scale, strict=True):
        valid = [float(value) for value in channel.ravel() if not np.isnan(value)]
        low, middle, high = statistics.quantiles(valid, n=4, method="inclusive")
        np.testing.assert_allclose([offset, scale], [middle, (high - low) / 1.349], rtol=1e-5)


@laws
@given(seeds)
def test_standardized_channels_have_median_0_and_the_quartiles_of_a_normal_distribution(seed: int) -> None:
    values = channels(seed)
    standardized = standardize(values, fit_channel_stats(values))
    low, middle, high = np.nanpercentile(standardized, [25, 50, 75], axis=(1, 2))
    np.testing.assert_allclose(middle, 0, atol=1e-4)
    np.testing.assert_allclose(high - low, 1.349, rtol=1e-3)


@laws
@given(seeds)
def test_gaps_stay_where_they_are_and_move_no_statistic(seed: int) -> None:
    values = channels(seed, gaps=0)
    holed = np.concatenate([values, np.full_like(values, np.nan)], axis=1)
    whole, found = fit_channel_stats(values), fit_channel_stats(holed)
    np.testing.assert_array_equal(found.offset, whole.offset)
    np.testing.assert_array_equal(found.scale, whole.scale)
    np.testing.assert_array_equal(np.isnan(standardize(holed, found)), np.isnan(holed))


def test_a_few_wild_values_hardly_move_the_statistics() -> None:
    values = np.random.default_rng(0).normal(290, 5, (1, 1000)).astype(np.float32)
    values[0, :10] = -3.4e38
    stats = fit_channel_stats(values)
    np.testing.assert_allclose([stats.offset[0], stats.scale[0]], [290, 5], atol=0.5)


def test_a_channel_without_spread_gets_scale_1() -> None:
    stats = fit_channel_stats(np.full((1, 4), 7, np.float32))
    assert (stats.offset.tolist(), stats.scale.tolist()) == ([7.0], [1.0])


def test_a_channel_without_valid_values_is_refused_by_number() -> None:
    values = np.ones((3, 2, 2), np.float32)
    values[1] = np.nan
    with pytest.raises(InvalidInput, match="channel 1 has no valid value"):
        fit_channel_stats(values)


def test_statistics_for_another_number_of_channels_are_refused() -> None:
    stats = fit_channel_stats(np.ones((2, 5), np.float32))
    for apply in (standardize, destandardize):
        with pytest.raises(InvalidInput, match=r"shape \[3, 5\], needed 2 channels first"):
            apply(np.ones((3, 5), np.float32), stats)


@pytest.mark.parametrize(
    ("offset", "scale", "message"),
    [
        ([0, 1], [1], "offset has shape"),
        ([0], [0], "positive scales"),
        ([0], [-1], "positive scales"),
        ([np.nan], [1], "finite offsets"),
        ([0], [np.inf], "finite offsets"),
    ],
)
def test_statistics_that_cannot_standardize_are_refused(offset: list, scale: list, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ChannelStats(np.array(offset, np.float32), np.array(scale, np.float32))
