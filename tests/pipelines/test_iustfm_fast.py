"""The pixel loop against its definition: assemble_triple for every triple, then the median, on whole arrays."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import LST, Array
from thermoscale.numerics.change_ratio import Guards
from thermoscale.numerics.hcr import paint_hcr
from thermoscale.numerics.ratio_table import RatioTable
from thermoscale.numerics.triples import Triple, median_over_triples
from thermoscale.pipelines.flags import (
    CLIPPED_TO_TRAINING_RANGE,
    COARSE_MISSING,
    FALLBACK_USED,
    FILLED_THROUGH_HCR,
    OUTSIDE_LIBRARY_RANGE,
)
from thermoscale.pipelines.iustfm import Iustfm, IustfmConfig, Region, encode_library
from thermoscale.pipelines.iustfm_blocks import predict_window
from thermoscale.pipelines.iustfm_pixels import assemble_triple, calibrated_spread
from thermoscale.pipelines.iustfm_plan import Plan
from thermoscale.pipelines.iustfm_table import ratio_table
from thermoscale.pipelines.iustfm_weighting import make_closed_form, make_tabled
from thermoscale.pipelines.library import Library, stored_library
from thermoscale.pipelines.windows import Window
from thermoscale.testing.bundles import (
    division,
    linear_series,
    mean_ratio,
    tiny_iustfm_config,
    tiny_region,
)

LAW = settings(max_examples=40, deadline=None)
SHAPE, N_HCR = (11, 13), 5
TIMES = tuple(f"2020-0{month}-15T10:30Z" for month in (1, 2, 3, 6, 7))
TRIPLES = [Triple(pre, "2020-05-15T10:30Z", post) for pre in TIMES[:3] for post in TIMES[3:]]
# The plan leaves out short baselines before the pixel loop begins.
GUARDS = Guards(min_abs_one_plus_alpha=0.125, min_distance_k=0.11, range_margin_k=15.0, min_baseline_k=0.0)
CONFIG = replace(
    tiny_iustfm_config(),
    n_hcr=N_HCR,
    guards=GUARDS,
    range_distance=(0.5, 18.0),
    range_a2_negative=(-4.0, -0.2),
    range_a2_positive=(0.2, 4.0),
)
RATIOS = st.sampled_from([-1.125, -1.0, -0.875, -1.0625, 0.0, 0.5, 1.0, 4.5, -3.5, np.nan]) | st.floats(-6, 6, width=32)


def curved(inputs: Any) -> dict[str, Array]:
    """Division, bent: what a network that learnt something looks like."""
    distance, a2 = inputs["distance"].astype(np.float64), inputs["a2"].astype(np.float64)
    return {"delta": (distance / a2 * (1 - 0.1 * np.tanh(distance / 20)) + 0.3 * np.sin(a2)).astype(np.float32)}


@cache
def table_of(config: IustfmConfig) -> RatioTable | None:
    return ratio_table(config, curved)


TABLE = table_of(CONFIG)


def place(rng: np.random.Generator, gaps: float) -> Region:
    """A library with clouds, unlabelled pixels, pixels without a cell, and values that hit the guards exactly."""
    coarse_index = (np.arange(SHAPE[0])[:, None] // 4 * 4 + np.arange(SHAPE[1])[None] // 4).astype(np.int32)
    coarse_index[rng.random(SHAPE) < 0.1 * gaps] = -1
    labels = rng.integers(0, N_HCR, SHAPE).astype(np.int32)
    labels[rng.random(SHAPE) < gaps] = -1
    fine = np.round(285 + rng.normal(0, 3, (len(TIMES), *SHAPE)), 2)
    fine[3:] += rng.choice([0.0, 10.0, 25.0])
    fine[3, :2] = fine[0, :2] + rng.choice([0.1, 0.11, 0.12, 0.0], (2, SHAPE[1]))
    fine[rng.random(fine.shape) < gaps] = np.nan
    return Region(
        labels=labels,
        coarse_index=coarse_index,
        slots=np.arange(12, dtype=np.int32),
        clips=np.array([[0, 0, *SHAPE]], np.int32),
        library_time=TIMES,
        library_coarse=np.full((len(TIMES), 3, 4), 28500, np.uint16),
        library_fine=encode_library(fine.astype(np.float32), 0.01),
    )


def by_definition(
    config: IustfmConfig, region: Region, library: Library, alpha_hcr: Array, cell_flags: Array, mode: str
) -> dict[str, Array]:
    """Whole arrays, one triple after the other."""
    stack, flags = [], np.take(cell_flags, region.coarse_index)
    for triple, alpha in zip(TRIPLES, alpha_hcr, strict=True):
        lows, highs = zip(library.range_of(triple.pre), library.range_of(triple.post), strict=True)
        lst, bits = assemble_triple(
            config,
            library.fine_at(triple.pre),
            library.fine_at(triple.post),
            paint_hcr(alpha, region.labels),
            baseline_k=library.baseline_of(triple.pre, triple.post),
            bounds=(min(lows), max(highs)),
            mode=mode,
            ratio_net=curved,
        )
        stack.append(lst)
        flags = flags | bits
    lst, iqr, count = median_over_triples(np.stack(stack))
    scenes = [library.fine_at(time) for time in TIMES]
    flags = np.where(np.isnan(lst), flags & ~np.uint8(FILLED_THROUGH_HCR), flags)
    outside = (lst < np.fmin.reduce(scenes)) | (lst > np.fmax.reduce(scenes))
    flags = flags | (outside * np.uint8(OUTSIDE_LIBRARY_RANGE))
    spread = calibrated_spread(iqr, count, config.spread_factors[mode])
    return {"lst": lst, "spread_k": spread, "iqr_k": iqr, "n_triples": count, "flags": flags}


def on_the_edge(lst: Array, library: Library) -> Array:
    """Where rounding decides bit 3: the answer is a library value but for rounding."""
    scenes = [library.fine_at(time) for time in TIMES]
    return np.fmin(np.abs(lst - np.fmin.reduce(scenes)), np.abs(lst - np.fmax.reduce(scenes))) < 0.01


def compare(got: dict[str, Array], expected: dict[str, Array], library: Library, tolerance: float) -> None:
    for name in ("lst", "iqr_k", "spread_k"):
        np.testing.assert_allclose(got[name], expected[name], atol=2 * tolerance, err_msg=name)
    np.testing.assert_allclose(got["lst"], expected["lst"], atol=tolerance)
    np.testing.assert_array_equal(got["n_triples"], expected["n_triples"])
    edge = on_the_edge(expected["lst"], library)
    kept = np.where(edge, 255 - OUTSIDE_LIBRARY_RANGE, 255).astype(np.uint8)
    np.testing.assert_array_equal(got["flags"] & kept, expected["flags"] & kept)


@pytest.mark.parametrize("way", ["closed_form", "table", "network"])
@LAW
@given(
    seed=st.integers(0, 2**32 - 1),
    gaps=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    ratios=st.lists(RATIOS, min_size=N_HCR * len(TRIPLES), max_size=N_HCR * len(TRIPLES)),
    sides=st.sampled_from(["both", "negative", "positive", "none"]),
    threads=st.integers(1, 2),
    most_pixels=st.sampled_from([1, 40, 1000]),
)
def test_the_pixel_loop_is_its_definition(
    way: str, seed: int, gaps: float, ratios: list[float], sides: str, threads: int, most_pixels: int
) -> None:
    rng = np.random.default_rng(seed)
    config, mode = CONFIG, "closed_form" if way == "closed_form" else "rationet"
    config = replace(config, range_a2_negative=None) if sides in ("positive", "none") else config
    config = replace(config, range_a2_positive=None) if sides in ("negative", "none") else config
    region = place(rng, gaps)
    library = stored_library(region, 0.01)
    alpha_hcr = np.array(ratios, np.float32).reshape(len(TRIPLES), N_HCR)
    cell_flags = rng.choice([0, COARSE_MISSING, FILLED_THROUGH_HCR], 13).astype(np.uint8)
    weighting = {
        "closed_form": lambda: make_closed_form(config, alpha_hcr),
        "table": lambda: make_tabled(config, alpha_hcr, table_of(config)),
        "network": lambda: None,
    }[way]()
    plan = Plan(library, TRIPLES, mode, alpha_hcr, cell_flags, weighting)
    whole = Window(0, 0, *SHAPE)
    got = predict_window(config, region, plan, curved, whole, threads=threads, most_pixels=most_pixels)
    expected = by_definition(config, region, library, alpha_hcr, cell_flags, mode)
    compare(got, expected, library, {"closed_form": 1e-3, "table": 0.01, "network": 1e-6}[way])


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("mode", ["closed_form", "rationet"])
def test_results_at_the_limit_of_the_range_guard_are_decided_by_the_definition(side: int, mode: str) -> None:
    """Every pixel ends within a few roundings of the limit: half of them on either side of it."""
    rng = np.random.default_rng(0)
    region = place(rng, 0.0)
    fine = np.full((len(TIMES), *SHAPE), 285.0, np.float32)
    fine[3:] = np.where(np.arange(SHAPE[1]) % 2, 295.0, 290.0)
    region = replace(region, library_fine=encode_library(fine, 0.01))
    library = stored_library(region, 0.01)
    beta = np.float64((295.0 + 15.0 - 285.0) / 5.0 if side > 0 else (285.0 - 15.0 - 285.0) / 5.0)
    alpha_hcr = (1 / beta - 1 + rng.normal(0, 3e-8, (len(TRIPLES), N_HCR))).astype(np.float32)
    plan_flags = np.zeros(13, np.uint8)
    weightings = {
        "closed_form": make_closed_form(CONFIG, alpha_hcr),
        "rationet": make_tabled(CONFIG, alpha_hcr, TABLE),
    }
    plan = Plan(library, TRIPLES, mode, alpha_hcr, plan_flags, weightings[mode])
    got = predict_window(CONFIG, region, plan, curved, Window(0, 0, *SHAPE), threads=1, most_pixels=50)
    compare(got, by_definition(CONFIG, region, library, alpha_hcr, plan_flags, mode), library, 0.01)


@LAW
@given(st.data())
def test_a_window_is_the_crop_whatever_the_threads(data: st.DataObject) -> None:
    series = linear_series()
    region, config, target = tiny_region(series), tiny_iustfm_config(), series.coarse_time[2]
    row, col = data.draw(st.integers(0, 47)), data.draw(st.integers(0, 63))
    window = (row, col, data.draw(st.integers(1, 48 - row)), data.draw(st.integers(1, 64 - col)))
    coarse = series.coarse_at(target) + np.random.default_rng(row).normal(0, 2, (6, 8)).astype(np.float32)
    table = ratio_table(config, division)
    whole = Iustfm(config, region, mean_ratio, division, table=table).predict(coarse, target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thermoscale.pipelines.iustfm.BLOCK_PIXELS", 100)  # else so small a window is one thread's
        part = Iustfm(config, region, mean_ratio, division, table=table, threads=2).predict(
            coarse, target, window=window
        )
    for name in ("lst", "spread_k", "iqr_k", "n_triples", "flags"):
        crop = whole[name][row : row + window[2], col : col + window[3]]
        np.testing.assert_array_equal(part[name], crop)


def test_lines_made_anew_for_every_block_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    series = linear_series()
    region, config, target = tiny_region(series), tiny_iustfm_config(), series.coarse_time[2]
    table = ratio_table(config, division)
    kept = Iustfm(config, region, mean_ratio, division, table=table).predict(series.coarse_at(target), target)
    monkeypatch.setattr("thermoscale.pipelines.iustfm_weighting.KEPT_BYTES", 0)
    anew = Iustfm(config, region, mean_ratio, division, table=table).predict(series.coarse_at(target), target)
    np.testing.assert_array_equal(anew["lst"], kept["lst"])


def test_a_prepared_pipeline_gives_the_same_and_does_not_look_at_the_whole_library_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    series = linear_series()
    region, config, target = tiny_region(series), tiny_iustfm_config(), series.coarse_time[2]
    unprepared = Iustfm(config, region, mean_ratio, division).predict(series.coarse_at(target), target)
    pipeline = Iustfm(config, region, mean_ratio, division)
    pipeline.prepare()
    monkeypatch.delattr(Library, "_pieces")
    prepared = pipeline.predict(series.coarse_at(target), target)
    np.testing.assert_array_equal(prepared["lst"], unprepared["lst"])


def test_windows_of_one_target_ask_dynet_once() -> None:
    series = linear_series()
    region, config, target = tiny_region(series), tiny_iustfm_config(), series.coarse_time[2]
    coarse, calls = series.coarse_at(target), []

    def counted(inputs: Any) -> dict[str, Array]:
        calls.append(len(inputs["alpha"]))
        return mean_ratio(inputs)

    pipeline = Iustfm(config, region, counted, division, remembered=2)
    first = pipeline.predict(coarse, target)
    again = pipeline.predict(coarse.copy(), target, window=(3, 4, 5, 6))
    assert len(calls) == 1
    np.testing.assert_array_equal(again["lst"], first["lst"][3:8, 4:10])
    pipeline.predict(coarse + 1, target)
    pipeline.predict(coarse, target, mode="closed_form")
    assert len(calls) == 3  # and the first one is now the oldest, forgotten
    pipeline.predict(coarse, target)
    assert len(calls) == 4


def test_without_memory_a_network_in_training_is_asked_again() -> None:
    series = linear_series()
    shift = [0.0]

    def moving(inputs: Any) -> dict[str, Array]:
        return {"alpha_hcr": mean_ratio(inputs)["alpha_hcr"] + np.float32(shift[0])}

    pipeline = Iustfm(tiny_iustfm_config(), tiny_region(series), moving, division)
    target = series.coarse_time[2]
    before = pipeline.predict(series.coarse_at(target), target)["lst"]
    shift[0] = 0.5
    assert np.abs(pipeline.predict(series.coarse_at(target), target)["lst"] - before).min() > 0.1


def test_a_network_too_rough_for_a_table_is_served_directly_and_said(caplog: pytest.LogCaptureFixture) -> None:
    def rough(inputs: Any) -> dict[str, Array]:
        return {"delta": np.where(np.floor(inputs["distance"] * 37) % 2, 1.0, 0.0).astype(np.float32)}

    assert ratio_table(CONFIG, rough) is None
    assert "errs by 1" in caplog.text
    assert "served directly" in caplog.text


def test_a_range_that_holds_the_pole_gives_no_table(caplog: pytest.LogCaptureFixture) -> None:
    open_guards = replace(GUARDS, min_abs_one_plus_alpha=0.0)
    assert ratio_table(replace(CONFIG, guards=open_guards, range_a2_positive=(0.0, 1.0)), curved) is None
    assert "the pole" in caplog.text
    assert ratio_table(replace(CONFIG, range_a2_positive=(0.0, 1.0)), curved) is not None


def test_ratios_clipped_to_a_range_inside_the_guard_stay_exact() -> None:
    """All of the training range lies nearer to the pole than the guard: ratios from outside are clipped into it."""
    config = replace(CONFIG, range_a2_positive=(0.02, 0.1), range_a2_negative=(-0.1, -0.02), range_distance=(0.1, 1.0))
    table = ratio_table(config, division)
    assert table is not None
    np.testing.assert_allclose(table.at(np.array([0.5, 1.0]), np.array([0.1, -0.1])), [[5, 10], [-5, -10]], rtol=1e-5)


def test_the_error_of_a_table_is_known() -> None:
    assert TABLE is not None
    assert 0.0 <= TABLE.error_k <= 0.01


def test_guards_follow_the_unit_of_the_quantity() -> None:
    config = replace(CONFIG, quantity="reflectance", library_step=1e-4)
    assert config.physical.kelvin == 0.01 * LST.kelvin
    table = ratio_table(replace(config, range_distance=(0.001, 0.2)), division)
    assert table is not None
    assert table.error_k <= 1e-4


def test_flag_bits_come_only_from_triples_that_answer() -> None:
    """Clipped ratios of a triple that a guard forbids leave no trace."""
    rng = np.random.default_rng(1)
    region = place(rng, 0.0)
    library = stored_library(region, 0.01)
    alpha_hcr = np.full((len(TRIPLES), N_HCR), 5.5, np.float32)
    fine = region.library_fine.copy()
    fine[:] = 28500
    region = replace(region, library_fine=fine)
    library = stored_library(region, 0.01)
    plan = Plan(library, TRIPLES, "rationet", alpha_hcr, np.zeros(13, np.uint8), make_tabled(CONFIG, alpha_hcr, TABLE))
    got = predict_window(CONFIG, region, plan, curved, Window(0, 0, *SHAPE), threads=1, most_pixels=50)
    assert not (got["flags"] & (CLIPPED_TO_TRAINING_RANGE | FALLBACK_USED)).any()
    assert np.isnan(got["lst"]).all()
