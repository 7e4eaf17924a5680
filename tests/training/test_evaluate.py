"""Evaluate: laws of the result, then what is held out, then refusals."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from thermoscale.errors import InvalidInput, ThermoscaleError, Undetermined
from thermoscale.formats import Pairs, Series
from thermoscale.geo.datasets import write_pairs, write_series
from thermoscale.numerics.bias import BiasRule
from thermoscale.testing.bundles import linear_series, write_tiny_amun, write_tiny_iustfm
from thermoscale.testing.worlds import make_pairs, make_series
from thermoscale_train import evaluate_target as fusion
from thermoscale_train.baselines import DOWNSCALING, FUSION
from thermoscale_train.config import IustfmSettings, load_iustfm_settings
from thermoscale_train.downscaling_models import FITTED
from thermoscale_train.evaluate import add_arguments, choose_methods, run
from thermoscale_train.evaluate_amun import METHODS as DOWNSCALING_METHODS
from thermoscale_train.evaluate_amun import evaluate_amun
from thermoscale_train.evaluate_iustfm import METHODS as FUSION_METHODS
from thermoscale_train.evaluate_iustfm import Budget, evaluate_iustfm
from thermoscale_train.known_ground import known_ground, scene_digests
from thermoscale_train.scoring import load_schema, nulls_for_nan, score_case, table
from thermoscale_train.usable import UsableRule, usable_dates, why_unusable


def validate(result: dict[str, Any]) -> None:
    """Against the shipped schema, as the JSON text that people get."""
    jsonschema.validate(json.loads(json.dumps(result, allow_nan=False)), load_schema())


def small_series(**options: Any) -> Series:
    size = {"fine_shape": (36, 36), "scale_factor": 6, "n_dates": 15}
    return make_series(2, **{**size, **options}).series


def few_steps() -> IustfmSettings:
    """Hardly any training: the path is tested, not the skill."""
    shipped = load_iustfm_settings()
    dynet, ratio_net = shipped.dynet, shipped.ratio_net
    few = {"steps": 4, "evaluate_every": 4}
    return IustfmSettings(
        replace(
            dynet,
            region=replace(dynet.region, n_hcr=5),
            samples=replace(dynet.samples, pool=64),
            training=replace(dynet.training, **few),
        ),
        replace(
            ratio_net,
            samples=replace(ratio_net.samples, pool=500, triples=4),
            training=replace(ratio_net.training, **few),
        ),
    )


@pytest.fixture(scope="module")
def judged() -> dict[str, Any]:
    """Every fusion method on a small world, leave-one-date-out."""
    return evaluate_iustfm(small_series(cloud_share=0.1), settings=few_steps())


def test_every_method_is_there_and_the_schema_holds(judged: dict[str, Any]) -> None:
    validate(judged)
    assert list(judged["methods"]) == list(FUSION_METHODS)


def test_a_value_of_a_method_is_the_mean_of_its_cases(judged: dict[str, Any]) -> None:
    for method, means in judged["methods"].items():
        cases = [case for case in judged["cases"] if case["method"] == method]
        for key, mean in means.items():
            values = [case[key] for case in cases if case[key] is not None]
            assert mean == (pytest.approx(np.mean(values)) if values else None)


def test_all_methods_are_scored_on_one_mask(judged: dict[str, Any]) -> None:
    for time in judged["settings"]["targets"]:
        assert len({case["n_pixels"] for case in judged["cases"] if case["id"] == time}) == 1


def test_targets_are_the_interior_usable_dates(judged: dict[str, Any]) -> None:
    assert judged["settings"]["targets"] == sorted(judged["dates_used"])[1:-1]
    assert not set(judged["dates_used"]) & {item["id"] for item in judged["excluded"]}


def test_only_methods_with_a_spread_are_scored_for_it(judged: dict[str, Any]) -> None:
    assert judged["methods"]["bilinear"]["crps"] is None
    assert judged["methods"]["iustfm_closed_form"]["crps"] is not None


def test_the_target_takes_part_in_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    series = small_series()
    seen: list[tuple[str, Series]] = []

    def spy(library: Series, coarse: Any, time: str) -> Any:
        seen.append((time, library))
        return FUSION["persistence"](library, coarse, time)

    monkeypatch.setattr(fusion, "FUSION", {"persistence": spy})
    evaluate_iustfm(series, methods=["persistence"], settings=few_steps())
    assert seen
    for time, library in seen:
        assert time not in library.fine_time
        assert time not in library.coarse_time


def test_adaptive_alone_trains_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any, **__: Any) -> Any:
        raise AssertionError("a network was trained")

    monkeypatch.setattr("thermoscale_train.fusion_models.fit_iustfm", train)
    methods = evaluate_iustfm(small_series(n_dates=12), methods=["adaptive"], settings=load_iustfm_settings())[
        "methods"
    ]
    assert methods["adaptive"]["coverage"] == 1.0
    shares = [methods["adaptive"][f"spread_coverage_q{number}"] for number in (1, 2, 3, 4)]
    assert methods["adaptive"]["spread_coverage"] == pytest.approx(np.mean(shares), abs=0.01)


def test_every_date_is_a_target_when_asked_for_and_the_ends_have_unordered_triples() -> None:
    series, chosen = small_series(n_dates=12), ["ustfm", "iustfm_closed_form", "oracle_alpha", "estarfm"]
    judged = evaluate_iustfm(series, methods=chosen, settings=few_steps(), targets="every")
    validate(judged)
    assert judged["settings"]["targets"] == sorted(series.fine_time)
    first = {case["method"]: case for case in judged["cases"] if case["id"] == min(series.fine_time)}
    assert first["estarfm"]["coverage"] == 0.0
    for method in ("ustfm", "iustfm_closed_form", "oracle_alpha"):
        assert first[method]["n_triples"] > 0
        assert first[method]["coverage"] > 0.5


def test_undated_targets_stand_half_way_so_the_order_of_the_dates_tells_nothing() -> None:
    series = small_series(n_dates=9)
    times = series.fine_time
    turned = series.select_fine([times[1], times[2], times[0]])
    turned = replace(turned, fine_time=times, coarse=np.stack([series.coarse_at(time) for time in turned.fine_time]))
    turned = replace(turned, coarse_time=times, coarse_error=None, coarse_local_hour=None, fine_local_hour=None)
    methods = ["time_interp", "fdc_median", "starfm", "ustfm"]
    one, two = (
        evaluate_iustfm(one, methods=methods, settings=few_steps(), targets="undated") for one in (series, turned)
    )
    validate(one)
    assert one["settings"]["targets"] == list(times)
    for method in ("time_interp", "fdc_median", "starfm"):
        by_date = [[case["rmse"] for case in part["cases"] if case["method"] == method] for part in (one, two)]
        assert by_date[1] == pytest.approx([by_date[0][1], by_date[0][2], by_date[0][0]], rel=2e-3)


def test_the_target_of_undated_scenes_is_as_far_from_one_library_date_as_from_the_other() -> None:
    series = small_series(n_dates=9)
    for time in series.fine_time:
        half_way = fusion.dated_half_way(series, time)
        np.testing.assert_array_equal(half_way.fine_at(sorted(series.fine_time)[1]), series.fine_at(time))
        np.testing.assert_array_equal(half_way.coarse_at(sorted(series.fine_time)[1]), series.coarse_at(time))


def test_clusters_do_not_depend_on_the_target() -> None:
    """The oracle may see the truth of its ratios, but not through the HCRs."""
    series = small_series()
    time = series.fine_time[2]
    changed = replace(series, fine=series.fine.copy())
    changed.fine[2] += np.linspace(-9, 9, 36, dtype=np.float32)
    questions = fusion.Questions(("oracle_alpha",), few_steps(), UsableRule(), 0)
    first, second = (fusion.model_without(one, time, questions) for one in (series, changed))
    np.testing.assert_array_equal(first.labels, second.labels)


def test_refusing_pixels_never_pays() -> None:
    """A method that answers half the pixels perfectly is charged bilinear's error on the other half."""
    world = make_series(5, fine_shape=(36, 36), scale_factor=6)
    truth, coarse, index = world.truth[1], world.series.coarse[1], world.series.coarse_index
    half = truth.copy()
    half[:18] = np.nan
    bilinear = DOWNSCALING["bilinear"](coarse, None, index)
    common = {"coarse": coarse, "coarse_index": index, "psnr_range": 400.0, "seconds": 0.0}
    refusing = score_case("t", "half", half, truth, **common)
    squares = (bilinear[:18] - truth[:18]).astype(np.float64) ** 2
    assert refusing["coverage"] == 0.5
    assert refusing["rmse"] == pytest.approx(np.sqrt(squares.sum() / truth.size), rel=1e-5)
    assert refusing["rmse_valid"] == 0.0


