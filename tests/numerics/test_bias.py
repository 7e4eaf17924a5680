"""Offset and scale of the coarse sensor against the fine one."""

from itertools import combinations
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import LST, REFLECTANCE
from thermoscale.errors import Undetermined
from thermoscale.geo.datasets import read_series
from thermoscale.geo.rasters import read_raster
from thermoscale.numerics.bias import Bias, BiasRule, apply_bias, carry_over, contradicts, fit_bias
from thermoscale.numerics.grids import area_mean, regular_index

RULE = BiasRule()
SHAPE = (12, 15)


def scene(seed: int, sd: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(300.0, sd, SHAPE).astype(np.float32)


def bias(offset: float, scale: float = 1.0) -> Bias:
    return Bias(offset, scale, np.nan, 0.9, 3.0, 100, 0.5)


def slow_scale(seen: list[float], made: list[float], excess: float) -> float:
    """Frisch's bounds from every pair of cells, written out."""
    forward, backward = [], []
    for i, j in combinations(range(len(seen)), 2):
        run, rise = seen[j] - seen[i], made[j] - made[i]
        if run != 0:
            forward.append(rise / run)
        if rise != 0:
            backward.append(run / rise)
    low, high = median(forward), 1 / median(backward)
    if low > 1 + excess:
        return low
    return high if high < 1 - excess else 1.0


@given(st.integers(0, 999), st.floats(-8, 8), st.sampled_from([0.6, 1.0, 1.7]))
@settings(deadline=None, max_examples=25)
def test_applying_the_fitted_bias_gives_back_the_fine_means_of_a_linear_pair(seed, offset, scale):
    coarse = scene(seed)
    fine = (300.0 + scale * (coarse.astype(np.float64) - 300.0) + offset).astype(np.float32)
    fitted = fit_bias(coarse, fine, RULE)
    assert fitted.scale == pytest.approx(scale, abs=2e-3)
    np.testing.assert_allclose(apply_bias(coarse, fitted), fine, atol=0.02)


@given(st.integers(0, 999), st.floats(-8, 8))
@settings(deadline=None, max_examples=25)
def test_an_offset_added_to_the_coarse_image_is_the_offset_found_less(seed, added):
    coarse, fine = scene(seed), scene(seed) + scene(seed + 1, 0.5) - 300
    before, after = fit_bias(coarse, fine, RULE), fit_bias(coarse + np.float32(added), fine, RULE)
    assert after.offset_k == pytest.approx(before.offset_k - added, abs=1e-3)
    assert (after.scale, after.n_cells) == (pytest.approx(before.scale, abs=1e-3), before.n_cells)


@given(st.integers(0, 999))
@settings(deadline=None, max_examples=25)
def test_clouds_on_a_third_of_the_cells_hardly_move_the_offset(seed):
    rng = np.random.default_rng(seed)
    coarse = scene(seed)
    fine = coarse + 2.0 + rng.normal(0, 0.5, SHAPE).astype(np.float32)
    clouded = np.where(rng.random(SHAPE) < 0.33, fine - 30.0, fine)
    assert fit_bias(coarse, clouded, RULE).offset_k == pytest.approx(2.0, abs=0.6)
    missing = np.where(rng.random(SHAPE) < 0.33, np.nan, fine).astype(np.float32)
    assert fit_bias(coarse, missing, RULE).offset_k == pytest.approx(2.0, abs=0.3)


@given(st.integers(0, 999), st.floats(0.4, 2.5), st.floats(0.0, 1.0))
@settings(deadline=None, max_examples=15)
def test_the_scale_is_that_of_every_pair_of_cells_written_out(seed, scale, noise):
    rng = np.random.default_rng(seed)
    coarse = rng.normal(300, 3, (6, 8)).astype(np.float32)
    fine = (300 + scale * (coarse - 300) + rng.normal(0, noise, coarse.shape)).astype(np.float32)
    fitted = fit_bias(coarse, fine, RULE)
    if fitted.correlation >= RULE.min_correlation:
        slow = slow_scale(coarse.ravel().tolist(), fine.ravel().tolist(), RULE.min_scale_excess)
        assert fitted.scale == pytest.approx(slow, rel=1e-6)


@pytest.mark.parametrize("noisy", ["coarse", "fine"])
def test_noise_in_one_image_is_not_taken_for_a_scale(noisy):
    """A regression of fine on coarse would say 0.8 or less."""
    truth, noise = scene(1), scene(2, 1.5) - 300
    pair = {"coarse": truth, "fine": truth.copy()}
    pair[noisy] = truth + noise
    assert fit_bias(pair["coarse"], pair["fine"], RULE).scale == 1.0


def test_inputs_are_not_modified_and_nan_stays_where_it_was():
    coarse = scene(3)
    coarse[2, 3] = np.nan
    kept = coarse.copy()
    moved = apply_bias(coarse, bias(1.5, 1.2))
    np.testing.assert_array_equal(coarse, kept)
    np.testing.assert_array_equal(np.isnan(moved), np.isnan(coarse))
    assert moved.dtype == np.float32
    assert float(np.nanmedian(moved)) == pytest.approx(float(np.nanmedian(coarse)) + 1.5, abs=1e-3)
    assert np.isnan(apply_bias(np.full(SHAPE, np.nan, np.float32), bias(1.5, 1.2))).all()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9))
