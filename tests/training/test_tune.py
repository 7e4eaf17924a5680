"""Tuning: strict search spaces, a study that survives any kill, failed trials that are marked."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.formats import Pairs, Series
from thermoscale.geo.datasets import write_pairs, write_series
from thermoscale_train import tune_report
from thermoscale_train.cli import main
from thermoscale_train.config import (
    CONFIG_FOLDER,
    AmunSettings,
    IustfmSettings,
    load_amun_settings,
    load_iustfm_settings,
)
from thermoscale_train.tune_problem import DYNET_STATE, Problem, as_table, to_toml
from thermoscale_train.tune_space import KINDS, known_parameters, read_space, value_of, with_values
from thermoscale_train.tune_study import Study, Trial
from thermoscale_train.tune_trial import Result, locked, read_result, read_scores, run_trial

SEARCH = """
[network.hidden]
range = [4, 16]
scale = "log"

[samples.definition]
choices = ["ratio_of_sums", "mean_of_ratios"]

[training.learning_rate]
range = [1e-4, 1e-1]
scale = "log"
"""
TRIALS = 3


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    series: Series,
    pairs: Pairs,
    iustfm_settings: IustfmSettings,
    amun_settings: AmunSettings,
) -> Path:
    """Data sets, known settings and a search space, all tiny."""
    folder = tmp_path_factory.mktemp("tune")
    write_series(folder / "series.npz", series.select_fine(series.fine_time[::2]))
    write_pairs(folder / "pairs.npz", pairs)
    long = replace(iustfm_settings.dynet.training, steps=30, evaluate_every=2)
    (folder / "dynet.toml").write_text(to_toml(as_table(iustfm_settings.dynet), "tiny"))
    (folder / "long.toml").write_text(to_toml(as_table(replace(iustfm_settings.dynet, training=long)), "longer"))
    (folder / "ratio_net.toml").write_text(to_toml(as_table(iustfm_settings.ratio_net), "tiny"))
    (folder / "amun.toml").write_text(to_toml(as_table(amun_settings), "tiny"))
    (folder / "search.toml").write_text(SEARCH)
    return folder


def tune_command(folder: Path, out: Path, *more: str) -> list[str]:
    """Of a study of DyNet whose trials take long enough to be killed in their middle."""
    files = ("--series", "series.npz"), ("--config", "long.toml"), ("--search", "search.toml")
    paths = [part for option, name in files for part in (option, str(folder / name))]
    return ["tune", "dynet", *paths, "--trials", str(TRIALS), "--out", str(out), "--json", *more]


@pytest.mark.parametrize("network", KINDS)
def test_the_shipped_search_spaces_hold_the_shipped_settings(network: str) -> None:
    known = Problem(network, Path(), 0).known()
    space = read_space(CONFIG_FOLDER / f"search_{network}.toml", network, known)
    assert with_values(known, space, known_parameters(known, space)) == known
    for dimension in space:
        value = value_of(known, dimension.key)
        assert dimension.decode(dimension.encode(value)) == value


@pytest.mark.parametrize("network", KINDS)
def test_settings_written_are_the_settings_read(tmp_path: Path, network: str) -> None:
    (tmp_path / "s.toml").write_text(to_toml(Problem(network, Path(), 0).known(), "a comment\nof two lines"))
    if network == "amun":
        assert load_amun_settings(tmp_path / "s.toml") == load_amun_settings()
    else:
        assert load_iustfm_settings(**{network: tmp_path / "s.toml"}) == load_iustfm_settings()


scores = st.lists(st.tuples(st.floats(0.1, 9.0), st.floats(0.1, 9.0)), min_size=1, max_size=12)


@given(scores)
def test_every_trial_is_on_the_pareto_front_or_beaten_by_one_that_is(scores: list[tuple[float, float]]) -> None:
    trials = [Trial(i, "completed", {}, *score, "") for i, score in enumerate(scores)]
    front = tune_report.pareto(trials)
    points = [(trial.rmse, trial.latency_ms) for trial in front]
    for trial in trials:
        assert any(rmse <= (trial.rmse or 0) and ms <= (trial.latency_ms or 0) for rmse, ms in points)
    assert [rmse for rmse, _ in points] == sorted(rmse for rmse, _ in points)
    assert all(later[1] < earlier[1] for earlier, later in pairwise(points))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("network.hidden", "network.breadth", r"network\.breadth is no setting of this fit; there are \['region"),
        ("network.hidden", "training.evaluate_every", r"cannot be tuned: trials are compared at the same steps"),
        ("[4, 16]", "[16, 4]", "range is .* needed two whole numbers, the lower first"),
        ("[4, 16]", "[4.5, 16]", "needed two whole numbers"),
        ("[4, 16]", "[32, 64]", r"network\.hidden is 8 in the known settings.*add it to the search space"),
        ("[1e-4, 1e-1]", "[0.0, 1e-1]", "a logarithmic one must start above 0"),
        ("[1e-4, 1e-1]", "[1e-4, inf]", "needed two finite numbers"),
        ('scale = "log"', 'scale = "cubic"', "scale is 'cubic', needed one of"),
        ('scale = "log"', "", r"missing keys \['scale'\]"),
        ('scale = "log"', 'scale = "log"\nstep = 2', r"unknown keys \['step'\]"),
        ("choices =", "range =", r"missing keys \['scale'\]"),
        ('["ratio_of_sums", "mean_of_ratios"]', '["ratio_of_sums"]', "two or more different values"),
        ('["ratio_of_sums", "mean_of_ratios"]', '["ratio_of_sums", 3]', "definition is 3, needed a value of type str"),
        ('choices = ["ratio_of_sums", "mean_of_ratios"]', 'range = [0, 1]\nscale = "linear"', "give choices"),
        ("[network.hidden]", "[network]\nhidden = 3\n[a]", "hidden is 3, needed a table"),
        ("[network.hidden]", "[network.hidden", "is not TOML"),
    ],
)
def test_a_wrong_search_space_is_refused_and_named(
    tmp_path: Path, folder: Path, old: str, new: str, named: str
) -> None:
    assert old in SEARCH
    (tmp_path / "search.toml").write_text(SEARCH.replace(old, new, 1))
    known = Problem("dynet", Path(), 0, folder / "dynet.toml").known()
    with pytest.raises(InvalidInput, match=named):
        read_space(tmp_path / "search.toml", "dynet", known)


def test_an_empty_search_space_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text("# nothing\n")
    with pytest.raises(InvalidInput, match="is empty"):
        read_space(tmp_path / "search.toml", "dynet", {})


def test_a_trial_that_breaks_leaves_its_reason_and_is_not_run_again(tmp_path: Path, folder: Path) -> None:
    problem = Problem("amun", folder / "pairs.npz", 0, valid_share=0.34, test_share=0.0)
    text = (folder / "amun.toml").read_text()
    (tmp_path / "settings.toml").write_text(text.replace("heads = 2", "heads = 3"))
    run_trial(problem, tmp_path)
    broken = read_result(tmp_path)
    assert broken is not None
    assert (broken.status, broken.reason) == ("failed", "InvalidInput: width 4 is not a multiple of heads 3")
    (tmp_path / "settings.toml").write_text(text)
    run_trial(problem, tmp_path)
    assert read_result(tmp_path) == broken


def test_a_trial_of_amun_is_scored_on_held_out_ground_and_can_be_stopped(tmp_path: Path, folder: Path) -> None:
    problem = Problem("amun", folder / "pairs.npz", 0, valid_share=0.34, test_share=0.0)
    (tmp_path / "settings.toml").write_text((folder / "amun.toml").read_text())
    (tmp_path / "stop").touch()
    run_trial(problem, tmp_path)
    result = read_result(tmp_path)
    assert result is not None
    assert result.status == "stopped"
    assert read_scores(tmp_path) == [(3, result.rmse)]
    assert result.latency_ms is not None
    assert result.latency_ms > 0
    assert not list(tmp_path.glob("*.pt"))


def test_a_trial_that_was_told_to_stop_at_its_last_step_is_completed(tmp_path: Path, folder: Path) -> None:
    problem = Problem("amun", folder / "pairs.npz", 0, valid_share=0.34, test_share=0.0)
    settings = (folder / "amun.toml").read_text().replace("evaluate_every = 3", "evaluate_every = 6")
    (tmp_path / "settings.toml").write_text(settings)
    (tmp_path / "stop").touch()
    run_trial(problem, tmp_path)
    result = read_result(tmp_path)
    assert result is not None
    assert result.status == "completed"
    assert read_scores(tmp_path) == [(6, result.rmse)]


def test_trials_of_ratio_net_share_one_dynet(tmp_path: Path, folder: Path) -> None:
    problem = Problem("ratio_net", folder / "series.npz", 0, dynet_config=folder / "dynet.toml")
    results = []
    for name in ("0000", "0001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.toml").write_text((folder / "ratio_net.toml").read_text())
        run_trial(problem, tmp_path / name)
        results.append(read_result(tmp_path / name))
        assert (tmp_path / DYNET_STATE).exists()
    assert results[0] is not None
    assert results[1] is not None
    assert results[0].status == "completed"
    assert results[0].rmse == results[1].rmse


def test_a_study_keeps_failures_and_scores_stops_what_is_behind_and_goes_on(tmp_path: Path, folder: Path) -> None:
    known = Problem("dynet", Path(), 0, folder / "dynet.toml").known()
    space = read_space(folder / "search.toml", "dynet", known)

    def opened() -> Study:
        return Study(tmp_path / "s.sqlite", space, known_parameters(known, space), seed=1, first_stop=2)

    study = opened()
    assert study.unfinished() == {0: known_parameters(known, space)}
    for step in (2, 4):
        assert study.record(0, step, 2.0 / step)
        assert not study.record(0, step, 2.0 / step)
    study.finish(0, Result("completed", 1.0, 0.5, 3.0))
    for number, rmse in enumerate((0.875, 0.75), start=1):
        proposed = study.propose(99)
        assert proposed is not None
        assert proposed[0] == number
        study.record(number, 2, rmse)
        study.finish(number, Result("completed", 1.0, rmse, 4.0))
    failing, half = study.propose(99), study.propose(99)
    assert failing is not None
    assert half is not None
    study.finish(failing[0], Result("failed", 1.0, reason="ValueError: heads"))
    study.record(half[0], 2, 5.0)
    before = study.trials

    study = opened()
    assert study.trials == before
    assert [trial.status for trial in before] == ["completed"] * 3 + ["failed", "running"]
    assert before[3].reason == "ValueError: heads"
    assert (before[0].rmse, before[0].latency_ms) == (0.5, 3.0)
    assert study.unfinished() == {half[0]: half[1]}
    assert not study.record(half[0], 2, 5.0)
    assert study.should_stop(half[0])
    study.finish(half[0], Result("stopped", 1.0, 5.0, 3.0))
    modelled = study.propose(99)
    assert modelled is not None
    assert modelled[1] not in [trial.parameters for trial in before]
    assert study.trials[4].status == "early_stopped"
    assert study.propose(len(study.trials)) is None


@pytest.fixture(scope="module")
def killed(folder: Path) -> tuple[Path, dict[str, list[tuple[int, float]]]]:
    """A tuning killed while a trial was in its middle: its folder, and what its unfinished trials had said."""
    out = folder / "killed"
    start = "from thermoscale_train.cli import main; main()"
    command = [sys.executable, "-c", start, *tune_command(folder, out)]
    leader = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 120
        while not _in_the_middle(out) and time.monotonic() < ends and leader.poll() is None:
            time.sleep(0.02)
        assert leader.poll() is None, "the tuning ended before it could be killed"
    finally:
        leader.send_signal(signal.SIGKILL)
        leader.wait()
    open_trials = [trial for trial in sorted((out / "trials").iterdir()) if trial.is_dir()]
    return out, {trial.name: read_scores(trial) for trial in open_trials if read_result(trial) is None}


def _in_the_middle(out: Path) -> bool:
    trials = [trial for trial in out.glob("trials/[0-9]*") if read_result(trial) is None]
    return any(len(read_scores(trial)) > 2 for trial in trials)


def test_a_killed_tuning_goes_on_and_nothing_is_lost_or_repeated(
    folder: Path,
    killed: tuple[Path, dict[str, list[tuple[int, float]]]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    out, said = killed
    done = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/result.json")}
    begun = {path: path.read_bytes() for path in out.glob("trials/*/settings.toml")}
    assert any(len(scores) > 2 for scores in said.values())

    assert main(tune_command(folder, out)) == 0
    report = json.loads(capsys.readouterr().out)

    assert [trial["index"] for trial in report["trials"]] == list(range(TRIALS))
    assert {trial["status"] for trial in report["trials"]} <= {"completed", "early_stopped"}
    assert len({json.dumps(trial["parameters"]) for trial in report["trials"]}) == TRIALS
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())
    assert all(path.read_bytes() == text for path, text in begun.items())
    for name, scores in said.items():
        assert read_scores(out / "trials" / name)[: len(scores)] == scores
    for trial in report["trials"]:
        last = read_scores(out / "trials" / f"{trial['index']:04d}")[-1]
        assert trial["rmse"] == pytest.approx(last[1])
    first, known = report["trials"][0], as_table(load_iustfm_settings(folder / "long.toml").dynet)
    assert first["parameters"]["network.hidden"] == known["network"]["hidden"]
    name = next(name for name, scores in said.items() if scores)
    whole = Problem("dynet", folder / "series.npz", 0).score(
        out / "trials" / name / "settings.toml", tmp_path, lambda _step, _best: False
    )
    assert report["trials"][int(name)]["rmse"] == pytest.approx(whole["rmse"], rel=1e-4)
    assert load_iustfm_settings(out / "best.toml").dynet.network.m_max == known["network"]["m_max"]
    assert (out / "convergence.png").stat().st_size > 5000


def test_a_finished_tuning_is_only_reported_and_another_problem_is_refused(
    folder: Path,
    killed: tuple[Path, dict[str, list[tuple[int, float]]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, _ = killed
    assert main(tune_command(folder, out, "--seed", "5")) == 2
    assert "other seed; continue it with what problem.json says" in capsys.readouterr().err
    with (
        locked(out / "lock", wait=False),
        pytest.raises(Unavailable, match="another tuning"),
        locked(out / "lock", wait=False),
    ):
        pass