def test_a_perfect_prediction_has_no_finite_psnr_and_json_says_null() -> None:
    world = make_series(5, fine_shape=(36, 36), scale_factor=6)
    case = score_case(
        "t",
        "perfect",
        world.truth[1],
        world.truth[1],
        coarse=world.series.coarse[1],
        coarse_index=world.series.coarse_index,
        psnr_range=400.0,
        seconds=0.0,
    )
    assert nulls_for_nan(case)["psnr"] is None
    assert case["rmse"] == 0.0


def test_where_nothing_is_determined_i_ustfm_pays_with_bilinear() -> None:
    """Scenes of one mean offer no baseline, hence no triple: no answer, which is charged like bilinear."""
    series = small_series(n_dates=9)
    means = series.fine.mean(axis=(1, 2), keepdims=True)
    series = replace(series, fine=(series.fine - means + 290.0).astype(np.float32))
    methods = evaluate_iustfm(series, settings=few_steps())["methods"]
    for name in ("iustfm_closed_form", "iustfm_rationet"):
        assert methods[name]["coverage"] == 0.0
        assert methods[name]["rmse"] == methods["bilinear"]["rmse"]
        assert methods[name]["rmse_valid"] is None


def test_what_a_baseline_cannot_determine_is_charged_like_bilinear(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(library: Series, coarse: Any, time: str) -> Any:
        raise Undetermined("no pair")

    monkeypatch.setattr(fusion, "FUSION", {"bilinear": FUSION["bilinear"], "starfm": refuses})
    methods = evaluate_iustfm(small_series(), methods=["bilinear", "starfm"], settings=few_steps())["methods"]
    assert methods["starfm"]["coverage"] == 0.0
    assert methods["starfm"]["rmse"] == methods["bilinear"]["rmse"]


def test_methods_of_triples_share_guards_and_say_how_many_triples_they_had(judged: dict[str, Any]) -> None:
    assert judged["settings"]["guards"]["min_baseline_k"] == few_steps().dynet.guards.min_baseline_k
    with_triples = {case["method"] for case in judged["cases"] if case["n_triples"] is not None}
    assert with_triples == {"ustfm", "iustfm_closed_form", "iustfm_rationet", "oracle_alpha"}
    for time in judged["settings"]["targets"]:
        counts = {case["n_triples"] for case in judged["cases"] if case["id"] == time} - {None}
        assert len(counts) == 1


def test_a_long_baseline_guard_silences_all_methods_of_triples_alike() -> None:
    shipped = few_steps()
    far = replace(shipped, dynet=replace(shipped.dynet, guards=replace(shipped.dynet.guards, min_baseline_k=80.0)))
    methods = evaluate_iustfm(small_series(), methods=["ustfm", "iustfm_closed_form", "oracle_alpha"], settings=far)
    assert {scores["coverage"] for scores in methods["methods"].values()} == {0.0}


def test_processes_change_no_score() -> None:
    one, two = (
        evaluate_iustfm(small_series(), methods=["persistence", "oracle_alpha"], settings=few_steps(), processes=n)
        for n in (1, 2)
    )
    for first, second in zip(one["cases"], two["cases"], strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_a_budget_shortens_and_never_lengthens_a_fit() -> None:
    series, budget = small_series(), Budget(dynet_steps=3, ratio_net_steps=900, evaluate_every=400)
    short = budget.applied(few_steps(), series)
    assert (short.dynet.training.steps, short.dynet.training.evaluate_every) == (3, 3)
    assert (short.ratio_net.training.steps, short.ratio_net.training.evaluate_every) == (4, 4)
    assert (short.dynet.network.m_max, short.dynet.network.h_max) == (36, 5)
    judged = evaluate_iustfm(series, methods=["iustfm_closed_form"], settings=few_steps(), budget=budget)
    assert judged["settings"]["budget"]["dynet_steps"] == 3
    assert set(judged["settings"]["fits"]) == set(judged["settings"]["targets"])


def test_three_dates_are_judged_without_networks() -> None:
    result = evaluate_iustfm(small_series(n_dates=9), settings=few_steps())
    methods = result["methods"]
    assert methods["iustfm_closed_form"]["coverage"] > 0.5
    assert methods["iustfm_rationet"]["coverage"] == 0.0
    for case in result["cases"]:
        assert ("undetermined" in case) == (case["coverage"] == 0.0)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c, f: (c, np.where(np.arange(36) < 20, np.nan, f)), "fine coverage 0.444, needed 0.7"),
        (lambda c, f: (np.full_like(c, np.nan), f), "coarse coverage 0.000, needed 0.5"),
        (lambda c, f: (c[::-1, ::-1], f), "correlation of coarse and fine"),
        (lambda c, f: (np.full_like(c, 290.0), f), "correlation of coarse and fine 0.000, needed 0.5"),
    ],
)
def test_an_unusable_date_is_named_with_its_reason(spoil: Any, reason: str) -> None:
    series = small_series()
    time = series.fine_time[1]
    coarse, fine = series.coarse.copy(), series.fine.copy()
    date = series.coarse_time.index(time)
    coarse[date], fine[1] = spoil(coarse[date], fine[1])
    usable, excluded = usable_dates(replace(series, coarse=coarse, fine=fine), UsableRule())
    assert time not in usable
    assert [item.id for item in excluded] == [time]
    assert reason in excluded[0].reason


