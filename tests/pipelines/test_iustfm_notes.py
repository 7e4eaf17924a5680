"""What a reply says about its own limits: HCRs without coarse evidence, extrapolation, order, networks, spread."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.pipelines.iustfm import Iustfm
from thermoscale.pipelines.iustfm_notes import UNCALIBRATED, UNTRAINED, HcrEvidence
from thermoscale.testing.bundles import division, linear_series, mean_ratio, tiny_iustfm_config, tiny_region

SERIES = linear_series()
CONFIG = tiny_iustfm_config()
TARGET = SERIES.coarse_time[2]
COARSE = SERIES.coarse_at(TARGET)
TIMES = SERIES.fine_time
BANDS = replace(tiny_region(SERIES), labels=np.repeat(np.arange(48, dtype=np.int32)[:, None] // 16, 64, 1))
"""Three HCRs, two rows of coarse cells each."""


def ask(region=None, *, dynet=mean_ratio, config=CONFIG, coarse=COARSE, time=TARGET, **options: Any) -> dict[str, Any]:
    pipeline = Iustfm(config, region or tiny_region(SERIES), dynet, None if dynet is None else division)
    return pipeline.predict(coarse, time, **options)


def without_rows(first: int, last: int) -> np.ndarray:
    coarse = COARSE.copy()
    coarse[first:last] = np.nan
    return coarse


@pytest.mark.parametrize("mode", ["rationet", "closed_form"])
def test_an_hcr_without_any_valid_cell_is_nan_there_counted_and_said(mode: str) -> None:
    result = ask(BANDS, coarse=without_rows(2, 4), mode=mode)
    empty = BANDS.labels == 1
    np.testing.assert_array_equal(np.isnan(result["lst"]), empty)
    assert not result["n_triples"][empty].any()
    assert result["facts"]["hcr_without_coarse"] == 1
    assert "1 of 3 HCRs (33.3% of their pixels) have no valid coarse cell" in result["facts"]["warnings"][0]


def test_one_valid_cell_of_an_hcr_is_enough() -> None:
    coarse = without_rows(2, 4)
    coarse[3, 5] = COARSE[3, 5]
    result = ask(BANDS, coarse=coarse)
    assert np.isfinite(result["lst"]).all()
    assert result["facts"]["hcr_without_coarse"] == 0
    assert result["facts"]["warnings"] == []


def test_a_gap_of_a_library_date_costs_the_hcr_the_triples_of_that_date_only() -> None:
    codes = BANDS.library_coarse.copy()
    codes[0, 2:4] = 0
    result = ask(replace(BANDS, library_coarse=codes))
    assert result["facts"]["hcr_without_coarse"] == 0
    assert (result["n_triples"][BANDS.labels == 1] == 3).all()
    assert (result["n_triples"][BANDS.labels != 1] == 6).all()


def test_evidence_is_held_by_any_share_of_a_cell_and_unused_labels_do_not_count() -> None:
    labels = BANDS.labels.copy()
    labels[0, 0] = 4  # one pixel of cell 0; label 3 has none
    evidence = HcrEvidence(replace(BANDS, labels=labels), 5)
    valid = np.zeros((2, 48), bool)
    valid[0, 0], valid[1, 47] = True, True
    held = evidence.held(valid)
    assert held.tolist() == [[True, False, False, False, True], [False, False, True, False, False]]
    count, (warning,) = evidence.without(held[0], "so what")
    assert count == 2
    assert warning.startswith("2 of 4 HCRs (66.7%")
    assert warning.endswith("so what")


@pytest.mark.parametrize(
    ("time", "options", "says"),
    [
        ("2021-01-14T10:30Z", {"order": "past_only"}, "all 5 library dates in use lie before .* nearest 213 days"),
        ("2019-12-15T10:30Z", {"order": "unordered"}, "all 5 library dates in use lie after .* nearest 31 days"),
        (TARGET, {"triples": [(TIMES[0], TIMES[1])]}, "all 2 library dates in use lie before"),
    ],
)
def test_dates_on_one_side_only_are_said_to_extrapolate(time: str, options: dict, says: str) -> None:
    (warning,) = ask(time=time, coarse=COARSE + 1.0, **options)["facts"]["warnings"][-1:]
    assert re.match(says, warning)


def test_the_order_is_the_one_in_use() -> None:
    assert ask()["facts"]["order"] == "ordered"
    assert ask(order="unordered")["facts"]["order"] == "unordered"
    assert ask(triples=[(TIMES[0], TIMES[3])])["facts"]["order"] == "named"


def test_a_triple_named_both_ways_round_is_one_triple() -> None:
    once = ask(triples=[(TIMES[0], TIMES[3])])
    twice = ask(triples=[(TIMES[3], TIMES[0]), (TIMES[0], TIMES[3])])
    assert twice["dates_used"] == once["dates_used"] == [[TIMES[0], TIMES[3]]]
    np.testing.assert_array_equal(twice["lst"], once["lst"])


def test_untrained_networks_and_a_spread_without_rehearsal_are_said() -> None:
    closed = replace(CONFIG, mode="closed_form", published="closed_form")
    assert ask(dynet=None, config=closed)["facts"]["warnings"] == [UNTRAINED]
    facts = ask(config=replace(CONFIG, spread_factors={"closed_form": 2.0}))["facts"]
    assert facts["warnings"] == [UNCALIBRATED]
    assert facts["spread_calibrated"] is False
    assert ask()["facts"]["spread_calibrated"] is True


def test_each_published_mode_has_its_own_spread_factor() -> None:
    noisy = COARSE + np.random.default_rng(2).normal(0, 1, COARSE.shape).astype(np.float32)
    config = replace(CONFIG, spread_factors={"rationet": 2.0, "closed_form": 3.0})
    for mode, factor in config.spread_factors.items():
        plain, scaled = (ask(config=one, coarse=noisy, mode=mode)["spread_k"] for one in (CONFIG, config))
        np.testing.assert_allclose(scaled, factor * plain, rtol=1e-5)


@pytest.mark.parametrize("order", ["ordered", "past_only"])
def test_named_triples_that_break_the_order_asked_for_are_refused(order: str) -> None:
    both = {"ordered": (TIMES[0], TIMES[3]), "past_only": (TIMES[0], TIMES[1])}
    assert ask(triples=[both[order]], order=order)["dates_used"] == [list(both[order])]
    (wrong,) = (pair for name, pair in both.items() if name != order)
    with pytest.raises(InvalidInput, match=rf"{wrong[0]}.*order is {order}, which they are not"):
        ask(triples=[wrong], order=order)


@pytest.mark.parametrize(
    ("time", "order", "hint"),
    [
        ("2019-01-01", None, "ask for unordered, or"),
        ("2021-01-01", None, "ask for unordered or past_only, or"),
        ("2019-01-01", "past_only", "ask for unordered, or"),
    ],
)
def test_only_what_could_help_is_suggested(time: str, order: Any, hint: str) -> None:
    with pytest.raises(Undetermined, match=hint):
        ask(time=time, order=order)
