"""Downscaling from file to file: the service's answer, killed and continued, in bounded memory, or refused by name."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from thermoscale import open_bundle
from thermoscale.arrays import Array
from thermoscale.client import decode_reply
from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.geo.rasters import Raster, write_raster
from thermoscale.mosaic import downscale, plan
from thermoscale.mosaic_work import Work
from thermoscale.testing.bundles import tiny_amun_config, tiny_amun_request, write_tiny_amun, write_tiny_iustfm

UTM = "EPSG:32631"
NAMES = ("ndvi", "albedo")
SHAPE = (40, 30)
SCALE = 4
PIXEL = 100.0
STRIPS = 12


def transform(pixel: float, x: float = 5e5) -> tuple[float, ...]:
    return (pixel, 0.0, x, 0.0, -pixel, 5e6)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_amun(tmp_path_factory.mktemp("bundles") / "amun", factor_names=NAMES)


@pytest.fixture(scope="module")
def request_arrays() -> dict[str, Array]:
    arrays = tiny_amun_request(tiny_amun_config(factor_names=NAMES), SHAPE)
    arrays["coarse"][10:25, 5:28] = np.nan
    return arrays


def write_inputs(folder: Path, arrays: dict[str, Array]) -> dict[str, Path]:
    paths = {"coarse": folder / "coarse.tif", "factors": folder / "factors.tif", "out": folder / "lst.tif"}
    write_raster(paths["coarse"], Raster(arrays["coarse"][None], UTM, transform(SCALE * PIXEL), ("lst",)))
    write_raster(paths["factors"], Raster(arrays["factors"][::-1], UTM, transform(PIXEL), NAMES[::-1]))
    return paths


@pytest.fixture
def files(tmp_path: Path, request_arrays: dict[str, Array]) -> dict[str, Path]:
    """Coarse image, factors in another order than the bundle's, and where the result shall go."""
    return write_inputs(tmp_path, request_arrays)


def run(bundle: Path, files: dict[str, Path], **options: Any) -> dict[str, Any]:
    downscale(bundle, files["coarse"], files["factors"], files["out"], **options)
    return decode_reply(files["out"].read_bytes())


@pytest.mark.parametrize("memory_mb", [1, 2, 64])
def test_the_file_is_the_services_answer(
    bundle: Path, files: dict[str, Path], request_arrays: dict[str, Array], memory_mb: int
) -> None:
    expected = open_bundle(bundle).predict(request_arrays)
    reply = run(bundle, files, memory_mb=memory_mb)
    np.testing.assert_allclose(reply["lst"], expected["lst"], atol=1e-3)
    np.testing.assert_array_equal(reply["flags"], expected["flags"])
    assert reply["closure"] == pytest.approx(expected["closure"], abs=1e-5)
    own = {"left_out", "georeferenced", "encoding", "rounded_to"}  # of every GeoTIFF reply
    assert reply["meta"].keys() == expected["meta"].keys() | own
    for name in ("bundle", "version", "digest", "unit", "note"):
        assert reply["meta"][name] == expected["meta"][name]
    assert sorted(path.name for path in files["out"].parent.iterdir()) == ["coarse.tif", "factors.tif", "lst.tif"]


def test_other_memory_means_other_pieces() -> None:
    config = tiny_amun_config(factor_names=NAMES)
    few, many = plan(config, 120, 1), plan(config, 120, 64)
    assert few.tiles_at_once < many.tiles_at_once
    assert few.rows_at_once < many.rows_at_once


def test_a_bundle_without_factors_needs_the_coarse_image_alone(tmp_path: Path) -> None:
    bundle = write_tiny_amun(tmp_path / "amun", factor_names=())
    coarse = tiny_amun_request(tiny_amun_config(factor_names=()), SHAPE)["coarse"]
    write_raster(tmp_path / "coarse.tif", Raster(coarse[None], UTM, transform(SCALE * PIXEL), ("lst",)))
    downscale(bundle, tmp_path / "coarse.tif", None, tmp_path / "lst.tif")
    with rasterio.open(tmp_path / "lst.tif") as dataset:
        assert tuple(dataset.transform)[:6] == transform(PIXEL)
        np.testing.assert_allclose(dataset.read(1), open_bundle(bundle).predict({"coarse": coarse})["lst"], atol=1e-3)