def test_a_pixel_that_no_date_has_counts_against_none() -> None:
    series = small_series()
    series.fine[:, :18] = np.nan
    assert usable_dates(series, UsableRule())[0] == list(series.fine_time)


def test_ground_too_uniform_for_a_correlation_is_usable_as_serving_uses_it() -> None:
    series = small_series()
    flat = (290.0 + 0.1 * (series.fine - series.fine.mean())).astype(np.float32)
    noise = np.random.default_rng(0).normal(290, 1, series.coarse.shape).astype(np.float32)
    assert usable_dates(replace(series, coarse=noise, fine=flat), UsableRule())[0] == list(series.fine_time)


def test_a_small_overlap_tells_nothing() -> None:
    series = small_series()
    reason = why_unusable(
        series.coarse[1], series.fine[0], series.coarse_index, UsableRule(pair=BiasRule(min_cells=40))
    )
    assert reason == "36 cells hold a coarse and a fine value, needed 40"


def test_the_real_series_has_eighteen_usable_dates(data_folder: Path) -> None:
    from thermoscale.geo.datasets import read_series

    usable, excluded = usable_dates(read_series(data_folder / "saltonsea_nir"), UsableRule())
    assert len(usable) == 18
    assert [item.id[:10] for item in excluded] == ["2020-11-26", "2020-12-12"]


