"""The noise study: laws of its worlds and of the noise it adds, then its table."""

import json
from typing import Any

import numpy as np
import pytest

from thermoscale.numerics.grids import area_mean
from thermoscale.testing.worlds import make_series
from thermoscale_train.config import IustfmSettings
from thermoscale_train.fit import fit_iustfm
from thermoscale_train.noise_study import (
    RIVALS,
    StudySettings,
    _Place,
    _targets,
    make_world,
    noise_study,
    table,
)

TINY = StudySettings(seeds=(0,), coarse_noise_k=(0.5,), snr=(1e6, 5.0), n_targets=1, side_px=40, n_dates=24)


@pytest.fixture(scope="module")
def place(iustfm_settings: IustfmSettings) -> _Place:
    world = make_world(TINY, 0, 0.5)
    time = _targets(world.series, 1)[0]
    truth = world.truth[world.series.coarse_time.index(time)]
    return _Place(world.series, fit_iustfm(world.series, iustfm_settings, seed=0), time, truth)


@pytest.fixture(scope="module")
def found(iustfm_settings: IustfmSettings) -> dict[str, Any]:
    return noise_study(TINY, settings=iustfm_settings)


def test_the_mean_of_radiance_is_warmer_than_the_mean_of_temperature_by_what_methods_say() -> None:
    """1.5 * variance / T inside a cell (METHODS 3)."""
    mixed = make_world(TINY, 0, 0.0)
    plain = make_series(0, fine_shape=(40, 40), n_dates=24, smooth_change_k=0.0, coarse_noise_k=0.0)
    index, shape = mixed.series.coarse_index, (4, 4)
    truth = mixed.truth.astype(np.float64)
    mean = area_mean(truth, index, shape)
    variance = area_mean((truth - mean.repeat(10, axis=1).repeat(10, axis=2)) ** 2, index, shape)
    np.testing.assert_allclose(mixed.series.coarse - plain.series.coarse, 1.5 * variance / mean, rtol=0.03, atol=5e-3)


def test_targets_have_no_fine_scene_and_lie_inside_the_library() -> None:
    series = make_world(TINY, 0, 0.5).series
    targets = _targets(series, 3)
    assert len(targets) == 3
    assert not set(targets) & set(series.fine_time)
    assert min(series.fine_time) < min(targets)
    assert max(targets) < max(series.fine_time)


def test_the_noise_has_the_snr_that_was_asked_for(place: _Place) -> None:
    clean = place.noisy("true", None, np.random.default_rng(0))
    draws = [place.noisy("true", 10.0, np.random.default_rng(seed)) - clean for seed in range(200)]
    power = np.nanmean(np.stack(draws) ** 2, axis=0).mean(axis=1)
    np.testing.assert_allclose(np.nanvar(clean, axis=1) / power, 10.0, rtol=0.35)


def test_true_ratios_without_noise_leave_little_error_where_classes_change_as_one(place: _Place) -> None:
    alpha = place.noisy("true", None, np.random.default_rng(0))
    assert place.error(place.assembled(alpha, "closed_form")) < 0.6


def test_more_noise_costs_more_and_hardly_any_noise_costs_nothing(found: dict[str, Any]) -> None:
    rows = {(row["ratios"], row["snr"], row["method"]): row["rmse"] for row in found["rows"]}
    assert rows["true", 5.0, "closed_form"] > rows["true", None, "closed_form"]
    for mode in ("closed_form", "rationet"):
        assert rows["true", 1e6, mode] == pytest.approx(rows["true", None, mode], rel=0.02)


def test_every_way_to_answer_is_reported_with_its_worlds(found: dict[str, Any]) -> None:
    json.dumps(found, allow_nan=False)
    assert {row["method"] for row in found["rows"]} == {"closed_form", "rationet", *RIVALS}
    for row in found["rows"]:
        assert row["rmse"] == pytest.approx(np.mean(row["by_seed"]))
    assert len(found["dynet_snr"]) == 1
    text = table(found)
    assert all(name in text for name in ("estarfm", "dynet", "1e+06"))