def test_the_bias_carried_over_is_the_median_whatever_the_order_of_the_dates(offsets):
    carried = carry_over([bias(offset) for offset in offsets])
    assert carried.bias.offset_k == pytest.approx(median(offsets))
    assert carried.n_dates == len(offsets)
    assert carry_over([bias(offset) for offset in reversed(offsets)]).bias.offset_k == carried.bias.offset_k
    assert np.isnan(carried.spread_k) == (len(offsets) == 1)


def test_dates_that_agree_have_no_spread_and_dates_without_an_offset_do_not_count():
    carried = carry_over([bias(1.0, 1.2), bias(1.0, 1.4), bias(np.nan)])
    assert (carried.bias.offset_k, carried.spread_k, carried.n_dates) == (1.0, 0.0, 2)
    assert carried.bias.scale == pytest.approx(1.3)
    assert carry_over([bias(-1.0), bias(3.0)]).spread_k == pytest.approx(np.sqrt(8))


def test_images_that_did_not_see_the_same_thing_contradict_each_other():
    assert contradicts(fit_bias(scene(1), scene(2), RULE), RULE)
    assert contradicts(fit_bias(np.full(SHAPE, 300, np.float32), scene(2), RULE), RULE)
    assert not contradicts(fit_bias(scene(1), scene(1), RULE), RULE)


def test_uniform_ground_and_few_cells_prove_nothing():
    assert not contradicts(fit_bias(scene(1), scene(2, 0.5), RULE), RULE)
    assert not contradicts(fit_bias(np.full(SHAPE, 300, np.float32), np.full(SHAPE, 301, np.float32), RULE), RULE)
    few = np.full(SHAPE, np.nan, np.float32)
    few[0, :7] = scene(3)[0, :7]
    fitted = fit_bias(few, scene(2), RULE)
    assert not contradicts(fitted, RULE)
    assert fitted.n_cells == 7
    assert np.isnan(fitted.offset_k)


def test_the_rule_is_in_kelvin_until_it_is_scaled():
    assert RULE.scaled(LST) == RULE
    assert RULE.scaled(REFLECTANCE).min_contrast_k == pytest.approx(0.01)
    dim = (scene(1) - 300) * 0.01 + 0.3, (scene(2) - 300) * 0.01 + 0.3
    assert contradicts(fit_bias(*dim, RULE.scaled(REFLECTANCE)), RULE.scaled(REFLECTANCE))


def test_a_bias_that_nobody_knows_is_not_applied():
    with pytest.raises(Undetermined, match="100 cells hold a coarse and a fine value"):
        apply_bias(scene(1), bias(np.nan))
    with pytest.raises(Undetermined, match="no library date has enough cells"):
        carry_over([bias(np.nan)])


@pytest.mark.data
def test_the_orbit_seam_of_yanco_contradicts_its_fine_image_and_the_good_date_does_not(data_folder):
    index = regular_index((40, 40), (400, 400))
    found = {}
    for day in ("20160205", "20160308"):
        names = f"MOD11A1_LST_cloudrm_{day}.tif", f"Landsat_LST_cloudrm_{day}.tif"
        images = [read_raster(data_folder / "yanco_100m" / name).values[0] for name in names]
        found[day] = fit_bias(*(area_mean(image, index, (40, 40)) for image in images), RULE)
    assert not contradicts(found["20160205"], RULE)
    assert found["20160205"].offset_k == pytest.approx(0.2, abs=0.2)
    assert contradicts(found["20160308"], RULE)
    assert abs(found["20160308"].correlation) < 0.1
    assert found["20160308"].offset_k > 4.0


@pytest.mark.data
def test_saltonsea_drops_the_cloudy_date_alone_and_the_median_foretells_a_date_best(data_folder):
    series = read_series(data_folder / "saltonsea_nir")
    rule = BiasRule().scaled(REFLECTANCE)
    fine = area_mean(series.fine, series.coarse_index, series.coarse.shape[1:])
    found = {t: fit_bias(series.coarse_at(t), mean, rule) for t, mean in zip(series.fine_time, fine, strict=True)}
    assert [time[:10] for time, one in found.items() if contradicts(one, rule)] == ["2020-11-26"]
    usable = [one for time, one in found.items() if time[:10] not in ("2020-11-26", "2020-12-12")]
    assert all(one.scale == 1.0 for one in usable)
    offsets = np.array([one.offset_k for one in usable])
    others = [np.delete(offsets, i) for i in range(len(offsets))]
    errors = {
        "none": offsets,
        "median": offsets - [np.median(rest) for rest in others],
        "next date": offsets - [offsets[max(i - 1, 1 - i)] for i in range(len(offsets))],
    }
    rms = {name: float(np.sqrt(np.mean(error**2))) for name, error in errors.items()}
    assert rms["median"] < min(rms["none"], rms["next date"])
    assert carry_over(usable).spread_k == pytest.approx(rms["median"], rel=0.15)
