"""Coarse scenes before ratios are taken: left out, checked, made comparable."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series
from thermoscale.geo.rasters import read_raster
from thermoscale.numerics.bias import BiasRule
from thermoscale.numerics.grids import area_mean, regular_index
from thermoscale.pipelines.iustfm import Iustfm, Region, encode_library
from thermoscale.pipelines.iustfm_notes import UNTRAINED
from thermoscale.pipelines.library import own_library, stored_library
from thermoscale.testing.bundles import linear_series, tiny_iustfm_config, tiny_region

SERIES = linear_series()
CONFIG = tiny_iustfm_config(mode="closed_form")
TARGET = SERIES.coarse_time[2]
# The cell means of the tiny world are nearly alike, and the rules need some contrast to judge: 8 K from west to east.
CONTRAST = np.linspace(-4.0, 4.0, SERIES.coarse.shape[2])
FLAT = tiny_region(SERIES)
REGION = replace(
    FLAT,
    library_fine=(FLAT.library_fine + np.rint(100 * np.repeat(CONTRAST, 8)).astype(int)).astype(np.uint16),
    library_coarse=(FLAT.library_coarse + np.rint(100 * CONTRAST).astype(int)).astype(np.uint16),
)
COARSE = (SERIES.coarse_at(TARGET) + CONTRAST).astype(np.float32)
LAW = settings(max_examples=25, deadline=None)
OFFSETS = st.lists(st.floats(-6, 6).map(lambda k: round(k, 2)), min_size=5, max_size=5)


def predict(region: Region = REGION, coarse: Array = COARSE, time: str = TARGET, **options: Any) -> dict[str, Any]:
    return Iustfm(CONFIG, region, None, None).predict(coarse, time, **options)


def moved(offsets: list[float]) -> Region:
    """The region with an offset added to the coarse scene of every library date."""
    codes = REGION.library_coarse.astype(np.int64) + np.rint(np.array(offsets) * 100).astype(int)[:, None, None]
    return replace(REGION, library_coarse=codes.astype(np.uint16))


def shuffled(dates: list[int]) -> Region:
    """The region with the coarse scenes of ``dates`` of other ground."""
    rng = np.random.default_rng(3)
    coarse = REGION.library_coarse.copy()
    for date in dates:
        coarse[date] = 100 * rng.normal(290, 3, coarse[date].shape)
    return replace(REGION, library_coarse=coarse)


def finding(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in result["facts"]["findings"] if item["name"] == name)


@LAW
@given(OFFSETS)
def test_an_offset_of_single_library_dates_changes_nothing_but_what_is_expected_of_the_target(offsets):
    """Each date is freed of its own; the target gets the median of those that were added, whatever they were."""
    plain = predict()
    biased = predict(moved(offsets), COARSE + np.float32(np.median(offsets)))
    np.testing.assert_allclose(biased["lst"], plain["lst"], atol=0.06)
    assert biased["facts"]["bias_applied"] == pytest.approx(-np.median(offsets), abs=0.02)
    assert set(biased["facts"]["bias"]["library"]) == set(REGION.library_time)


def test_an_offset_of_the_target_alone_is_not_corrected_because_nothing_could_show_it():
    lst = predict(coarse=COARSE + np.float32(2.0))["lst"]
    assert float(np.nanmedian(lst - predict()["lst"])) == pytest.approx(2.0, abs=0.3)


def test_disagreement_of_the_dates_is_reported():
    bias = predict(moved([0.0, 1.0, 2.0, 3.0, 4.0]))["facts"]["bias"]
    assert bias["n_dates"] == 5
    assert bias["spread_k"] == pytest.approx(np.std([0, 1, 2, 3, 4], ddof=1), abs=0.02)


def test_a_library_date_whose_images_contradict_each_other_takes_no_part_and_is_named():
    result = predict(shuffled([1]))
    kept = [pair for pair in predict()["dates_used"] if REGION.library_time[1] not in pair]
    assert result["dates_used"] == kept
    np.testing.assert_allclose(result["lst"], predict(triples=kept)["lst"])
    warning, untrained = result["facts"]["warnings"]
    assert untrained == UNTRAINED
    assert REGION.library_time[1] in warning
    assert "needed 0.5" in warning
    with pytest.raises(Undetermined, match=REGION.library_time[1]):
        predict(shuffled([1]), suspects="refuse")


def test_without_a_trusted_triple_there_is_no_answer():
    with pytest.raises(Undetermined, match="does not show what its fine scene shows"):
        predict(shuffled([0, 1]))
    with pytest.raises(Undetermined, match=REGION.library_time[1]):
        predict(shuffled([1]), triples=[(REGION.library_time[1], REGION.library_time[3])])


def test_dates_outside_the_triples_are_not_even_looked_at():
    first, last = REGION.library_time[0], REGION.library_time[3]
    plain, other = (predict(region, triples=[(first, last)]) for region in (REGION, shuffled([1, 2, 4])))
    np.testing.assert_array_equal(plain["lst"], other["lst"])
    assert plain["facts"] == other["facts"]


def test_a_target_of_other_ground_is_answered_with_a_warning_or_refused():
    strange = np.random.default_rng(5).normal(290, 3, COARSE.shape).astype(np.float32)
    result = predict(coarse=strange)
    assert finding(result, "pattern")["passed"] is False
    assert f"coarse scene of {TARGET}, pattern: correlation" in result["facts"]["warnings"][0]
    assert predict()["facts"]["warnings"] == [UNTRAINED]
    with pytest.raises(Undetermined, match="pattern: correlation"):
        predict(coarse=strange, suspects="refuse")


def test_too_few_cells_to_know_a_bias_means_none_is_applied():
    series = linear_series(fine_shape=(16, 16), scale_factor=8)
    result = Iustfm(CONFIG, tiny_region(series), None, None).predict(series.coarse_at(TARGET), TARGET)
    facts = result["facts"]
    assert (facts["bias_applied"], facts["bias"]["n_dates"], facts["bias"]["spread_k"]) == (0.0, 0, None)


def test_a_date_with_too_few_cells_gets_the_bias_of_the_others():
    biased = moved([-2.0] * 5)
    coarse = biased.library_coarse.copy()
    coarse[1].ravel()[5:] = 0
    facts = predict(replace(biased, library_coarse=coarse), COARSE - np.float32(2.0))["facts"]
    assert facts["bias"]["n_dates"] == 4
    assert facts["bias_applied"] == pytest.approx(2.0, abs=0.02)


def test_the_smallest_baseline_is_the_callers_choice():
    usual = predict()["dates_used"]
    fewer = predict(min_baseline_k=13.0)["dates_used"]
    assert [pair for pair in usual if pair in fewer] == fewer
    assert 0 < len(fewer) < len(usual)
    assert predict()["dates_used"] == usual
    with pytest.raises(Undetermined, match="baseline of 400"):
        predict(min_baseline_k=400.0)
    with pytest.raises(InvalidInput, match="min_baseline_k"):
        predict(min_baseline_k=-1.0)


def test_plans_are_remembered_for_each_choice_apart():
    remembering = Iustfm(CONFIG, shuffled([1]), None, None, remembered=4)
    for options in ({}, {"min_baseline_k": 13.0}, {}):
        once = remembering.predict(COARSE, TARGET, **options)
        fresh = predict(shuffled([1]), **options)
        assert (once["dates_used"], once["facts"]) == (fresh["dates_used"], fresh["facts"])
    with pytest.raises(Undetermined):
        remembering.predict(COARSE, TARGET, suspects="refuse")


def test_an_unknown_choice_is_refused():
    with pytest.raises(InvalidInput, match="suspects is 'ignore', needed one of"):
        predict(suspects="ignore")


@LAW
@given(st.integers(0, 99), st.floats(0, 0.8))
def test_cell_means_in_pieces_are_area_means(seed, gaps):
    rng = np.random.default_rng(seed)
    fine = SERIES.fine.copy()
    fine[rng.random(fine.shape) < gaps] = np.nan
    index = SERIES.coarse_index.copy()
    index[rng.random(index.shape) < 0.1] = -1
    region = replace(REGION, coarse_index=index, library_fine=encode_library(fine, CONFIG.library_step))
    library = stored_library(region, CONFIG.library_step)
    means = area_mean(library.fine_at(library.times[0]), index, region.coarse_shape)
    np.testing.assert_allclose(library._cell_means(library.times[0], index), means, rtol=1e-6)


@pytest.mark.data
def test_the_orbit_seam_of_yanco_never_poisons_a_result_in_silence(data_folder):
    """As a library date it is left out, as the target it is named. The fine image of 02-18 is a stand-in."""
    folder, index = data_folder / "yanco_100m", regular_index((40, 40), (400, 400))
    days = ("20160205", "20160218", "20160308")
    times = [f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in days]
    coarse = [area_mean(read_raster(folder / f"MOD11A1_LST_cloudrm_{d}.tif").values[0], index, (40, 40)) for d in days]
    names = "Landsat_LST_cloudrm_20160205.tif", "fused_result.tif", "Landsat_LST_cloudrm_20160308.tif"
    fine = [read_raster(folder / name).values[0] for name in names]
    scenes = {"coarse": np.stack(coarse), "coarse_time": times, "coarse_index": index}

    def series(*dates: int) -> Series:
        return Series.from_arrays(
            {**scenes, "fine": np.stack([fine[i] for i in dates]), "fine_time": [times[i] for i in dates]}
        )

    library = series(0, 1)
    labels = (np.argsort(np.argsort(np.nan_to_num(fine[0]).ravel())) * 4 // fine[0].size).reshape(400, 400)
    place = Region(
        labels=labels.astype(np.int32),
        coarse_index=index,
        slots=np.arange(1600, dtype=np.int32),
        clips=np.array([[0, 0, 400, 400]], np.int32),
        library_time=library.fine_time,
        library_coarse=encode_library(library.coarse[:2], 0.01),
        library_fine=encode_library(library.fine, 0.01),
    )
    pipeline = Iustfm(replace(CONFIG, n_hcr=4, m_max=1600), place, None, None)
    with pytest.raises(Undetermined, match=r"library date 2016-03-08T12:00Z is left out.*correlation -0.0"):
        pipeline.predict(None, times[1], series=series(0, 2))
    result = pipeline.predict(coarse[2], times[2], order="past_only")
    assert finding(result, "seam")["passed"] is False
    assert any("2016-03-08T12:00Z, seam" in warning for warning in result["facts"]["warnings"])
    with pytest.raises(Undetermined, match="seam"):
        pipeline.predict(coarse[2], times[2], order="past_only", suspects="refuse")
    kept = own_library(series(0, 1, 2), place, "lst")
    assert kept.bias_of(kept.times[0], index, BiasRule()).correlation > 0.7