def test_the_result_is_a_cog_with_overviews_of_whole_flags(tmp_path: Path) -> None:
    bundle = write_tiny_amun(tmp_path / "amun", factor_names=(), tile_px=256)
    coarse = np.random.default_rng(0).uniform(280, 300, (1, 300, 200)).astype(np.float32)
    coarse[0, 50:200, 50:190] = np.nan  # wider than two tiles: one of them holds no coarse value
    write_raster(tmp_path / "coarse.tif", Raster(coarse, UTM, transform(SCALE * PIXEL), ("lst",)))
    downscale(bundle, tmp_path / "coarse.tif", None, tmp_path / "lst.tif")
    with rasterio.open(tmp_path / "lst.tif") as dataset:
        structure = dataset.tags(ns="IMAGE_STRUCTURE")
        assert (structure["LAYOUT"], structure["COMPRESSION"]) == ("COG", "DEFLATE")
        assert dataset.overviews(1) == [2, 4]
        assert dataset.descriptions == ("lst", "spread_k", "flags")
        small = dataset.read(3, out_shape=(dataset.height // 4, dataset.width // 4))
    assert set(np.unique(small)) == {0.0, 1.0, 17.0}


CHILD = """
import os, resource, signal, sys
from pathlib import Path
from thermoscale import mosaic
from thermoscale.errors import Unavailable
from thermoscale.mosaic_work import Work
from thermoscale.pipelines.amun import Amun

bundle, coarse, factors, out, moment, step, number = sys.argv[1:]
counts = {}

def counting(name, action):
    def call(*args, **kwargs):
        counts[name] = counts.get(name, 0) + 1
        if (moment, step) == ("full", name):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
        for now in ("before", "after"):
            result = action(*args, **kwargs) if now == "after" else None
            if (now, name, counts[name]) == (moment, step, int(number)):
                os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

Amun.predict_tile = counting("tile", Amun.predict_tile)
mosaic.create_rows = counting("create", mosaic.create_rows)
mosaic.write_rows = counting("rows", mosaic.write_rows)
mosaic.finish_cog = counting("cog", mosaic.finish_cog)
Work.save = counting("save", Work.save)
try:
    mosaic.downscale(*map(Path, (bundle, coarse, factors, out)))
except Unavailable as error:
    sys.exit(f"Unavailable: {error}")
"""
"""A run in a process of its own that kills itself at a step, or from there on can write no file beyond a size."""


def run_child(
    bundle: Path, files: dict[str, Path], moment: str, step: str, number: int
) -> subprocess.CompletedProcess[str]:
    paths = [str(path) for path in (bundle, *(files[name] for name in ("coarse", "factors", "out")))]
    command = [sys.executable, "-c", CHILD, *paths, moment, step, str(number)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def undisturbed(
    bundle: Path, request_arrays: dict[str, Array], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The answer of a run that nothing disturbs."""
    return run(bundle, write_inputs(tmp_path_factory.mktemp("undisturbed"), request_arrays))


def assert_same(reply: dict[str, Any], whole: dict[str, Any]) -> None:
    for name in ("lst", "flags", "closure"):
        np.testing.assert_array_equal(reply[name], whole[name])


@pytest.mark.parametrize(
    ("moment", "step", "number", "kept"),
    [
        ("before", "save", 1, 0),
        ("before", "tile", 60, 3),  # the bundle's golden sample takes the first tiles
        ("before", "rows", 5, 5),  # the first strip has no rows: only an overlap reaches the scene
        ("after", "rows", 5, 5),
        ("after", "save", 5, 4),  # the first save is that of the beginning
        ("before", "cog", 1, STRIPS),
        ("after", "cog", 1, STRIPS),
    ],
)
def test_killed_and_run_again_it_continues_bit_for_bit(
    bundle: Path, files: dict[str, Path], undisturbed: dict[str, Any], moment: str, step: str, number: int, kept: int
) -> None:
    killed = run_child(bundle, files, moment, step, number)
    assert killed.returncode == -signal.SIGKILL
    assert files["out"].exists() == ((moment, step) == ("after", "cog"))
    heard: list[str] = []
    shown: list[tuple[int, int]] = []
    reply = run(bundle, files, say=heard.append, progress=lambda *now: shown.append(now))
    assert_same(reply, undisturbed)
    assert shown == [(done, STRIPS) for done in range(kept, STRIPS + 1)]
    assert ("going on after" in heard[0]) == (kept > 0)
    assert not Work(files["out"]).folder.exists()


@pytest.mark.parametrize(
    ("step", "most_bytes"), [("create", 10_000), ("create", 153_900), ("save", 100), ("rows", 100_000), ("cog", 50_000)]
)
def test_a_full_disk_is_said_and_the_work_goes_on_later(
    bundle: Path, files: dict[str, Path], undisturbed: dict[str, Any], step: str, most_bytes: int
) -> None:
    full = run_child(bundle, files, "full", step, most_bytes)
    assert full.returncode == 1, full.stderr
    assert "Unavailable: cannot write" in full.stderr
    assert not files["out"].exists()
    assert_same(run(bundle, files), undisturbed)


def test_other_factors_under_the_same_name_start_anew(
    bundle: Path, files: dict[str, Path], request_arrays: dict[str, Array]
) -> None:
    assert run_child(bundle, files, "before", "rows", 5).returncode == -signal.SIGKILL
    write_raster(files["factors"], Raster(1 - request_arrays["factors"], UTM, transform(PIXEL), NAMES))
    heard: list[str] = []
    reply = run(bundle, files, say=heard.append)
    assert "had another factors: starting anew" in heard[0]
    expected = open_bundle(bundle).predict({**request_arrays, "factors": 1 - request_arrays["factors"]})
    assert reply["meta"]["context_id"] == expected["meta"]["context_id"]


def test_two_processes_do_not_work_on_one_result(bundle: Path, files: dict[str, Path]) -> None:
    with Work(files["out"]).locked(), pytest.raises(Unavailable, match="another process works in"):
        run(bundle, files)


def test_a_disk_that_is_too_small_is_refused_before_the_work(
    bundle: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(Unavailable, match="has 0 MB free, needed"):
        run(bundle, files)
    assert not Work(files["out"]).folder.exists()


REFUSALS = {
    "celsius": ({"coarse": {"values": 20.0}}, "Celsius"),
    "coarse with two bands": ({"coarse": {"bands": ("lst", "flags")}}, r"coarse.tif has the bands \['lst', 'flags'\]"),
    "other bounds": ({"factors": {"x": 5e5 + PIXEL}}, "factors.tif and .*coarse.tif do not cover the same ground"),
    "other scale": ({"coarse": {"shape": (20, 15), "pixel": 800.0}}, r"\[8.0, 8.0\] times finer.*needs exactly 4"),
    "other bands": ({"factors": {"bands": ("ndvi", "slope")}}, r"needed \['ndvi', 'albedo'\] in any order"),
    "a fill value": ({"factors": {"values": -9999.0}}, "factor ndvi"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_files_that_do_not_fit_are_refused_by_name_and_leave_nothing(
    bundle: Path, files: dict[str, Path], name: str
) -> None:
    changes, words = REFUSALS[name]
    whole = {
        "coarse": {"values": 290.0, "shape": SHAPE, "bands": ("lst",), "pixel": SCALE * PIXEL, "x": 5e5},
        "factors": {"values": 0.5, "shape": (160, 120), "bands": NAMES, "pixel": PIXEL, "x": 5e5},
    }
    for file, change in changes.items():
        given = {**whole[file], **change}
        values = np.full((len(given["bands"]), *given["shape"]), given["values"], np.float32)
        place = transform(given["pixel"], given["x"])
        write_raster(files[file], Raster(values, UTM, place, given["bands"]))
    with pytest.raises(InvalidInput, match=words):
        run(bundle, files)
    assert sorted(path.name for path in files["out"].parent.iterdir()) == ["coarse.tif", "factors.tif"]


def test_calls_that_cannot_be_meant_are_refused(bundle: Path, files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needed a file with the bands"):
        downscale(bundle, files["coarse"], None, files["out"])
    with pytest.raises(InvalidInput, match=r"factors.tif is an input, too"):
        downscale(bundle, files["coarse"], files["factors"], files["factors"])
    with pytest.raises(InvalidInput, match="the bundle is of iustfm"):
        downscale(write_tiny_iustfm(tmp_path / "iustfm"), files["coarse"], None, files["out"])
    bare = write_tiny_amun(tmp_path / "bare", factor_names=())
    with pytest.raises(InvalidInput, match="needed none"):
        downscale(bare, files["coarse"], files["factors"], files["out"])


def test_too_little_memory_is_refused_and_the_needed_is_enough() -> None:
    config = tiny_amun_config(factor_names=NAMES)
    with pytest.raises(InvalidInput, match="needed at least") as refused:
        plan(config, 20_000, 1)
    needed = int(str(refused.value).split()[-2])
    assert plan(config, 20_000, needed).tiles_at_once >= 1
    with pytest.raises(InvalidInput, match="needed at least"):
        plan(config, 20_000, needed - 1)
