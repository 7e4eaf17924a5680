"""Downscaling judged fold by fold: every scene once, by what was fitted to other ground."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs
from thermoscale.geo.datasets import write_pairs
from thermoscale.pipelines.amun import Amun
from thermoscale.testing.worlds import make_pairs
from thermoscale_train.checkpoint import AmunCheckpoint
from thermoscale_train.cli import main
from thermoscale_train.config import AmunSettings, ForestSettings, load_forest_settings
from thermoscale_train.data.folds import Folds, spatial_folds
from thermoscale_train.data.simulated import simulate_coarse
from thermoscale_train.downscaling_models import FITTED, DownscalingSettings, coarse_sigma, of_checkpoint
from thermoscale_train.evaluate_amun import METHODS, evaluate_amun
from thermoscale_train.networks import amun_context_network, amun_tile_network
from thermoscale_train.scoring import load_schema
from thermoscale_train.strata import Strata

FOREST = ForestSettings(trees=4, max_depth=8, min_leaf=5, max_features=0.5, windows_px=(3,), pixels_per_scene=300)


@pytest.fixture(scope="module")
def world() -> Pairs:
    return make_pairs(3, n_grounds=3, scenes_per_ground=2)


@pytest.fixture(scope="module")
def folds(world: Pairs) -> Folds:
    return spatial_folds(world, 3)


@pytest.fixture(scope="module")
def fitted(amun_settings: AmunSettings) -> DownscalingSettings:
    return DownscalingSettings(amun_settings, FOREST)


@pytest.fixture(scope="module")
def judged(world: Pairs, folds: Folds, fitted: DownscalingSettings) -> dict:
    return evaluate_amun(world, folds=folds, fitted=fitted)


def test_every_scene_is_judged_once_by_every_method(judged: dict, world: Pairs) -> None:
    told = sorted((case["id"], case["method"]) for case in judged["cases"])
    assert told == sorted((str(row), method) for row in range(len(world)) for method in METHODS)
    jsonschema.validate(json.loads(json.dumps(judged)), load_schema())


def test_forests_that_know_the_factors_beat_interpolation(judged: dict) -> None:
    assert judged["methods"]["random_forest"]["rmse"] < judged["methods"]["bicubic"]["rmse"]


def test_amun_is_judged_by_its_spread_too(judged: dict) -> None:
    means = judged["methods"]
    assert 0.0 <= means["amun"]["spread_coverage"] <= 1.0
    assert means["amun"]["crps"] < means["amun"]["mae"] * 1.2
    assert means["random_forest"]["spread_coverage"] is None
    assert means["amun_views"]["rmse"] != means["amun"]["rmse"]


@pytest.mark.parametrize("views", [1, 8])
def test_a_scene_in_one_tile_has_the_answer_of_the_tiles_that_are_served(
    world: Pairs, amun_checkpoint: AmunCheckpoint, views: int
) -> None:
    checkpoint = replace(amun_checkpoint, config=replace(amun_checkpoint.config, views=views))
    network, config = checkpoint.build(), checkpoint.config
    assert max(world.fine_shape) > config.tile_grid.stride_px  # several tiles
    served = Amun(config, amun_context_network(network), amun_tile_network(network))
    assert world.factors is not None
    answer = served.predict(world.coarse[0], world.factors[0])
    lst, spread = of_checkpoint(checkpoint, world)(0)
    np.testing.assert_allclose(lst, answer["lst"], atol=1e-3)
    np.testing.assert_allclose(spread, answer["spread_k"], atol=1e-3)


def test_the_noise_of_the_coarse_image_decides_how_far_amun_is_closed(
    world: Pairs, folds: Folds, fitted: DownscalingSettings
) -> None:
    exact = evaluate_amun(world, folds=folds, fitted=fitted, methods=("amun", "amun_closed"), experiment="simulated")[
        "methods"
    ]
    assert exact["amun_closed"]["closure"] < 1e-3 < exact["amun"]["closure"]
    clean = simulate_coarse(world)
    assert coarse_sigma(clean) < 1e-3
    noise = np.random.default_rng(0).normal(0.0, 0.7, clean.coarse.shape).astype(np.float32)
    biased = clean.coarse + noise + np.arange(len(clean), dtype=np.float32)[:, None, None]
    assert coarse_sigma(replace(clean, coarse=biased)) == pytest.approx(0.7, rel=0.1)


def test_what_a_scene_is_never_changes_what_is_fitted_for_its_own_fold(
    judged: dict, world: Pairs, folds: Folds, fitted: DownscalingSettings
) -> None:
    """The truth of one fold is spoilt: the fits of that fold, and so its predictions, stay the same."""
    assert world.fine is not None
    fine = world.fine.copy()
    rows = list(folds["A"])
    fine[rows] = fine[rows] + 5.0
    spoilt = evaluate_amun(replace(world, fine=fine), folds=folds, fitted=fitted, methods=FITTED)
    before = {(case["id"], case["method"]): case["bias"] for case in judged["cases"]}
    for case in spoilt["cases"]:
        if case["id"] in {str(row) for row in rows}:
            assert case["bias"] == pytest.approx(before[case["id"], case["method"]] - 5.0, abs=1e-3)


def test_strata_hold_the_pooled_errors_of_their_pixels(judged: dict, world: Pairs) -> None:
    assert {row["stratum"].split()[0] for row in judged["strata"]} == {"ndvi", "elevation"}
    assert world.fine is not None
    assert world.factors is not None
    strata = Strata(world)
    for row in (0, 1):
        strata.add(row, "m", world.fine[row] + np.float32(row + 1), world.fine[row])
    ndvi = world.factors[:2, 0]
    inside = (ndvi >= 0.2) & (ndvi < 0.4)
    errors = np.broadcast_to(np.array([1.0, 2.0])[:, None, None], ndvi.shape)[inside]
    found = next(one for one in strata.table() if one["stratum"] == "ndvi 0.2 to 0.4")
    assert found["n_pixels"] == errors.size
    assert found["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)
    assert found["bias"] == pytest.approx(errors.mean(), rel=1e-4)


def test_seasons_are_strata_where_the_time_is_known(world: Pairs) -> None:
    dated = replace(world, time=tuple(f"2020-{month:02d}-01T10:00Z" for month in (1, 2, 4, 7, 10, 12)))
    strata = Strata(dated)
    assert dated.fine is not None
    for row in range(6):
        strata.add(row, "m", dated.fine[row], dated.fine[row])
    counts = {one["stratum"]: one["n_pixels"] for one in strata.table() if one["stratum"].startswith("season")}
    n = dated.fine[0].size
    assert counts == {"season DJF": 3 * n, "season MAM": n, "season JJA": n, "season SON": n}


def test_an_evaluation_that_was_stopped_goes_on_with_the_same_fits(
    world: Pairs, folds: Folds, fitted: DownscalingSettings, tmp_path: Path
) -> None:
    def scores(**options: Any) -> dict[str, Any]:
        found = evaluate_amun(world, folds=folds, fitted=fitted, methods=("amun",), work=tmp_path, **options)
        return {case["id"]: case["rmse"] for case in found["cases"]}

    first = scores()
    states = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(states) == 2 * len(folds)
    assert scores() == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == states
    assert scores(seed=1) != first
    assert len(list(tmp_path.iterdir())) == 4 * len(folds)


def test_the_command_takes_folds_from_a_file(tmp_path: Path, world: Pairs) -> None:
    write_pairs(tmp_path / "p.npz", world)
    (tmp_path / "folds.json").write_text(json.dumps({"folds": {"A": list("01"), "B": list("23"), "C": list("45")}}))
    out = tmp_path / "r.json"
    split = ["--split", "ground", "--folds", str(tmp_path / "folds.json"), "--methods", "bicubic,random_forest"]
    assert main(["evaluate", "amun", "--pairs", str(tmp_path / "p.npz"), *split, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["settings"]["folds"] == {"A": ["0", "1"], "B": ["2", "3"], "C": ["4", "5"]}
    assert set(result["methods"]) == {"bicubic", "random_forest"}


def test_the_shipped_forest_is_read() -> None:
    assert load_forest_settings().trees > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "random_forest"], "--split ground"),
        (["--folds", "f.json"], "--folds needs --split"),
        (["--split", "ground", "--bundle", "b"], "got both"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    tmp_path: Path, world: Pairs, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "p.npz", world)
    assert main(["evaluate", "amun", "--pairs", str(tmp_path / "p.npz"), *options]) == 2
    assert message in capsys.readouterr().err


def test_bundle_and_folds_exclude_each_other(world: Pairs, folds: Folds, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="got both"):
        evaluate_amun(world, bundle=tmp_path, folds=folds)
