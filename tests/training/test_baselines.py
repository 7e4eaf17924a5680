"""Baselines: laws on worlds where the answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import FloatArray
from thermoscale.formats import Series
from thermoscale.numerics.grids import area_mean, regular_index
from thermoscale.testing.worlds import World, make_series
from thermoscale_train.baselines import DOWNSCALING, FUSION
from thermoscale_train.baselines.fdc import fdc_from
from thermoscale_train.baselines.oracle_alpha import oracle_alpha
from thermoscale_train.baselines.persistence import nearest_fine_time

INDEX = regular_index((6, 5), (24, 20))


def world(**options: object) -> World:
    quiet = {"fine_shape": (24, 24), "scale_factor": 6, "n_dates": 9, "coarse_noise_k": 0.0, "fine_noise_k": 0.0}
    return make_series(4, **{**quiet, **options})  # type: ignore[arg-type]


def answer(method: str, of: Series, date: int = 1) -> FloatArray:
    time = of.fine_time[date]
    return FUSION[method](of.without(time), of.coarse_at(time), time)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(DOWNSCALING)), st.floats(200, 350))
def test_a_flat_coarse_image_stays_flat(method: str, value: float) -> None:
    coarse = np.full((6, 5), value, np.float32)
    np.testing.assert_allclose(DOWNSCALING[method](coarse, None, INDEX), np.float32(value), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_closure_steps_bring_the_cell_means_to_the_coarse_image(seed: int) -> None:
    coarse = np.random.default_rng(seed).normal(300, 5, (6, 5)).astype(np.float32)

    def off(method: str) -> float:
        return float(np.abs(area_mean(DOWNSCALING[method](coarse, None, INDEX), INDEX, (6, 5)) - coarse).mean())

    assert off("bicubic_closed") < 0.2 * off("bicubic")


@pytest.mark.parametrize("method", sorted(FUSION))
def test_in_a_world_that_stands_still_no_library_method_errs(method: str) -> None:
    still = world(class_change=False, smooth_change_k=0.0, weather_k=0.0, n_dates=12).series
    library_methods = {"persistence", "time_interp", "fdc_nearest", "fdc_median", "fdc_median_residual"}
    two_sided = {"starfm", "estarfm", "fitfc", "ustfm"}
    for date in range(1, 3) if method in two_sided else range(4):
        frozen = answer(method, still, date)
        anomaly = still.fine[date] - still.fine[date].mean()
        if method in library_methods:
            assert np.std(frozen - frozen.mean() - anomaly) < 1e-3


@pytest.mark.parametrize("method", ["fdc_nearest", "fdc_median", "fdc_median_residual"])
def test_a_change_of_the_whole_scene_is_seen_by_f_plus_delta_c(method: str) -> None:
    warmed = world(class_change=False, smooth_change_k=0.0, weather_k=5.0).series
    np.testing.assert_allclose(answer(method, warmed), warmed.fine[1], atol=1e-2)


def test_persistence_takes_the_nearest_date_and_of_two_as_near_the_earlier() -> None:
    series = Series.from_arrays(
        {
            "coarse": np.full((4, 2, 2), 300.0),
            "coarse_time": ["2020-01-01", "2020-01-03", "2020-01-05", "2020-01-20"],
            "fine": np.arange(290.0, 293.0)[:, None, None] + np.zeros((3, 4, 4)),
            "fine_time": ["2020-01-01", "2020-01-05", "2020-01-20"],
        }
    )
    assert nearest_fine_time(series, "2020-01-03T12:00Z") == "2020-01-01T12:00Z"
    assert nearest_fine_time(series, "2020-01-14T12:00Z") == "2020-01-20T12:00Z"
    between = FUSION["time_interp"](series, series.coarse[1], "2020-01-04T12:00Z")
    np.testing.assert_allclose(between, 290.75)
    np.testing.assert_allclose(FUSION["time_interp"](series, series.coarse[1], "2020-02-01T12:00Z"), 292.0)


def test_a_gap_in_one_neighbour_is_filled_by_the_other_in_time_interp_only() -> None:
    series = world().series
    series.fine[0, 3, 3] = np.nan
    assert np.isfinite(answer("time_interp", series)[3, 3])
    assert np.isnan(fdc_from(series, series.coarse[0], series.fine_time[0])[3, 3])


@pytest.mark.parametrize("method", sorted(FUSION))
def test_inputs_stay_as_they_were(method: str) -> None:
    series = world(cloud_share=0.2).series
    before = {name: array.copy() for name, array in series.to_arrays().items()}
    answer(method, series)
    for name, array in series.to_arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_true_ratios_are_exact_where_classes_change_as_one() -> None:
    made = world(smooth_change_k=0.0)
    time = made.series.fine_time[1]
    oracle = oracle_alpha(made.series.without(time), made.series.fine[1], time, made.land_cover)
    answered = np.isfinite(oracle)
    assert answered.mean() > 0.5
    np.testing.assert_allclose(oracle[answered], made.series.fine[1][answered], atol=0.02)


def test_without_a_usable_triple_the_oracle_is_silent() -> None:
    made = world()
    first = made.series.fine_time[0]
    assert np.isnan(oracle_alpha(made.series.without(first), made.series.fine[0], first, made.land_cover)).all()
