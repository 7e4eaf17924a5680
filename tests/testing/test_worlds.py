"""The synthetic worlds hold what their docstrings promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.testing.fields import block_mean, cloud_map, smooth_field
from thermoscale.testing.worlds import make_pairs, make_series, make_yearly

QUIET = {"coarse_noise_k": 0.0, "fine_noise_k": 0.0}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_world(seed: int) -> None:
    first, again = (make_series(seed, fine_shape=(24, 24), scale_factor=6, n_dates=6) for _ in range(2))
    for name, array in first.series.to_arrays().items():
        np.testing.assert_array_equal(array, again.series.to_arrays()[name])
    np.testing.assert_array_equal(first.truth, again.truth)


def test_another_seed_gives_another_world() -> None:
    assert not np.array_equal(make_pairs(1).fine, make_pairs(2).fine)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_without_noise_the_sensors_see_the_truth(seed: int) -> None:
    world = make_series(seed, fine_shape=(24, 24), scale_factor=6, n_dates=6, **QUIET)
    np.testing.assert_allclose(world.series.coarse, block_mean(world.truth, 6), atol=1e-4)
    for time in world.series.fine_time:
        date = world.series.coarse_time.index(time)
        np.testing.assert_array_equal(world.series.fine_at(time), world.truth[date])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_in_a_class_wise_world_every_class_changes_as_one(seed: int) -> None:
    world = make_series(seed, fine_shape=(24, 24), scale_factor=6, n_dates=6, smooth_change_k=0.0)
    change = world.truth[4] - world.truth[1]
    for label in np.unique(world.land_cover):
        assert np.ptp(change[world.land_cover == label]) < 1e-3


def test_the_weather_of_classes_moves_every_class_by_itself_and_changes_nothing_else() -> None:
    still = make_series(4, fine_shape=(24, 24), scale_factor=6, n_dates=6, smooth_change_k=0.0, **QUIET)
    moved = make_series(
        4, fine_shape=(24, 24), scale_factor=6, n_dates=6, smooth_change_k=0.0, class_weather_k=2.0, **QUIET
    )
    added = moved.truth - still.truth
    for label in np.unique(still.land_cover):
        assert np.ptp(added[:, still.land_cover == label], axis=1).max() < 1e-3
    assert np.ptp(added[2]) > 0.5


def test_yearly_scenes_have_exact_cell_means_for_coarse_partners_and_hardly_another_mean() -> None:
    series = make_yearly(2, n_years=5, coarse_shape=(8, 8))
    assert series.fine.shape == (5, 88, 88)
    np.testing.assert_array_equal(series.coarse, block_mean(series.fine, 11))
    assert np.ptp(series.fine.mean(axis=(1, 2))) < 2 * series.fine[0].std()
    np.testing.assert_array_equal(series.fine, make_yearly(2, n_years=5, coarse_shape=(8, 8)).fine)


def test_in_a_world_without_class_change_only_a_smooth_field_changes() -> None:
    world = make_series(3, class_change=False, smooth_change_k=0.0)
    assert np.ptp(world.truth[4] - world.truth[1]) < 1e-3


def test_noise_has_the_size_asked_for() -> None:
    world = make_series(5, coarse_noise_k=1.0, fine_noise_k=0.5)
    fine_error = world.series.fine - world.truth[1::3]
    coarse_error = world.series.coarse - block_mean(world.truth, 10)
    assert np.std(fine_error) == pytest.approx(0.5, rel=0.05)
    assert np.std(coarse_error) == pytest.approx(1.0, rel=0.05)
    assert world.series.coarse_error is not None
    np.testing.assert_array_equal(world.series.coarse_error, 1.0)


def test_clouds_are_nan_for_both_sensors_and_never_in_the_truth() -> None:
    world = make_series(7, cloud_share=0.3)
    assert 0.1 < np.isnan(world.series.fine).mean() < 0.5
    assert 0.1 < np.isnan(world.series.coarse).mean() < 0.5
    assert np.isfinite(world.truth).all()


def test_misregistration_moves_the_coarse_scene_only() -> None:
    still, moved = make_series(9, **QUIET), make_series(9, shift_px=(3, -2), **QUIET)
    np.testing.assert_array_equal(still.series.fine, moved.series.fine)
    seen = np.roll(still.truth, (-3, 2), axis=(1, 2))
    inner = np.s_[:, 1:-1, 1:-1]
    np.testing.assert_allclose(moved.series.coarse[inner], block_mean(seen, 10)[inner], atol=1e-3)


def test_a_world_lies_on_the_ground_with_one_corner_for_both_grids() -> None:
    series = make_series(1).series
    fine, coarse = series.fine_georeference, series.coarse_georeference
    assert fine is not None
    assert coarse is not None
    assert (fine.crs, fine.transform[2], fine.transform[5]) == (coarse.crs, coarse.transform[2], coarse.transform[5])
    assert coarse.transform[0] == 10 * fine.transform[0]


def test_the_fine_detail_of_pairs_follows_from_the_factors() -> None:
    pairs = make_pairs(11)
    assert pairs.fine is not None
    assert pairs.factors is not None
    assert pairs.factor_names == ("ndvi", "elevation")
    for fine, (ndvi, elevation) in zip(pairs.fine, pairs.factors, strict=True):
        columns = np.stack([ndvi.ravel(), elevation.ravel(), np.ones(ndvi.size)], axis=1)
        left = fine.ravel() - columns @ np.linalg.lstsq(columns, fine.ravel(), rcond=None)[0]
        assert left.std() < 0.5 * fine.std()


def test_scenes_of_one_ground_overlap_and_grounds_do_not() -> None:
    pairs = make_pairs(13)
    assert pairs.corner is not None
    assert pairs.group is not None
    for a, ground_a in zip(pairs.corner, pairs.group, strict=True):
        for b, ground_b in zip(pairs.corner, pairs.group, strict=True):
            assert bool((abs(a - b) < 16).all()) == (ground_a == ground_b)


def test_a_clear_sky_has_no_clouds_and_gaps_come_only_when_asked_for() -> None:
    assert not cloud_map(np.random.default_rng(0), (20, 20), 0.0, 3.0).any()
    gappy = make_pairs(15, factor_gap_share=0.2).factors
    assert gappy is not None
    assert 0.1 < np.isnan(gappy[:, 0]).mean() < 0.3
    assert np.isfinite(gappy[:, 1]).all()


def test_a_smooth_field_has_mean_zero_and_variance_one() -> None:
    field = smooth_field(np.random.default_rng(1), (50, 40), 4.0)
    assert field.shape == (50, 40)
    assert field.mean() == pytest.approx(0.0, abs=1e-9)
    assert field.std() == pytest.approx(1.0)
