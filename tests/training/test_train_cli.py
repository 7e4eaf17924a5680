"""``thermoscale-train``: fit and export, from files to a bundle."""

import json
from pathlib import Path

import numpy as np
import pytest

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs, Series
from thermoscale.geo.datasets import write_pairs, write_series
from thermoscale.service import open_bundle
from thermoscale_train.cli import main
from thermoscale_train.config import CONFIG_FOLDER

SMALL = {
    "amun.toml": "width=4 depth=1 growth=4 heads=2 token_patches=2 max_patch_px=2 tile_px=96 overlap_px=4 "
    "crop_px=32 margin_px=4 steps=2 batch=2 evaluate_every=2",
    "dynet.toml": "n_hcr=4 m_max=40 h_max=6 pool=30 steps=2 batch=4 evaluate_every=1",
    "ratio_net.toml": "pool=200 triples=4 steps=2 batch=32 evaluate_every=1",
}


def small(folder: Path, name: str) -> str:
    """The shipped settings with smaller numbers."""
    changes = dict(change.split("=") for change in SMALL[name].split())
    keyed = [(line.split(" = ")[0], line) for line in (CONFIG_FOLDER / name).read_text().splitlines()]
    lines = [f"{key} = {changes[key]}" if key in changes else line for key, line in keyed]
    (folder / name).write_text("\n".join(lines))
    return str(folder / name)


def test_fit_then_export_amun(tmp_path: Path, pairs: Pairs, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(tmp_path / "pairs.npz", pairs)
    data, out = ["--pairs", str(tmp_path / "pairs.npz")], str(tmp_path / "a.pt")
    config = ["--config", small(tmp_path, "amun.toml"), "--threads", "1"]
    assert main(["fit", "amun", *data, *config, "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == out
    exported = ["--out", str(tmp_path / "exported"), "--version", "1.0.0", "--json"]
    assert main(["export", "amun", "--checkpoint", out, *exported]) == 0
    bundle = json.loads(capsys.readouterr().out)["bundle"]
    training = open_bundle(Path(bundle)).manifest.training
    assert training["command"].startswith("thermoscale-train fit amun")
    assert len(training["train_ids"]) + len(training["valid_ids"]) < len(pairs)
    assert main(["export", "amun", "--checkpoint", out, *exported]) == 1
    assert "immutable" in capsys.readouterr().err
    assert main(["export", "iustfm", "--checkpoint", out, *exported]) == 2
    capsys.readouterr()
    exported[3] = "1.1.0"
    assert main(["export", "amun", "--checkpoint", out, *exported, "--views", "8"]) == 0
    eight = open_bundle(Path(json.loads(capsys.readouterr().out)["bundle"]))
    assert eight.manifest.config["views"] == 8
    assert pairs.factors is not None
    request = {"coarse": pairs.coarse[0], "factors": pairs.factors[0], "context": "return"}
    whole = eight.predict(request)
    again = eight.predict({**request, "context": whole["context"]})
    assert np.array_equal(again["lst"], whole["lst"], equal_nan=True)
    assert again["meta"]["context_id"] == whole["meta"]["context_id"]
    one = open_bundle(Path(bundle))
    difference = np.abs(one.predict(request)["lst"] - whole["lst"])
    assert 1e-4 < np.nanmax(difference) < 1.0
    with pytest.raises(InvalidInput, match="k is"):
        one.predict({**request, "context": whole["context"]})


def test_export_iustfm_fits_where_there_is_no_checkpoint(
    tmp_path: Path, series: Series, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "series.npz", series)
    configs = ["--dynet-config", small(tmp_path, "dynet.toml")]
    configs += ["--ratio-net-config", small(tmp_path, "ratio_net.toml"), "--threads", "1"]
    held = series.fine_time[3]
    arguments = ["--series", str(tmp_path / "series.npz"), *configs, "--hold-out", held]
    exported = ["--out", str(tmp_path / "exported"), "--version", "0.1.0"]
    assert main(["export", "iustfm", *arguments, *exported]) == 0
    assert "0.1.0" in capsys.readouterr().out
    training = open_bundle(tmp_path / "exported" / "iustfm" / "0.1.0").manifest.training
    assert held not in training["library_dates"]
    assert training["held_out"] == [held]


def test_fit_and_export_say_what_too_few_dates_left_undone(
    tmp_path: Path, series: Series, capsys: pytest.CaptureFixture[str]
) -> None:
    times = series.fine_time
    configs = ["--dynet-config", small(tmp_path, "dynet.toml")]
    configs += ["--ratio-net-config", small(tmp_path, "ratio_net.toml"), "--threads", "1"]
    for few, words in (
        ([0, -1], "untrained: 2 usable dates, training needs 3"),
        ([0, 3, -1], "none could be held out"),
    ):
        write_series(tmp_path / "few.npz", series.select_fine([times[i] for i in few]))
        out = str(tmp_path / "i.pt")
        assert main(["fit", "iustfm", "--series", str(tmp_path / "few.npz"), *configs, "--out", out]) == 0
        assert words in capsys.readouterr().out
        exported = ["--checkpoint", out, "--out", str(tmp_path / "exported"), "--version", f"0.0.{len(few)}", "--json"]
        assert main(["export", "iustfm", *exported]) == 0
        (note,) = json.loads(capsys.readouterr().out)["notes"]
        assert words in note


@pytest.mark.parametrize(
    "verb",
    [
        ["fit"],
        ["export"],
        ["evaluate"],
        ["demo"],
        ["fit", "amun"],
        ["fit", "iustfm"],
        ["export", "amun"],
        ["fusion-study"],
    ],
)
def test_every_verb_answers_help(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([*verb, "--help"])
    assert leaving.value.code == 0
    assert "usage: thermoscale-train" in capsys.readouterr().out


def test_wrong_input_is_exit_code_2(tmp_path: Path, pairs: Pairs, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "amun", "--checkpoint", str(tmp_path / "none.pt"), "--version", "1.0.0"]) == 2
    assert "none.pt" in capsys.readouterr().err
    write_pairs(tmp_path / "pairs.npz", pairs)
    data = ["--pairs", str(tmp_path / "pairs.npz"), "--out", str(tmp_path / "a.pt")]
    assert main(["fit", "amun", *data, "--valid-share", "0.5", "--test-share", "0.5"]) == 2
    assert "must both be positive" in capsys.readouterr().err
