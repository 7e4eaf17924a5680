"""Is a coarse scene like those of the library?"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import REFLECTANCE
from thermoscale.errors import InvalidInput
from thermoscale.geo.datasets import read_series
from thermoscale.geo.rasters import read_raster
from thermoscale.numerics.grids import area_mean, regular_index
from thermoscale.numerics.scene_check import SceneRule, check_scene
from thermoscale.numerics.seams import strongest_seam
from thermoscale.testing.fields import smooth_field
from thermoscale.testing.worlds import make_series

RULE = SceneRule()
DAYS = [0.0, 10.0, 20.0, 30.0, 40.0]
SHAPE = (24, 30)


def library(seed: int) -> np.ndarray:
    """Five scenes: one pattern of 3 K, a mean that rises by 0.1 K a day, 0.4 K of noise."""
    rng = np.random.default_rng(seed)
    pattern = 3.0 * smooth_field(rng, SHAPE, 4)
    noise = 0.4 * rng.standard_normal((len(DAYS), *SHAPE))
    return (300.0 + pattern + 0.1 * np.array(DAYS)[:, None, None] + noise).astype(np.float32)


def like(scenes: np.ndarray, seed: int) -> np.ndarray:
    """Another scene of day 25."""
    noise = 0.4 * np.random.default_rng(seed).standard_normal(SHAPE)
    return (scenes.mean(axis=0) + 0.5 + noise).astype(np.float32)


def verdicts(scene, scenes, rule=RULE, day=25.0, days=DAYS):
    return {finding.name: finding for finding in check_scene(scene, day, scenes, days, rule)}


def passed(found):
    return {name: finding.passed for name, finding in found.items()}


def with_seam(scene: np.ndarray, step: float, top: float, bottom: float) -> np.ndarray:
    """``scene`` with ``step`` added right of a line from column ``top`` of the first row to ``bottom`` of the last."""
    height, width = scene.shape
    border = np.linspace(top, bottom, height)[:, None]
    return np.where(np.arange(width) >= border, scene + np.float32(step), scene).astype(np.float32)


def slow_best_step(scene: np.ndarray) -> float:
    """The strongest step, cell by cell, for scenes that are not averaged down."""
    best = -np.inf
    for image in (scene, scene.T):
        height, width = image.shape
        for slope in np.linspace(-1, 1, 2 * -(-height // 4) + 1):
            for border in range(3, width - 2):
                steps = []
                for row in range(height):
                    at = border + round(slope * (row - (height - 1) / 2))
                    sides = []
                    for cols in ((at - 3, at - 2), (at + 1, at + 2)):
                        cells = [image[row, col] for col in cols if 0 <= col < width and not np.isnan(image[row, col])]
                        sides.append(np.mean(cells) if cells else np.nan)
                    if not np.isnan(sides[1] - sides[0]):
                        steps.append(sides[1] - sides[0])
                if len(steps) >= 0.6 * height:
                    skip = int(0.1 * (len(steps) - 1))
                    ordered = sorted(steps)
                    best = max(best, ordered[skip], -ordered[-1 - skip])
    return float(best)


@given(st.integers(0, 999))
@settings(deadline=None, max_examples=25)
def test_a_scene_of_the_same_ground_passes_and_so_does_each_library_scene(seed):
    scenes = library(seed)
    assert passed(verdicts(like(scenes, seed), scenes)) == dict.fromkeys(["range", "pattern", "seam", "drift"], True)
    for row, day in enumerate(DAYS):
        rest = np.delete(scenes, row, axis=0), [other for other in DAYS if other != day]
        assert all(passed(verdicts(scenes[row], rest[0], day=day, days=rest[1])).values())


@given(st.sampled_from([-6.0, 5.0, 9.0]), st.floats(6, 24), st.floats(-5, 5))
@settings(deadline=None, max_examples=25)
def test_a_seam_alone_is_found_where_it_runs(step, top, lean):
    bottom = float(np.clip(top + lean, 6, 24))
    seam = strongest_seam(with_seam(np.zeros(SHAPE), step, top, bottom))
    assert seam is not None
    assert seam.step_k == pytest.approx(abs(step))
    assert seam.start[1] == pytest.approx(top, abs=4)
    assert seam.end[1] == pytest.approx(bottom, abs=4)


@pytest.mark.parametrize("step", [5.0, -6.0, 9.0])
def test_nearly_all_seams_are_found_whichever_way_they_run(step):
    rng = np.random.default_rng(0)
    assert np.mean([finds_seam(rng, step) for _ in range(40)]) >= 0.9


def finds_seam(rng, step):
    """Is a seam somewhere in another scene of a library found, with rows and columns exchanged half of the time?"""
    seed, top, lean = int(rng.integers(1000)), rng.uniform(6, 24), rng.uniform(-5, 5)
    bottom = float(np.clip(top + lean, 6, 24))
    scenes = library(seed)
    scene = like(scenes, seed)
    if rng.random() < 0.5:
        scenes, scene = scenes.transpose(0, 2, 1).copy(), scene.T.copy()
        top, bottom = top * 0.75, bottom * 0.75
    return verdicts(with_seam(scene, step, top, bottom), scenes)["seam"].passed is False


@given(st.integers(0, 999), st.tuples(st.integers(7, 11), st.integers(7, 11)), st.floats(0, 0.3))
@settings(deadline=None, max_examples=10)
def test_the_strongest_line_is_that_of_a_search_cell_by_cell(seed, shape, gaps):
    rng = np.random.default_rng(seed)
    scene = rng.standard_normal(shape)
    scene[rng.random(shape) < gaps] = np.nan
    seam, slow = strongest_seam(scene), slow_best_step(scene)
    if seam is None:
        assert slow == -np.inf
    else:
        assert seam.step_k == pytest.approx(slow, abs=1e-6)


def test_a_seam_is_the_same_in_a_scene_so_large_that_it_is_averaged_down():
    rng = np.random.default_rng(0)
    seam = strongest_seam(with_seam(rng.normal(300, 1, (200, 150)), 5.0, 60, 80))
    assert seam is not None
    assert seam.step_k == pytest.approx(5.0, abs=1.0)
    assert (seam.start[1], seam.end[1]) == (pytest.approx(60, abs=12), pytest.approx(80, abs=12))


def test_a_scene_of_other_ground_has_another_pattern():
    scenes = library(1)
    found = verdicts(like(library(2), 1), scenes)
    assert found["pattern"].passed is False
    assert "5 library scenes" in found["pattern"].words
    assert verdicts(np.full(SHAPE, 302, np.float32), scenes)["pattern"].passed is False


def test_cold_clouds_leave_the_range_and_a_hot_sensor_drifts():
    scenes = library(3)
    cloudy = like(scenes, 3)
    cloudy[:2] = 250.0
    assert verdicts(cloudy, scenes)["range"].passed is False
    drifted = passed(verdicts(like(scenes, 3) + np.float32(12.0), scenes))
    assert drifted == {"range": True, "pattern": True, "seam": True, "drift": False}


def test_a_library_that_swings_widely_allows_a_wide_drift():
    scenes = library(4)
    swing = np.array([0, 20, -15, 18, -20], np.float32)[:, None, None]
    assert verdicts(like(scenes, 4) + np.float32(12.0), scenes + swing)["drift"].limit > 12


def test_the_order_of_the_library_does_not_matter_and_gaps_are_only_gaps():
    scenes = library(5)
    scene = like(scenes, 5)
    scene[:4, :5] = np.nan
    scenes[1, 10:14] = np.nan
    first = check_scene(scene, 25.0, scenes, DAYS, RULE)
    second = check_scene(scene, 25.0, scenes[::-1], DAYS[::-1], RULE)
    assert [finding.value for finding in first] == pytest.approx([finding.value for finding in second])
    assert all(finding.passed for finding in first)


def test_what_cannot_be_judged_says_so():
    scenes = library(6)
    nothing = passed(verdicts(np.full(SHAPE, np.nan, np.float32), scenes))
    assert nothing == dict.fromkeys(["range", "pattern", "seam", "drift"])
    uniform = np.full((2, 4, 4), 300.0, np.float32)
    small = verdicts(uniform[0], uniform, days=[1.0, 2.0])
    assert passed(small) == {"range": True, "pattern": None, "seam": None, "drift": True}
    assert small["pattern"].words == "not judged: no library scene has enough common cells and contrast"


def test_limits_in_kelvin_are_scaled_to_the_quantity_and_the_others_are_not():
    scaled = RULE.scaled(REFLECTANCE)
    assert (scaled.range_margin_k, scaled.drift_k) == (pytest.approx(0.15), pytest.approx(0.1))
    assert replace(scaled, range_margin_k=15.0, min_contrast_k=1.0, min_usual_k=0.5, drift_k=10.0) == RULE
    scenes = library(7)
    scene = with_seam(like(scenes, 7), 8.0, 12, 14)
    dim = (0.3 + 0.01 * (np.concatenate([scene[None], scenes]) - 300)).astype(np.float32)
    kelvin, reflectance = verdicts(scene, scenes), verdicts(dim[0], dim[1:], scaled)
    assert passed(kelvin) == passed(reflectance)


def test_scenes_of_another_shape_are_refused():
    with pytest.raises(InvalidInput, match="library has shape"):
        check_scene(library(1)[0], 25.0, library(1)[:, :5], DAYS, RULE)


def test_false_alarms_are_rare_in_simulated_worlds():
    alarms, asked = [], 0
    for seed in range(4):
        series = make_series(seed, fine_shape=(200, 200), coarse_noise_k=0.5 * seed).series
        days = {time: float(i) for i, time in enumerate(series.coarse_time)}
        for time in series.coarse_time[::3]:
            others = [other for other in series.fine_time if other != time]
            scenes = np.stack([series.coarse_at(other) for other in others])
            found = check_scene(series.coarse_at(time), days[time], scenes, [days[other] for other in others], RULE)
            alarms += [finding for finding in found if finding.passed is False]
            asked += 1
    assert asked == 32
    assert not alarms


@pytest.mark.data
def test_the_orbit_seam_of_yanco_is_found_and_the_good_dates_pass(data_folder):
    index, days = regular_index((40, 40), (400, 400)), {"20160205": 0.0, "20160218": 13.0, "20160308": 32.0}
    names = {day: data_folder / "yanco_100m" / f"MOD11A1_LST_cloudrm_{day}.tif" for day in days}
    scenes = {day: area_mean(read_raster(name).values[0], index, (40, 40)) for day, name in names.items()}

    def against(day, *others):
        return verdicts(
            scenes[day], np.stack([scenes[o] for o in others]), day=days[day], days=[days[o] for o in others]
        )

    bad = against("20160308", "20160205")
    assert passed(bad) == {"range": True, "pattern": False, "seam": False, "drift": True}
    assert "from row 0, col 3" in bad["seam"].words
    assert against("20160308", "20160205", "20160218")["seam"].passed is False
    for day, other in (("20160205", "20160218"), ("20160218", "20160205")):
        assert all(passed(against(day, other)).values())


@pytest.mark.data
def test_every_coarse_scene_of_saltonsea_passes_even_that_of_the_cloudy_day(data_folder):
    """The coarse images are composites of many days: they show no cloud. Only the fine partner of 11-26 does."""
    series = read_series(data_folder / "saltonsea_nir")
    rule = SceneRule().scaled(REFLECTANCE)
    usable = [time for time in series.fine_time if time[:10] not in ("2020-11-26", "2020-12-12")]
    day = {time: float(np.datetime64(time[:10]).astype(int)) for time in series.coarse_time}
    for time in (*series.coarse_time[::2], "2020-11-26T12:00Z"):
        others = [other for other in usable if other != time]
        scenes = np.stack([series.coarse_at(other) for other in others])
        found = check_scene(series.coarse_at(time), day[time], scenes, [day[other] for other in others], rule)
        assert all(finding.passed for finding in found), (time, found)
