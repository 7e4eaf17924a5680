"""The fusion study: what its worlds promise, what its verdict means, then the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thermoscale.formats import Series
from thermoscale.testing.fields import block_mean
from thermoscale_train import evaluate_target
from thermoscale_train.cli import main
from thermoscale_train.config import IustfmSettings
from thermoscale_train.fusion_study import KINDS, QUICK, Study, Which, fusion_study, goal, judge_world, make_world
from thermoscale_train.fusion_study import _row as row_of
from thermoscale_train.scoring import QUARTILES

CHEAP = "bilinear,fdc_median,adaptive,oracle_alpha"


def case(method: str, rmse: float) -> dict[str, Any]:
    """Hardly more than an RMSE."""
    spread = dict.fromkeys(("spread_coverage", *QUARTILES, "crps"), 0.5)
    return {"method": method, "rmse": rmse, "coverage": 1.0, "seconds": 0.0, **spread}


def test_the_goal_is_two_percent_or_three_hundredths_above_the_best_other_and_ten_percent_below_on_yearly_scenes() -> (
    None
):
    assert goal("mixed", 0.5) == pytest.approx(0.53)
    assert goal("mixed", 3.0) == pytest.approx(3.06)
    assert goal("yearly", 1.0) == pytest.approx(0.9)


def test_the_verdict_compares_with_the_best_other_but_never_with_the_ceiling() -> None:
    seeds = [
        [case("bilinear", 2.0), case("fdc_median", 1.0), case("adaptive", 0.8), case("oracle_alpha", 0.1)],
        [case("bilinear", 2.0), case("fdc_median", 1.4), case("adaptive", 1.6), case("oracle_alpha", 0.1)],
    ]
    verdict = row_of("classes", 0.5, seeds)["verdict"]
    assert (verdict["best_other"], verdict["best_other_rmse"]) == ("fdc_median", pytest.approx(1.2))
    assert verdict["adaptive"] == pytest.approx(1.2)
    assert verdict["met"]
    assert (verdict["seeds_met"], verdict["n_seeds"]) == (1, 2)
    assert not row_of("yearly", 0.0, seeds)["verdict"]["met"]


def test_without_adaptive_or_without_another_method_there_is_no_verdict() -> None:
    assert row_of("classes", 0.5, [[case("bilinear", 1.0)]])["verdict"] is None
    assert row_of("classes", 0.5, [[case("adaptive", 1.0), case("oracle_alpha", 1.0)]])["verdict"] is None


@pytest.mark.parametrize("world", KINDS)
def test_the_coarse_sensor_sees_the_cell_means_unless_its_grid_is_shifted(world: str) -> None:
    made = make_world(QUICK, Which(world, 0.0, 1))
    error = np.abs(made.series.coarse - block_mean(made.truth, 10)).max()
    assert (error < 1e-3) == (world != "shifted")


def test_no_method_is_given_a_target_or_its_coarse_scene_in_the_library(
    monkeypatch: pytest.MonkeyPatch, iustfm_settings: IustfmSettings
) -> None:
    seen: list[tuple[str, Series]] = []

    def spy(library: Series, coarse: Any, time: str) -> Any:
        seen.append((time, library))
        return library.fine[0]

    monkeypatch.setattr(evaluate_target, "FUSION", {"persistence": spy})
    study = Study(methods=("persistence",), side_px=40, n_dates=18, n_years=4, yearly_cells=4)
    for world in ("mixed", "yearly"):
        judge_world(study, iustfm_settings, Which(world, 0.5, 0))
    assert len(seen) == 3 + 2
    for time, library in seen:
        assert time not in library.coarse_time
        assert time not in library.fine_time


def test_networks_are_judged_in_the_same_rows(iustfm_settings: IustfmSettings) -> None:
    study = Study(
        **{**vars(QUICK), "seeds": (0,), "worlds": ("classes",), "methods": ("iustfm_closed_form", "adaptive")}
    )
    (row,) = fusion_study(study, settings=iustfm_settings)["rows"]
    assert row["methods"]["iustfm_closed_form"]["coverage"] > 0.5
    assert row["verdict"]["best_other"] == "iustfm_closed_form"


def test_the_command_prints_tables_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study.json"
    words = ["fusion-study", "--quick", "--seeds", "1", "--worlds", "yearly,shifted", "--methods", CHEAP]
    assert main([*words, "--processes", "1", "--out", str(out)]) == 0
    printed, written = capsys.readouterr().out, json.loads(out.read_text())
    assert [(row["world"], row["coarse_noise_k"]) for row in written["rows"]] == [("yearly", 0.0), ("shifted", 0.5)]
    for row in written["rows"]:
        assert set(row["methods"]) == set(CHEAP.split(","))
        assert row["verdict"]["best_other"] in ("bilinear", "fdc_median")
        assert 0.0 < row["spread"]["spread_coverage"] <= 1.0
        assert f"{row['verdict']['adaptive']:.3f}" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--worlds", "flat"], "unknown worlds"),
        (["--methods", "sparrow"], "unknown methods"),
        (["--seeds", "0"], "needed 1 or more"),
    ],
)
def test_wrong_words_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fusion-study", *words]) == 2
    assert message in capsys.readouterr().err
