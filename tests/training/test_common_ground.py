"""Pairs of one ground as a series of undated scenes."""

from dataclasses import replace

import numpy as np
import pytest

from thermoscale.errors import InvalidInput
from thermoscale.testing.worlds import make_pairs
from thermoscale_train.data.common_ground import common_grounds, undated_series


def test_all_scenes_of_a_series_show_the_same_ground() -> None:
    """The elevation of the pairs does not change with the date."""
    pairs = make_pairs(3, n_grounds=2)
    assert pairs.factors is not None
    heights = replace(pairs, fine=pairs.factors[:, 1] / 10.0 + 200.0)
    for ground in common_grounds(pairs, 6):
        series = undated_series(heights, ground)
        assert series.fine.shape[1:] == (ground.extent[0] * 4, ground.extent[1] * 4)
        np.testing.assert_array_equal(series.fine[0], series.fine[1])
        np.testing.assert_array_equal(series.fine[0], series.fine[2])


def test_coarse_and_fine_scenes_are_cut_alike() -> None:
    pairs = make_pairs(4, coarse_noise_k=0.0)
    series = undated_series(pairs, common_grounds(pairs, 6)[0])
    means = series.fine.reshape(3, series.coarse.shape[1], 4, series.coarse.shape[2], 4).mean(axis=(2, 4))
    np.testing.assert_allclose(series.coarse, means, atol=1e-3)


def test_each_scene_is_used_once_and_the_largest_common_ground_comes_first() -> None:
    pairs = make_pairs(5, n_grounds=2, scenes_per_ground=5)
    grounds = common_grounds(pairs, 4)
    used = [scene for ground in grounds for scene in ground.scenes]
    areas = [ground.extent[0] * ground.extent[1] for ground in grounds]
    assert len(grounds) == 2
    assert len(used) == len(set(used))
    assert areas == sorted(areas, reverse=True)
    assert common_grounds(pairs, 17) == []


def test_the_stand_ins_for_times_are_evenly_spaced() -> None:
    pairs = make_pairs(3, n_grounds=1)
    times = undated_series(pairs, common_grounds(pairs, 6)[0]).fine_time
    days = np.diff(np.array([time[:10] for time in times], "datetime64[D]").astype(int))
    assert days[0] == days[1]


def test_pairs_without_corners_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no corner"):
        common_grounds(replace(make_pairs(1), corner=None), 4)
