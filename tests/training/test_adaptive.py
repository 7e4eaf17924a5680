"""Mode adaptive from the fit to the served answer, in worlds whose truth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale.pipelines.iustfm import Iustfm, IustfmConfig, Region, encode_library
from thermoscale.service import open_bundle
from thermoscale.testing.bundles import division, tiny_iustfm_config
from thermoscale.testing.worlds import World, make_series
from thermoscale_train.adaptive.calibration import fit_spread
from thermoscale_train.adaptive.scenes import n_classes, scale_scenes
from thermoscale_train.baselines import FUSION
from thermoscale_train.checkpoint import IustfmCheckpoint, load_checkpoint, save_checkpoint
from thermoscale_train.config import AdaptiveSettings, IustfmSettings, load_iustfm_settings
from thermoscale_train.data.region import make_region
from thermoscale_train.export import export_iustfm
from thermoscale_train.fit import fit_iustfm
from thermoscale_train.fit_adaptive import adaptive_or_none, fit_adaptive

SHAPE = (60, 60)
SHIPPED = load_iustfm_settings()


def fast(**changes: object) -> AdaptiveSettings:
    assert SHIPPED.adaptive is not None
    return replace(SHIPPED.adaptive, classes=6, left_out_dates=4, **changes)


def place_of(series: Series) -> Region:
    return make_region(series, replace(SHIPPED.dynet.region, n_hcr=4), 200, 0)


def served(
    series: Series, state: AdaptiveState | None = None, region: Region | None = None, threads: int = 1
) -> Iustfm:
    region = region or place_of(series)
    state = state or fit_adaptive(series, fast(), seed=0)
    config = replace(tiny_iustfm_config(mode="closed_form"), m_max=200, adaptive=True)
    return Iustfm(config, region, None, None, adaptive=state, threads=threads, remembered=1)


@pytest.fixture(scope="module")
def world() -> World:
    return make_series(3, fine_shape=SHAPE, scale_factor=6, n_dates=24, coarse_noise_k=0.3)


@pytest.fixture(scope="module")
def target(world: World) -> str:
    return world.series.coarse_time[11]


@pytest.fixture(scope="module")
def pipeline(world: World) -> Iustfm:
    return served(world.series)


def rmse(lst: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((lst - truth) ** 2)))


def test_an_unchanged_world_returns_the_library_image() -> None:
    still = 290 + np.random.default_rng(0).normal(0, 2, SHAPE).astype(np.float32)
    times = [f"2020-0{month}-10T10:00Z" for month in range(1, 7)]
    coarse = np.repeat(still.reshape(10, 6, 10, 6).mean((1, 3))[None], 6, 0)
    series = Series.from_arrays(
        {"coarse": coarse, "coarse_time": times, "fine": np.repeat(still[None], 5, 0), "fine_time": times[:5]}
    )
    answer = served(series).predict(series.coarse[5], times[5], mode="adaptive")
    assert answer["lst"] == pytest.approx(still, abs=0.02)


def test_a_window_is_a_crop_and_threads_change_nothing(world: World, target: str, pipeline: Iustfm) -> None:
    coarse = world.series.coarse_at(target)
    whole = pipeline.predict(coarse, target, mode="adaptive")
    part = pipeline.predict(coarse, target, mode="adaptive", window=(7, 11, 20, 31))
    for name in ("lst", "spread_k", "iqr_k", "n_triples", "flags"):
        assert part[name] == pytest.approx(whole[name][7:27, 11:42], abs=2e-3, nan_ok=True)
    corner = pipeline.predict(coarse, target, mode="adaptive", window=(0, 59, 60, 1))
    assert corner["lst"] == pytest.approx(whole["lst"][:, 59:], abs=2e-3)


def test_the_reply_says_that_there_are_no_triples(world: World, target: str, pipeline: Iustfm) -> None:
    answer = pipeline.predict(world.series.coarse_at(target), target, mode="adaptive")
    assert np.isnan(answer["iqr_k"]).all()
    assert not answer["n_triples"].any()
    assert answer["mode"] == "adaptive"
    assert answer["dates_used"] == [[time] for time in world.series.fine_time]
    assert (answer["spread_k"] > 0).all()


def test_a_missing_cell_is_flagged_there_only_and_its_neighbourhood_stays(
    world: World, target: str, pipeline: Iustfm
) -> None:
    coarse = world.series.coarse_at(target).copy()
    before = pipeline.predict(coarse, target, mode="adaptive")
    coarse[4, 5] = np.nan
    after = pipeline.predict(coarse, target, mode="adaptive")
    cell = np.zeros(SHAPE, bool)
    cell[24:30, 30:36] = True
    assert np.isfinite(after["lst"]).all()
    assert np.array_equal(after["flags"] & 1 > 0, cell)
    assert np.abs(after["lst"] - before["lst"])[:, :6].max() < 0.1


def test_the_order_in_which_the_series_lists_its_dates_changes_nothing(world: World, target: str) -> None:
    arrays = world.series.to_arrays()
    turned = np.random.default_rng(1).permutation(len(world.series.fine_time))
    for name in ("fine", "fine_time", "fine_local_hour"):
        arrays[name] = np.asarray(arrays[name])[turned]
    coarse = world.series.coarse_at(target)
    one, other = (
        served(series).predict(coarse, target, mode="adaptive") for series in (world.series, Series.from_arrays(arrays))
    )
    assert one["lst"] == pytest.approx(other["lst"], abs=1e-4)


def test_the_fine_image_of_the_target_is_never_used(world: World, pipeline: Iustfm) -> None:
    time, region = world.series.fine_time[3], place_of(world.series)
    changed = region.library_fine.copy()
    changed[3] = encode_library(np.full(SHAPE, 250.0, np.float32), 0.01)
    state = fit_adaptive(world.series, fast(), seed=0)
    other = served(world.series, state, replace(region, library_fine=changed))
    coarse = world.series.coarse_at(time)
    one = pipeline.predict(coarse, time, mode="adaptive")
    assert time not in [date for (date,) in one["dates_used"]]
    assert np.array_equal(one["lst"], other.predict(coarse, time, mode="adaptive")["lst"])


def test_past_only_is_blind_for_what_came_later(world: World, target: str, pipeline: Iustfm) -> None:
    answer = pipeline.predict(world.series.coarse_at(target), target, mode="adaptive", order="past_only")
    assert [date for (date,) in answer["dates_used"]] == [t for t in world.series.fine_time if t < target]
    region, state = place_of(world.series), fit_adaptive(world.series, fast(), seed=0)
    changed = region.library_fine.copy()
    changed[-1] = encode_library(np.full(SHAPE, 250.0, np.float32), 0.01)
    blind = served(world.series, state, replace(region, library_fine=changed))
    again = blind.predict(world.series.coarse_at(target), target, mode="adaptive", order="past_only")
    assert np.array_equal(answer["lst"], again["lst"])


def test_pixels_that_no_date_has_stay_empty(world: World, target: str) -> None:
    arrays = world.series.to_arrays()
    fine = np.array(arrays["fine"])
    fine[:, :5, :4] = np.nan
    fine[2, 20:30, 20:30] = np.nan
    series = Series.from_arrays({**arrays, "fine": fine})
    lst = served(series).predict(series.coarse_at(target), target, mode="adaptive")["lst"]
    assert np.isnan(lst[:5, :4]).all()
    assert np.isfinite(lst).sum() == lst.size - 20


@pytest.mark.parametrize("kind", ["class", "smooth"])
def test_it_beats_interpolation_and_simple_fusion(kind: str) -> None:
    made = make_series(
        5,
        fine_shape=SHAPE,
        scale_factor=6,
        class_change=kind == "class",
        smooth_change_k=2.0 if kind == "smooth" else 0.0,
    )
    series, time = made.series, made.series.coarse_time[11]
    truth, coarse = made.truth[11], series.coarse_at(time)
    ours = rmse(served(series).predict(coarse, time, mode="adaptive")["lst"], truth)
    for name in ("bilinear", "fdc_median_residual"):
        assert ours < rmse(FUSION[name](series, coarse, time), truth)


def test_what_only_triples_know_is_refused_by_name_and_answered_by_default(
    world: World, target: str, pipeline: Iustfm
) -> None:
    coarse, dates = world.series.coarse_at(target), world.series.fine_time
    with pytest.raises(InvalidInput, match=r"no triples.*closed_form"):
        pipeline.predict(coarse, target, mode="adaptive", triples=[(dates[0], dates[5])])
    with pytest.raises(InvalidInput, match=r"own scenes.*closed_form"):
        pipeline.predict(None, target, mode="adaptive", series=world.series)
    ours = Iustfm(
        replace(pipeline.config, mode="adaptive"),
        pipeline.region,
        None,
        None,
        adaptive=fit_adaptive(world.series, fast(), seed=0),
    )
    plain = ours.predict(coarse, target)
    assert (plain["mode"], plain["facts"]["order"]) == ("adaptive", "all")
    assert ours.predict(coarse, target, order="past_only")["facts"]["order"] == "past_only"
    assert ours.predict(coarse, target, triples=[(dates[0], dates[5])])["mode"] == "closed_form"
    assert ours.predict(coarse, target, min_baseline_k=0.1)["mode"] == "closed_form"


@pytest.mark.parametrize("published", ["rationet", "closed_form"])
def test_what_only_triples_know_is_answered_by_the_published_mode_that_held_out_dates_chose(
    world: World, target: str, pipeline: Iustfm, published: str
) -> None:
    config = replace(pipeline.config, mode="adaptive", published=published)
    both = Iustfm(config, pipeline.region, None, division, adaptive=fit_adaptive(world.series, fast(), seed=0))
    answer = both.predict(world.series.coarse_at(target), target, min_baseline_k=0.1)
    assert answer["mode"] == published


def test_hcrs_without_a_valid_cell_are_answered_from_other_dates_flagged_and_counted(
    world: World, target: str, pipeline: Iustfm
) -> None:
    rows = np.repeat(np.arange(4, dtype=np.int32), 15)
    region = replace(pipeline.region, labels=np.repeat(rows[:, None], 60, 1))
    ours = served(world.series, region=region)
    coarse = world.series.coarse_at(target).copy()
    coarse[:5] = np.nan
    answer = ours.predict(coarse, target, mode="adaptive")
    assert np.isfinite(answer["lst"]).all()
    assert (answer["flags"][:30] & 1).all()
    assert answer["facts"]["hcr_without_coarse"] == 2
    assert "2 of 4 HCRs (50.0% of their pixels) have no valid coarse cell" in answer["facts"]["warnings"][0]


def test_too_little_to_go_on_is_refused(world: World, target: str, pipeline: Iustfm) -> None:
    coarse = np.full_like(world.series.coarse_at(target), np.nan)
    coarse[0, :2] = 290.0
    with pytest.raises(Undetermined, match="2 valid cells"):
        pipeline.predict(coarse, target, mode="adaptive")
    first = world.series.coarse_time[0]
    with pytest.raises(Undetermined, match="2 library dates"):
        pipeline.predict(world.series.coarse_at(first), first, mode="adaptive", order="past_only")


def test_a_bundle_without_it_says_so(world: World, target: str) -> None:
    plain = Iustfm(replace(tiny_iustfm_config(mode="closed_form"), m_max=200), place_of(world.series), None, None)
    with pytest.raises(InvalidInput, match="made without it"):
        plain.predict(world.series.coarse_at(target), target, mode="adaptive")
    with pytest.raises(InvalidInput, match="unknown here"):
        replace(plain.config, mode="adaptive")


def test_a_config_survives_its_json() -> None:
    assert IustfmConfig.from_json(tiny_iustfm_config().to_json()) == tiny_iustfm_config()


@pytest.fixture(scope="module")
def checkpoint(series: Series, iustfm_settings: IustfmSettings) -> IustfmCheckpoint:
    return fit_iustfm(series, replace(iustfm_settings, adaptive=fast()), seed=0)


def test_the_default_mode_is_the_best_on_dates_held_out_and_survives_file_and_bundle(
    tmp_path: Path, series: Series, checkpoint: IustfmCheckpoint
) -> None:
    scores = {name: checkpoint.metrics["held_out"][f"rmse_{name}"] for name in ("rationet", "closed_form", "adaptive")}
    assert checkpoint.config.mode == min(scores, key=scores.__getitem__)
    save_checkpoint(tmp_path / "i.pt", checkpoint)
    read = load_checkpoint(tmp_path / "i.pt")
    assert isinstance(read, IustfmCheckpoint)
    folder = export_iustfm(read, tmp_path / "exported", version="0.0.1")
    time = series.coarse_time[12]
    request = {"coarse": series.coarse_at(time), "time": time, "mode": "adaptive"}
    service = open_bundle(folder)
    service.limits = replace(service.limits, max_triples=1)
    reply = service.predict(request)  # which has no triples
    with pytest.raises(InvalidInput, match="at most 1 are allowed"):
        service.predict({**request, "mode": "closed_form"})
    direct = Iustfm(checkpoint.config, checkpoint.region, None, None, adaptive=checkpoint.adaptive)
    expected = direct.predict(series.coarse_at(time), time, mode="adaptive")
    assert reply["lst"] == pytest.approx(expected["lst"], abs=1e-4)
    assert reply["spread_k"] == pytest.approx(expected["spread_k"], abs=1e-4)
    assert reply["meta"]["mode"] == "adaptive"


def test_it_can_be_left_out(series: Series, iustfm_settings: IustfmSettings) -> None:
    for chosen in (None, fast(enabled=False), fast(most_cells=3)):
        assert adaptive_or_none(series, replace(iustfm_settings, adaptive=chosen), 0) is None


def test_two_dates_are_enough_for_a_modest_answer(world: World, target: str) -> None:
    two = world.series.select_fine([world.series.fine_time[2], world.series.fine_time[5]])
    answer = served(two).predict(world.series.coarse_at(target), target, mode="adaptive")
    assert rmse(answer["lst"], world.truth[11]) < 2.0
    assert (answer["spread_k"] > 0).all()


@pytest.mark.parametrize(("dates_agree", "least", "most"), [(True, 0.9, 1.2), (False, 0.0, 0.1)])
def test_spread_is_corrected_by_level_only_as_far_as_dates_agree(dates_agree: bool, least: float, most: float) -> None:
    rng, level = np.random.default_rng(0), np.repeat(np.arange(8), 200)
    variance = np.geomspace(0.04, 4, 8)[level]
    features = np.stack([np.ones(1600), variance, *np.zeros((2, 1600))])
    shared, luck = np.tile(np.where(np.arange(8) % 2, 0.5, -0.5), (6, 1)), 0.5 * rng.standard_normal((6, 8))
    wrong_by = shared if dates_agree else luck
    errors = [np.sqrt(variance) * np.exp(date)[level] * rng.standard_normal(1600) for date in wrong_by]
    factors = fit_spread([features] * 6, errors)[1][1]
    assert least <= np.ptp(np.log(factors)) <= most


def test_one_date_has_no_more_than_eight_classes(world: World) -> None:
    two = scale_scenes(world.series.select_fine(world.series.fine_time[:2]), 0.7)
    assert [n_classes(two, replace(fast(), classes=45), dates) for dates in (1, 2)] == [8, 16]