def test_a_fusion_bundle_is_judged_on_dates_it_has_never_seen(tmp_path: Path) -> None:
    series = linear_series()
    bundle = write_tiny_iustfm(tmp_path / "iustfm")
    with pytest.raises(Undetermined, match="no target"):
        evaluate_iustfm(series, bundle=bundle)


@pytest.mark.parametrize("experiment", ["real", "simulated"])
def test_downscaling_results_hold_the_schema(experiment: str, tmp_path: Path) -> None:
    pairs = make_pairs(1, coarse_shape=(12, 12))
    only_ndvi = replace(pairs, factors=pairs.factors[:, :1], factor_names=("ndvi",), factor_units=("1",))
    bundle = write_tiny_amun(tmp_path / "amun")
    result = evaluate_amun(only_ndvi, bundle=bundle, experiment=experiment)
    validate(result)
    assert list(result["methods"]) == [name for name in DOWNSCALING_METHODS if name not in FITTED or name == "amun"]
    assert result["settings"]["experiment"] == experiment


def test_factors_are_given_to_the_bundle_by_name(tmp_path: Path) -> None:
    bundle = write_tiny_amun(tmp_path / "amun")
    assert "amun" in evaluate_amun(make_pairs(1, n_grounds=1, coarse_shape=(12, 12)), bundle=bundle)["methods"]
    pairs = make_pairs(1, n_grounds=1, coarse_shape=(12, 12))
    without = replace(pairs, factors=pairs.factors[:, 1:], factor_names=("elevation",), factor_units=("m",))
    with pytest.raises(InvalidInput, match="'ndvi'"):
        evaluate_amun(without, bundle=bundle)


def test_ground_that_a_bundle_was_trained_on_is_known_whatever_the_ids() -> None:
    pairs, others = make_pairs(1), make_pairs(2)
    training = {"train_scenes": [scene_digests(pairs)[0]], "valid_scenes": []}
    assert list(known_ground(pairs, training)) == [0, 1, 2]
    assert known_ground(others, training) == {}
    assert pairs.id == others.id


def test_without_a_bundle_or_folds_what_needs_a_fit_is_left_out() -> None:
    assert list(evaluate_amun(make_pairs(1))["methods"]) == [*DOWNSCALING, "tsharp"]


