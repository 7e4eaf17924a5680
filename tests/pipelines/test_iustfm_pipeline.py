"""I-USTFM in a world where every pixel changes by one ratio per triple: the answer is the truth."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series
from thermoscale.numerics.change_ratio import Guards
from thermoscale.pipelines import iustfm as iustfm_module
from thermoscale.pipelines.flags import (
    CLIPPED_TO_TRAINING_RANGE,
    COARSE_MISSING,
    FALLBACK_USED,
    FILLED_THROUGH_HCR,
    OUTSIDE_LIBRARY_RANGE,
)
from thermoscale.pipelines.iustfm import Iustfm, IustfmConfig, Region, decode_library, encode_library
from thermoscale.pipelines.iustfm_pixels import assemble_triple
from thermoscale.pipelines.iustfm_ratios import clip_cells, clip_hcr, clip_inputs, pooled_ratios
from thermoscale.testing.bundles import (
    division,
    linear_series,
    linear_truth,
    mean_ratio,
    tiny_iustfm_config,
    tiny_region,
)

LAW = settings(max_examples=25, deadline=None)
SERIES = linear_series()
REGION = tiny_region(SERIES)
CONFIG = tiny_iustfm_config()
TARGET = SERIES.coarse_time[2]
COARSE = SERIES.coarse_at(TARGET)
QUANTISATION_K = 0.05
MODES = ("rationet", "closed_form")


def pipeline(config: IustfmConfig = CONFIG, region: Region = REGION, dynet=mean_ratio, ratio_net=division) -> Iustfm:
    return Iustfm(config, region, dynet, ratio_net)


def region_without(dates: list[int], region: Region = REGION) -> Region:
    """The library with the scenes of ``dates`` replaced by nonsense."""
    coarse, fine = region.library_coarse.copy(), region.library_fine.copy()
    rng = np.random.default_rng(1)
    coarse[dates] = rng.integers(20000, 35000, coarse[dates].shape)
    fine[dates] = rng.integers(20000, 35000, fine[dates].shape)
    return replace(region, library_coarse=coarse, library_fine=fine)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dynet", [mean_ratio, None])
def test_a_linear_world_is_recovered(mode: str, dynet) -> None:
    result = pipeline(dynet=dynet).predict(COARSE, TARGET, mode=mode)
    np.testing.assert_allclose(result["lst"], linear_truth(0, 2), atol=QUANTISATION_K)
    assert (result["n_triples"] == 6).all()
    assert (result["spread_k"] < QUANTISATION_K).all()
    assert not result["flags"].any()
    assert len(result["dates_used"]) == 6


@LAW
@given(st.data())
def test_a_window_is_the_crop_of_the_whole_scene(data: st.DataObject) -> None:
    row, col = data.draw(st.integers(0, 47)), data.draw(st.integers(0, 63))
    height, width = data.draw(st.integers(1, 48 - row)), data.draw(st.integers(1, 64 - col))
    noisy = COARSE + np.random.default_rng(row).normal(0, 1.5, COARSE.shape).astype(np.float32)
    mode = data.draw(st.sampled_from(MODES))
    whole = pipeline().predict(noisy, TARGET, mode=mode)
    part = pipeline().predict(noisy, TARGET, mode=mode, window=(row, col, height, width))
    for name in ("lst", "spread_k", "iqr_k", "n_triples", "flags"):
        crop = whole[name][row : row + height, col : col + width]
        np.testing.assert_allclose(part[name], crop, atol=1e-6)


@pytest.mark.parametrize("pixels", [1, 100, 1000])
def test_the_size_of_a_row_block_changes_nothing(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pipeline().predict(COARSE, TARGET)
    monkeypatch.setattr(iustfm_module, "BLOCK_PIXELS", pixels)
    blocks = pipeline().predict(COARSE, TARGET)
    for name in ("lst", "spread_k", "iqr_k", "n_triples", "flags"):
        np.testing.assert_array_equal(blocks[name], whole[name])


@LAW
@given(st.permutations(range(6)))
def test_the_order_of_the_triples_does_not_matter(order: list[int]) -> None:
    noisy = COARSE + np.random.default_rng(3).normal(0, 1, COARSE.shape).astype(np.float32)
    usual = pipeline().predict(noisy, TARGET)
    pairs = [tuple(usual["dates_used"][i]) for i in order]
    named = pipeline().predict(noisy, TARGET, triples=pairs)
    assert named["dates_used"] == usual["dates_used"]
    np.testing.assert_array_equal(named["lst"], usual["lst"])


def test_named_triples_use_no_other_date() -> None:
    times = REGION.library_time
    chosen = [(times[0], times[2])]
    result = pipeline().predict(COARSE, TARGET, triples=chosen)
    assert result["dates_used"] == [list(chosen[0])]
    assert (result["n_triples"] == 1).all()
    assert np.isnan(result["spread_k"]).all()
    others = pipeline(region=region_without([1, 3, 4])).predict(COARSE, TARGET, triples=chosen)
    np.testing.assert_array_equal(others["lst"], result["lst"])


def test_past_only_uses_nothing_later_than_the_target() -> None:
    target = SERIES.coarse_time[4]
    coarse = SERIES.coarse_at(target)
    result = pipeline().predict(coarse, target, order="past_only")
    assert {time for pair in result["dates_used"] for time in pair} <= {t for t in REGION.library_time if t < target}
    blind = pipeline(region=region_without([3, 4])).predict(coarse, target, order="past_only")
    np.testing.assert_array_equal(blind["lst"], result["lst"])
    np.testing.assert_allclose(result["lst"], linear_truth(0, 4), atol=4 * QUANTISATION_K)


def test_unordered_triples_add_dates_and_stay_exact() -> None:
    ordered = pipeline().predict(COARSE, TARGET)
    anyhow = pipeline().predict(COARSE, TARGET, order="unordered")
    assert len(anyhow["dates_used"]) > len(ordered["dates_used"])
    np.testing.assert_allclose(anyhow["lst"], linear_truth(0, 2), atol=QUANTISATION_K)


def test_the_librarys_scene_of_the_target_date_takes_no_part() -> None:
    target = REGION.library_time[2]
    coarse = SERIES.coarse_at(target)
    usual = pipeline().predict(coarse, target)
    blind = pipeline(region=region_without([2])).predict(coarse, target)
    np.testing.assert_array_equal(blind["lst"], usual["lst"])


@pytest.mark.parametrize("mode", MODES)
def test_own_scenes_give_what_a_library_of_the_same_scenes_gives(mode: str) -> None:
    stored = pipeline().predict(COARSE, TARGET, mode=mode)
    own = pipeline(region=region_without([0, 1, 2, 3, 4])).predict(None, TARGET, mode=mode, series=SERIES)
    assert own["dates_used"] == stored["dates_used"]
    np.testing.assert_allclose(own["lst"], stored["lst"], atol=QUANTISATION_K)
    np.testing.assert_array_equal(own["flags"], stored["flags"])


@LAW
@given(st.integers(0, 5), st.integers(0, 7))
def test_a_missing_coarse_cell_is_answered_by_its_hcr_and_flagged_there_only(row: int, col: int) -> None:
    coarse = COARSE.copy()
    coarse[row, col] = np.nan
    result = pipeline().predict(coarse, TARGET)
    np.testing.assert_allclose(result["lst"], linear_truth(0, 2), atol=QUANTISATION_K)
    cell = REGION.coarse_index == row * 8 + col
    np.testing.assert_array_equal(result["flags"], np.where(cell, COARSE_MISSING | FILLED_THROUGH_HCR, 0))


def test_a_cloud_in_the_library_only_costs_its_own_pixels_their_triples() -> None:
    fine = REGION.library_fine.copy()
    fine[0, :5, :7] = 0
    result = pipeline(region=replace(REGION, library_fine=fine)).predict(COARSE, TARGET)
    assert (result["n_triples"][:5, :7] == 3).all()
    assert (result["n_triples"][5:] == 6).all()
    np.testing.assert_allclose(result["lst"], linear_truth(0, 2), atol=QUANTISATION_K)


def test_pixels_without_hcr_stay_empty() -> None:
    labels = REGION.labels.copy()
    labels[10:20, 3] = -1
    result = pipeline(region=replace(REGION, labels=labels)).predict(COARSE, TARGET)
    assert np.isnan(result["lst"][10:20, 3]).all()
    assert np.isfinite(result["lst"]).sum() == labels.size - 10
    assert not result["n_triples"][10:20, 3].any()


def test_a_twin_that_loops_over_pixels_agrees() -> None:
    rng = np.random.default_rng(5)
    coarse = COARSE + rng.normal(0, 1, COARSE.shape).astype(np.float32)
    result = pipeline().predict(coarse, TARGET, mode="closed_form")
    scenes = dict(zip(REGION.library_time, decode_library(REGION.library_fine, 0.01), strict=True))
    images = dict(zip(REGION.library_time, decode_library(REGION.library_coarse, 0.01), strict=True))
    half = COARSE.shape[1] // 2
    for row, col in rng.integers(0, 48, (20, 2)):
        answers = []
        for pre, post in result["dates_used"]:
            change = coarse - images[pre]
            alpha = np.where(np.abs(change) >= 0.5, (images[post] - coarse) / change, np.nan)
            alpha[np.abs(alpha) > 5] = np.nan
            ratio = np.median([np.nanmean(alpha[:, :half]), np.nanmean(alpha[:, half:])])
            answers.append((scenes[post][row, col] + ratio * scenes[pre][row, col]) / (1 + ratio))
        assert result["lst"][row, col] == pytest.approx(np.median(answers), abs=1e-2)


def test_ratios_outside_the_training_range_are_flagged_and_keep_the_difference_from_the_closed_form() -> None:
    narrow = replace(CONFIG, range_a2_positive=(1.0, 1.5), range_a2_negative=None)
    result = pipeline(narrow).predict(COARSE, TARGET)
    assert (result["flags"] & CLIPPED_TO_TRAINING_RANGE).all()
    closed = pipeline().predict(COARSE, TARGET, mode="closed_form")["lst"]
    np.testing.assert_allclose(result["lst"], closed, atol=1e-3)  # this network is the division itself


def test_a_side_of_the_pole_that_training_never_saw_uses_the_closed_form() -> None:
    blind = replace(CONFIG, range_a2_positive=None, range_a2_negative=None)
    result = pipeline(blind).predict(COARSE, TARGET)
    closed = pipeline().predict(COARSE, TARGET, mode="closed_form")["lst"]
    np.testing.assert_allclose(result["lst"], closed, atol=1e-3)
    assert (result["flags"] == FALLBACK_USED).all()


def test_answers_beyond_the_librarys_values_are_flagged() -> None:
    result = pipeline().predict(COARSE + 12.0, TARGET)
    scenes = decode_library(REGION.library_fine, 0.01)
    outside = (result["lst"] < scenes.min(axis=0)) | (result["lst"] > scenes.max(axis=0))
    assert outside.any()
    np.testing.assert_array_equal((result["flags"] & OUTSIDE_LIBRARY_RANGE) > 0, outside)


def test_results_far_outside_their_scenes_are_dropped() -> None:
    pre, post = np.full((1, 2), 280.0, np.float32), np.full((1, 2), 300.0, np.float32)
    alpha = np.array([[1.0, -0.7]], np.float32)  # the second answer is 346.7 K
    lst, _ = assemble_triple(
        CONFIG, pre, post, alpha, baseline_k=20.0, bounds=(280.0, 300.0), mode="closed_form", ratio_net=None
    )
    np.testing.assert_allclose(lst, [[290.0, np.nan]])


@LAW
@given(st.integers(0, 2**32 - 1))
def test_clip_inputs_put_every_usable_cell_of_a_clip_into_its_slot(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slots = np.full(48, -1, np.int32)
    owners = rng.choice(48, 30, replace=False)
    slots[owners] = rng.permutation(40)[:30]
    clips = np.array([[0, 0, 20, 30], [17, 11, 31, 53], [0, 0, 48, 64]], np.int32)
    region = replace(REGION, slots=slots, clips=clips)
    alpha = np.where(rng.random((2, 48)) < 0.2, np.nan, rng.normal(size=(2, 48))).astype(np.float32)
    values, valid = clip_inputs(region, alpha, 64)
    cells = clip_cells(region)
    for triple in range(2):
        for clip, (top, left, height, width) in enumerate(clips):
            expected = {}
            for cell in range(48):
                centre_row, centre_col = 8 * (cell // 8) + 4, 8 * (cell % 8) + 4
                inside = top <= centre_row < top + height and left <= centre_col < left + width
                assert cells[clip, cell] == inside
                if inside and slots[cell] >= 0 and np.isfinite(alpha[triple, cell]):
                    expected[int(slots[cell])] = alpha[triple, cell]
            row = triple * 3 + clip
            assert dict(zip(np.flatnonzero(valid[row]).tolist(), values[row][valid[row]], strict=True)) == expected
            assert not values[row][~valid[row]].any()


def test_hcrs_present_are_those_with_a_pixel_in_the_clip() -> None:
    clips = np.array([[0, 0, 4, 6], [0, 0, 4, 7], [0, 0, 48, 64]], np.int32)
    present = clip_hcr(REGION, 8, clips)
    assert [np.flatnonzero(row).tolist() for row in present] == [[0], [0, 1], [0, 1, 2, 3]]


def test_pooled_ratios_are_means_weighted_by_area() -> None:
    alpha = np.random.default_rng(0).normal(size=(1, 48)).astype(np.float32)
    alpha[0, 7] = np.nan
    ratios = pooled_ratios(CONFIG, REGION, alpha)
    for hcr in range(4):
        pixels = alpha[0][REGION.coarse_index[REGION.labels == hcr]]
        assert ratios[0, hcr] == pytest.approx(np.nanmean(pixels), rel=1e-5)


def test_clips_without_a_usable_cell_never_reach_dynet() -> None:
    coarse = COARSE.copy()
    coarse[:, :4] = np.nan
    seen = []

    def watched(inputs: Mapping[str, Array]) -> dict[str, Array]:
        seen.append(inputs["valid"].any(axis=1).all())
        return mean_ratio(inputs)

    result = pipeline(dynet=watched).predict(coarse, TARGET)
    assert seen == [True]
    np.testing.assert_allclose(result["lst"], linear_truth(0, 2), atol=QUANTISATION_K)


def test_a_target_without_triple_says_what_the_library_has() -> None:
    with pytest.raises(Undetermined, match="2020-01-15T10:30Z"):
        pipeline().predict(COARSE, "2019-01-01")


def test_scenes_too_alike_are_undetermined_with_their_baselines() -> None:
    strict = replace(CONFIG, guards=replace(Guards(), min_baseline_k=100.0))
    with pytest.raises(Undetermined, match="baseline of 100 K"):
        pipeline(strict).predict(COARSE, TARGET)


def test_a_coarse_image_without_change_is_undetermined() -> None:
    flat = SERIES.coarse_at(REGION.library_time[0])
    pairs = [(REGION.library_time[0], REGION.library_time[2])]
    with pytest.raises(Undetermined, match="no coarse cell"):
        pipeline().predict(flat, TARGET, triples=pairs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"coarse": COARSE - 273.15}, "Celsius"),
        ({"coarse": np.full_like(COARSE, np.nan)}, "all NaN"),
        ({"coarse": COARSE[1:]}, "needed .6, 8."),
        ({"coarse": None}, "coarse is missing"),
        ({"time": "yesterday"}, "yesterday"),
        ({"mode": "magic"}, "closed_form"),
        ({"triples": [("2020-01-15T10:30Z",)]}, "pairs"),
        ({"triples": [("2020-01-15T10:30Z", "2021-01-15")]}, "2021-01-15"),
        ({"triples": [("2020-01-15T10:30Z", "2020-01-15T10:30Z")]}, "two different"),
        ({"order": "sideways"}, "sideways"),
        ({"window": (40, 0, 9, 1)}, "not inside"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(change: dict, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        pipeline().predict(**{"coarse": COARSE, "time": TARGET, **change})


def test_own_scenes_of_another_place_are_refused() -> None:
    other_link = replace(SERIES, coarse_index=SERIES.coarse_index[::-1])
    with pytest.raises(InvalidInput, match="coarse_index"):
        pipeline().predict(None, TARGET, series=other_link)
    small = linear_series(fine_shape=(40, 40))
    with pytest.raises(InvalidInput, match="belong to the bundle's place"):
        pipeline().predict(None, TARGET, series=small)
    arrays = {key: value for key, value in SERIES.to_arrays().items() if key != "quantity"}
    scaled = {**arrays, "coarse": SERIES.coarse / 1000, "fine": SERIES.fine / 1000, "quantity": "reflectance"}
    with pytest.raises(InvalidInput, match="reflectance"):
        pipeline().predict(None, TARGET, series=Series.from_arrays(scaled))


def test_ratio_net_is_needed_for_its_mode() -> None:
    with pytest.raises(InvalidInput, match="RatioNet"):
        pipeline(ratio_net=None)
    closed = pipeline(replace(CONFIG, mode="closed_form"), ratio_net=None)
    assert np.isfinite(closed.predict(COARSE, TARGET)["lst"]).all()


@LAW
@given(st.lists(st.floats(0.03125, 600.0, width=32) | st.just(np.nan), min_size=1, max_size=20))
def test_library_codes_keep_values_to_half_a_step(values: list[float]) -> None:
    array = np.array(values, np.float32)
    back = decode_library(encode_library(array, 0.01), 0.01)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(array))
    np.testing.assert_allclose(back, array, atol=0.0051)


@pytest.mark.parametrize("value", [-1.0, 0.001, 700.0])
def test_values_that_no_code_can_hold_are_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match="codes"):
        encode_library(np.array([value], np.float32), 0.01)


def test_a_region_and_a_config_survive_storage() -> None:
    back = Region.from_arrays(REGION.to_arrays())
    for name, array in REGION.to_arrays().items():
        np.testing.assert_array_equal(back.to_arrays()[name], array)
    blind = replace(CONFIG, range_a2_negative=None)
    for config in (CONFIG, blind):
        assert IustfmConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "change",
    [
        {"slots": np.zeros(48, np.int32)},
        {"slots": np.zeros(47, np.int32)},
        {"coarse_index": REGION.coarse_index + 1},
        {"clips": np.array([[0, 0, 49, 64]], np.int32)},
        {"clips": np.zeros((1, 3), np.int32)},
        {"library_time": REGION.library_time[::-1]},
        {"library_time": REGION.library_time[:-1]},
        {"library_fine": REGION.library_fine.astype(np.float32)},
        {"labels": REGION.labels[0]},
    ],
)
def test_a_region_that_does_not_fit_together_is_refused(change: dict) -> None:
    with pytest.raises(InvalidInput):
        replace(REGION, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"n_hcr": 9},
        {"n_hcr": 0},
        {"m_max": 0},
        {"mode": "magic"},
        {"quantity": "air"},
        {"library_step": 0.0},
        {"spread_factors": {"rationet": -1.0}},
        {"spread_factors": {"adaptive": 1.0}},
        {"published": "adaptive"},
        {"range_distance": (3.0, 1.0)},
        {"range_a2_negative": (-3.0, 1.0)},
        {"range_a2_positive": (-3.0, 1.0)},
    ],
)
def test_an_impossible_config_is_refused(change: dict) -> None:
    with pytest.raises(InvalidInput, match="iustfm config"):
        replace(CONFIG, **change)


def test_a_region_that_needs_a_wider_network_is_refused() -> None:
    with pytest.raises(InvalidInput, match="m_max"):
        pipeline(replace(CONFIG, m_max=47))
