"""The verbs that need no server: what they write, what they say, how they exit."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thermoscale import open_bundle
from thermoscale.cli import main, strips_bar
from thermoscale.geo.rasters import Raster, read_raster, write_raster
from thermoscale.testing.bundles import (
    linear_series,
    tiny_amun_config,
    tiny_amun_request,
    write_tiny_amun,
    write_tiny_iustfm,
)
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import encode_npz

VERBS = ("predict", "zones", "inspect", "verify", "pack", "serve", "ready", "doctor")
SERIES = linear_series()
TARGET = SERIES.coarse_time[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    return {"amun": write_tiny_amun(folder / "amun"), "iustfm": write_tiny_iustfm(folder / "iustfm")}


@pytest.fixture
def coarse_tif(tmp_path: Path) -> Path:
    path = tmp_path / "coarse.tif"
    values = SERIES.coarse_at(TARGET)[np.newaxis]
    write_raster(path, Raster(values, "EPSG:32631", SERIES.coarse_transform or (0,) * 6, ("coarse",)))
    return path


def run(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_answers_help(verb: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(verb, "--help")
    assert verb in capsys.readouterr().out


def test_the_installed_command_lists_every_verb() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "thermoscale.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert all(verb in done.stdout for verb in VERBS)


def test_predict_writes_a_geotiff_of_the_services_answer(
    bundles: dict[str, Path], coarse_tif: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "fine.tif"
    assert run("predict", "--bundle", bundles["iustfm"], "--in", coarse_tif, "--time", TARGET, "--out", out) == 0
    expected = open_bundle(bundles["iustfm"]).predict({"coarse": SERIES.coarse_at(TARGET), "time": TARGET})
    raster = read_raster(out)
    np.testing.assert_array_equal(raster.values[raster.names.index("lst")], expected["lst"])
    assert raster.transform == SERIES.fine_transform
    assert "skin temperature, not air temperature" in capsys.readouterr().out


def test_predict_reads_and_writes_npz_and_prints_meta_as_json(
    bundles: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    request = tiny_amun_request(tiny_amun_config())
    source, out = tmp_path / "request.npz", tmp_path / "reply.npz"
    source.write_bytes(encode_npz(request))
    code = run("predict", "--bundle", bundles["amun"], "--in", source, "--window", "4,4,8,8", "--out", out, "--json")
    assert code == 0
    meta = json.loads(capsys.readouterr().out)
    assert (meta["bundle"], meta["unit"], meta["out"]) == ("amun", "K", str(out))
    whole = open_bundle(bundles["amun"]).predict(request)["lst"]
    with np.load(out) as reply:
        np.testing.assert_array_equal(reply["lst"], whole[4:12, 4:12])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reply.npz", "request.npz"]


def test_a_geotiff_without_a_place_says_so(bundles: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    source = tmp_path / "request.npz"
    source.write_bytes(encode_npz(tiny_amun_request(tiny_amun_config())))
    assert run("predict", "--bundle", bundles["amun"], "--in", source, "--out", tmp_path / "fine.tif") == 0
    assert "has no georeference" in capsys.readouterr().err


@pytest.mark.parametrize("change", [[], ["--mode", "closed_form"], ["--past-only"]])
def test_options_reach_the_pipeline(
    bundles: dict[str, Path], coarse_tif: Path, tmp_path: Path, change: list[str]
) -> None:
    out = tmp_path / "reply.npz"
    time = SERIES.coarse_time[4] if "--past-only" in change else TARGET
    arguments = ["predict", "--bundle", bundles["iustfm"], "--in", coarse_tif, "--time", time, "--out", out]
    assert run(*arguments, *change) == 0


def test_predict_prints_every_warning_and_takes_named_triples(
    bundles: dict[str, Path], coarse_tif: Path, tmp_path: Path, capsys: Capture
) -> None:
    pairs = [f"{SERIES.fine_time[0]},{SERIES.fine_time[1]}", f"{SERIES.fine_time[0]},{SERIES.fine_time[3]}"]
    arguments = ["predict", "--bundle", bundles["iustfm"], "--in", coarse_tif, "--time", TARGET, "--triples"]
    assert run(*arguments, *pairs, "--out", tmp_path / "both.npz", "--json") == 0
    captured = capsys.readouterr()
    meta = json.loads(captured.out)
    assert meta["dates_used"] == [pair.split(",") for pair in pairs]
    assert (meta["order"], meta["warnings"], captured.err) == ("named", [], "")
    assert run(*arguments, pairs[0], "--out", tmp_path / "one.npz", "--json") == 0
    captured = capsys.readouterr()
    warnings = json.loads(captured.out)["warnings"]
    assert "extrapolated in time" in warnings[0]
    assert captured.err.splitlines() == [f"thermoscale predict: warning: {warning}" for warning in warnings]


@pytest.fixture
def downscaling(tmp_path: Path) -> dict[str, Path]:
    """Coarse image and factors of the bundle amun as GeoTIFFs."""
    arrays, paths = tiny_amun_request(tiny_amun_config()), {"--in": tmp_path / "c.tif", "--factors": tmp_path / "f.tif"}
    write_raster(paths["--in"], Raster(arrays["coarse"][None], "EPSG:32631", (400, 0, 5e5, 0, -400, 5e6), ("lst",)))
    write_raster(paths["--factors"], Raster(arrays["factors"], "EPSG:32631", (100, 0, 5e5, 0, -100, 5e6), ("ndvi",)))
    return paths


@pytest.mark.parametrize("memory", [["--memory-mb"], ["--memory-mb", "32"]])
def test_predict_in_bounded_memory_writes_a_cog_of_the_same_answer(
    bundles: dict[str, Path], downscaling: dict[str, Path], tmp_path: Path, capsys: Capture, memory: list[str]
) -> None:
    arguments = ["predict", "--bundle", bundles["amun"], *(part for pair in downscaling.items() for part in pair)]
    assert run(*arguments, "--out", tmp_path / "at_once.tif", "--json") == 0
    at_once = json.loads(capsys.readouterr().out)
    assert run(*arguments, "--out", tmp_path / "new" / "strips.tif", "--json", *memory) == 0
    captured = capsys.readouterr()
    strips = json.loads(captured.out)
    assert strips.keys() == at_once.keys() - {"left_out", "georeferenced", "encoding", "rounded_to"}
    assert strips["context_id"] == at_once["context_id"]
    assert captured.err == "thermoscale predict: reading the scene once, for its context\n"
    expected, raster = read_raster(tmp_path / "at_once.tif"), read_raster(tmp_path / "new" / "strips.tif")
    assert (raster.names, raster.transform) == (expected.names, expected.transform)
    np.testing.assert_allclose(raster.values, expected.values, atol=1e-3)


def test_ctrl_c_says_that_the_work_goes_on(
    bundles: dict[str, Path], downscaling: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:  # fmt: skip
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    arguments = ["predict", "--bundle", bundles["amun"], *(part for pair in downscaling.items() for part in pair)]
    monkeypatch.setattr("thermoscale.mosaic.write_rows", interrupted)
    assert run(*arguments, "--out", tmp_path / "lst.tif", "--memory-mb") == 1
    assert "stopped; the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(*arguments, "--out", tmp_path / "lst.tif", "--memory-mb") == 0
    assert "going on after 1 of" in capsys.readouterr().err


def test_a_file_larger_than_a_request_names_the_option_for_it(
    bundles: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    with (tmp_path / "coarse.tif").open("wb") as stream:
        stream.truncate(Limits().max_body_bytes + 1)
    assert (
        run("predict", "--bundle", bundles["amun"], "--in", tmp_path / "coarse.tif", "--out", tmp_path / "o.tif") == 2
    )
    assert "add --memory-mb" in capsys.readouterr().err


def test_the_bar_of_a_continued_run_begins_where_the_run_does(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with strips_bar() as show:
        for done in range(7, 11):
            show(done, 10)
    assert re.search("strips:  70%.* 7/10", capsys.readouterr().err)


def test_inspect_prints_the_manifest(bundles: dict[str, Path], capsys: Capture) -> None:
    assert run("inspect", bundles["iustfm"]) == 0
    text = capsys.readouterr().out
    assert "iustfm" in text
    assert "dynet.onnx" in text
    assert run("inspect", bundles["iustfm"], "--json") == 0
    assert json.loads(capsys.readouterr().out)["digest"] == open_bundle(bundles["iustfm"]).manifest.digest


def test_verify_tells_a_whole_bundle_from_a_broken_one(
    bundles: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    assert run("verify", bundles["amun"]) == 0
    broken = Path(shutil.copytree(bundles["amun"], tmp_path / "broken"))
    golden = bytearray((broken / "golden.npz").read_bytes())
    golden[-1] ^= 1
    (broken / "golden.npz").write_bytes(golden)
    assert run("verify", broken) == 1
    assert "golden.npz differs" in capsys.readouterr().err


def test_pack_prints_the_archive(bundles: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    assert run("pack", bundles["amun"], "--model-store", tmp_path) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["predict", "--bundle", "{amun}", "--in", "nowhere.npz", "--out", "o.npz"], 2, "cannot read nowhere.npz"),
        (["predict", "--bundle", "{amun}", "--in", "{here}", "--out", "o.npz"], 2, "cannot read"),
        (["predict", "--bundle", "{amun}", "--in", "{amun}/manifest.json", "--out", "o.jpg"], 2, "--out is o.jpg"),
        (["predict", "--bundle", "{amun}", "--in", "{amun}/manifest.json", "--out", "o.npz"], 2, "not a complete .npz"),
        (["predict", "--url", "http://127.0.0.1:9", "--in", "{amun}/golden.npz", "--out", "o.npz"], 2, "--model"),
        (["predict", "--url", "127.0.0.1", "--model", "amun", "--in", "{amun}/golden.npz", "--out", "o.npz"],
         2, "REST address"),
        (["predict", "--url", "http://127.0.0.1:9", "--model", "amun", "--in", "{amun}/golden.npz", "--out", "o.npz"],
         1, "no answer from http://127.0.0.1:9"),
        (["predict", "--bundle", "{here}", "--in", "{amun}/golden.npz", "--out", "o.npz"], 1, "is .* a bundle"),
        (["predict", "--bundle", "{amun}", "--in", "c.tif", "--out", "o.npz", "--memory-mb"], 2, "needed a .tif"),
        (["predict", "--bundle", "{amun}", "--in", "c.tif", "--out", "o.tif", "--memory-mb", "--window", "0,0,8,8"],
         2, "with --window: it downscales whole GeoTIFFs"),
        (["predict", "--url", "http://127.0.0.1:9", "--in", "c.tif", "--out", "o.tif", "--memory-mb"],
         2, "without --bundle"),
        (["predict", "--bundle", "{amun}", "--in", "c.tif", "--out", "o.tif", "--memory-mb"], 2, "cannot read c.tif"),
        (["inspect", "{here}"], 1, "manifest.json"),
        (["verify", "nowhere"], 1, "manifest.json"),
        (["pack", "nowhere"], 1, "manifest.json"),
        (["serve", "nowhere.mar"], 1, "nowhere.mar is no archive"),
        (["ready", "nowhere.mar", "--url", "http://127.0.0.1:9"], 1, "nowhere.mar is no archive"),
        (["ready", "{amun}", "--url", "http://127.0.0.1:9"], 1, "no answer from http://127.0.0.1:9"),
    ],
)  # fmt: skip
def test_a_failure_has_its_exit_code_and_says_what_failed(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
    arguments: list[str], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    filled = [argument.format(amun=bundles["amun"], here=tmp_path) for argument in arguments]
    assert run(*filled) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(f"thermoscale {arguments[0]}: ")
    assert re.search(words, captured.err)
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["predict", "--in", "x"], ["predict", "--bundle", "a", "--url", "b"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    assert "usage" in capsys.readouterr().err


def districts(folder: Path, *corners: tuple[str, float, float]) -> Path:
    """Squares of 1 km in the tiny place, by name and north-western corner."""
    features = []
    for name, x, y in corners:
        ring = [[x, y], [x + 1000, y], [x + 1000, y - 1000], [x, y - 1000], [x, y]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": {"name": name}, "geometry": geometry})
    crs = {"type": "name", "properties": {"name": "EPSG:32631"}}
    path = folder / "districts.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    return path


def test_zones_writes_the_table_of_a_result(
    bundles: dict[str, Path], coarse_tif: Path, tmp_path: Path, capsys: Capture
) -> None:
    result, table = tmp_path / "lst.tif", tmp_path / "table.csv"
    given = ("--in", coarse_tif, "--time", TARGET, "--out", result, "--order", "unordered", "--min-baseline-k", "1")
    assert run("predict", "--bundle", bundles["iustfm"], *given) == 0
    zones = districts(tmp_path, ("north-west", 500_000, 5_000_000), ("beside", 502_000, 4_999_000))
    capsys.readouterr()
    assert run("zones", result, zones, "--above", "290", "--out", table) == 0
    assert capsys.readouterr().out == ""
    header, first, second = table.read_text().splitlines()
    assert header.startswith("name,n_pixels,valid_share,mean_k")
    block = read_raster(result).values[0][:10, :10]
    name, n_pixels, share, mean, _, above = first.split(",")[:6]
    assert (name, n_pixels, share) == ("north-west", "100", "1")
    assert float(mean) == pytest.approx(block.mean(), abs=1e-2)
    assert float(above) == pytest.approx((block > 290).mean())
    assert second.startswith("beside,100,1,")
    assert run("zones", result, zones, "--celsius", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["celsius"] is True
    assert answer["zones"][0]["mean"] == pytest.approx(block.mean() - 273.15, abs=1e-2)
    assert answer["zones"][0]["share_above"] is None
    assert run("zones", result, zones, "--above", "290") == 0
    assert capsys.readouterr().out == table.read_text()


def test_zones_elsewhere_exit_with_2_and_their_name(coarse_tif: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("zones", coarse_tif, districts(tmp_path, ("far", 600_000, 5_000_000))) == 2
    assert "zone 'far' lies outside" in capsys.readouterr().err