def test_closing_helps_when_the_coarse_scene_is_the_mean_of_the_truth() -> None:
    methods = evaluate_amun(make_pairs(1), experiment="simulated")["methods"]
    assert methods["bicubic_closed"]["rmse"] < methods["bicubic"]["rmse"] < methods["nearest"]["rmse"]


def test_the_command_prints_json_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "s.npz", small_series())
    write_pairs(tmp_path / "p.npz", make_pairs(1))
    for words in (
        [
            "iustfm",
            "--series",
            str(tmp_path / "s.npz"),
            "--leave-one-date-out",
            "--methods",
            "persistence,bilinear",
            "--processes",
            "1",
        ],
        ["amun", "--pairs", str(tmp_path / "p.npz"), "--experiment", "simulated"],
    ):
        assert command([*words, "--json", "--out", str(tmp_path / "r.json")]) == 0
        printed = json.loads(capsys.readouterr().out)
        validate(printed)
        assert json.loads((tmp_path / "r.json").read_text()) == printed
        assert command(words) == 0
        assert "rmse" in capsys.readouterr().out


def test_a_result_that_breaks_its_schema_is_kept_under_a_name_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pairs(tmp_path / "p.npz", make_pairs(1))
    monkeypatch.setattr("thermoscale_train.scoring.SCHEMA_VERSION", "one")
    with pytest.raises(ThermoscaleError, match=r"schema_version.*r\.invalid\.json"):
        command(
            ["amun", "--pairs", str(tmp_path / "p.npz"), "--methods", "bilinear", "--out", str(tmp_path / "r.json")]
        )
    assert not capsys.readouterr().out
    assert not (tmp_path / "r.json").exists()
    assert json.loads((tmp_path / "r.invalid.json").read_text())["schema_version"] == "one"


def command(words: list[str]) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_the_table_lists_the_best_method_first(judged: dict[str, Any]) -> None:
    first = table(judged).splitlines()[1].split()[0]
    assert judged["methods"][first]["rmse"] == min(scores["rmse"] for scores in judged["methods"].values())


def test_the_schema_refuses_what_is_not_a_result(judged: dict[str, Any]) -> None:
    for spoiled in (
        {**judged, "schema_version": 2},
        {**judged, "more": 1},
        {**judged, "pipeline": "amun"},
        {**judged, "methods": {"magic": judged["methods"]["bilinear"]}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validate(spoiled)


def test_undated_targets_refuse_what_needs_dates(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"\['fitfc'\].*nearest date"):
        evaluate_iustfm(small_series(), methods=["fitfc"], targets="undated")
    with pytest.raises(InvalidInput, match="neither a bundle nor stations"):
        evaluate_iustfm(small_series(), bundle=tmp_path, methods=["bilinear"], targets="undated")
    with pytest.raises(Undetermined, match="no target"):
        evaluate_iustfm(small_series(n_dates=6), methods=["bilinear"], targets="every")


def test_unknown_methods_are_refused_with_the_list() -> None:
    with pytest.raises(InvalidInput, match=r"\['sparrow'\].*persistence"):
        choose_methods("bilinear,sparrow", FUSION_METHODS)
    assert choose_methods("bilinear, bilinear", FUSION_METHODS) == ("bilinear",)


def test_amun_by_name_needs_a_bundle(tmp_path: Path) -> None:
    write_pairs(tmp_path / "p.npz", make_pairs(1))
    with pytest.raises(InvalidInput, match="--bundle"):
        command(["amun", "--pairs", str(tmp_path / "p.npz"), "--methods", "amun"])


def test_pairs_without_truth_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no fine scenes"):
        evaluate_amun(Pairs.from_arrays({"coarse": np.full((1, 4, 4), 290.0)}))


def test_a_series_on_other_grids_is_not_the_bundles(tmp_path: Path) -> None:
    bundle = write_tiny_iustfm(tmp_path / "iustfm")
    with pytest.raises(InvalidInput, match="the bundle was made for"):
        evaluate_iustfm(small_series(), bundle=bundle)


def test_a_bundle_of_the_other_pipeline_is_refused(tmp_path: Path) -> None:
    amun, iustfm = write_tiny_amun(tmp_path / "a"), write_tiny_iustfm(tmp_path / "i")
    with pytest.raises(InvalidInput, match="needed iustfm"):
        evaluate_iustfm(small_series(), bundle=amun)
    with pytest.raises(InvalidInput, match="needed amun"):
        evaluate_amun(make_pairs(1), bundle=iustfm)
