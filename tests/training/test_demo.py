"""The demo, small and in process, on a synthetic world. The whole one with its server is `make demo`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thermoscale.errors import BundleError, InvalidInput
from thermoscale.geo.rasters import read_raster
from thermoscale.pipelines.iustfm_config import ADAPTIVE, MODES
from thermoscale.service import open_bundle
from thermoscale.testing.bundles import tiny_amun_config, tiny_amun_request, write_tiny_amun
from thermoscale.testing.worlds import make_pairs
from thermoscale_train.data.split import ground_groups
from thermoscale_train.demo import VERSION, Places
from thermoscale_train.demo_data import DemoData, on_modis_grid, real_data
from thermoscale_train.demo_server import require_same_answer
from thermoscale_train.panels import common_range, symmetric_limit
from thermoscale_train.summary import METHOD_OF_MODE, installed_versions, table, verdict


def test_what_is_held_out_takes_part_in_nothing(small_world: DemoData, summary: Mapping[str, Any]) -> None:
    grounds = ground_groups(small_world.pairs)
    sides = [set(grounds[list(rows)].tolist()) for rows in small_world.folds.values()]
    assert sum(map(len, sides)) == len(set().union(*sides))
    library = small_world.library
    assert not set(small_world.held_out) & ({*library.fine_time} | {*library.coarse_time})
    assert summary["pipelines"]["iustfm"]["judged_on"] == sorted(small_world.held_out)
    assert len(summary["pipelines"]["amun"]["judged_on"]) == len(small_world.folds["test"])


def test_the_summary_says_what_was_done(summary: Mapping[str, Any], places: Places) -> None:
    assert json.loads((places.out / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert summary["server"] == "left out (--in-process)"
    assert summary["data"]["source"].startswith("synthetic")
    for name, part in summary["pipelines"].items():
        assert part["prediction"]["rmse"] > 0
        assert part["interpolation"].keys() == {"bilinear", "bicubic"}
        assert part["latency_ms"].keys() == {"in_process"}
        assert open_bundle(places.exported / name / VERSION).manifest.digest == part["digest"]
    assert summary["pipelines"]["iustfm"]["persistence"]["rmse"] > 0
    assert summary["pipelines"]["amun"]["persistence"] is None
    text = table(summary)
    assert all(sentence in text for part in summary["pipelines"].values() for sentence in part["verdict"])


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version_without_torchserve(name: str) -> str:
        if name == "torchserve":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("thermoscale_train.summary.version", version_without_torchserve)
    versions = installed_versions()
    assert versions["torchserve"] is None
    assert versions["numpy"] == np.__version__


def test_rasters_lie_on_the_ground_and_pictures_are_there(summary: Mapping[str, Any], places: Places) -> None:
    for name in summary["rasters"]:
        assert read_raster(places.out / name).crs
    prediction, truth, coarse = (
        read_raster(places.out / f"amun_{kind}.tif") for kind in ("prediction", "truth", "coarse")
    )
    assert prediction.names == ("lst", "flags")
    assert prediction.transform == truth.transform
    assert coarse.transform[0] == pytest.approx(4 * truth.transform[0])
    for name in summary["pictures"]:
        assert (places.out / name).read_bytes().startswith(b"\x89PNG")


def test_an_earlier_demo_is_replaced(summary: Mapping[str, Any], places: Places) -> None:
    assert not (places.exported / "amun" / VERSION / "of_an_earlier_demo").exists()


def test_losing_is_said_in_words() -> None:
    sentences = verdict("amun", {"rmse": 2.0}, {"bicubic": {"rmse": 1.5}, "bilinear": {"rmse": 2.5}}, "K")
    assert sentences == [
        "amun LOSES to bicubic: RMSE 2 K against 1.5 K",
        "amun beats bilinear: RMSE 2 K against 2.5 K",
    ]


def test_a_wire_that_answers_something_else_is_refused(tmp_path: Path) -> None:
    service = open_bundle(write_tiny_amun(tmp_path / "amun"))
    request = tiny_amun_request(tiny_amun_config())
    answer = service.predict(request)
    assert require_same_answer("rest", service, request, answer) == 0.0
    with pytest.raises(BundleError, match="amun over rest and in process"):
        require_same_answer("rest", service, request, {**answer, "lst": answer["lst"] + np.float32(0.01)})


def test_a_data_folder_without_the_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"aster_modis_europe.*unset it"):
        real_data(tmp_path)


def test_the_place_of_a_pair_follows_from_its_corner() -> None:
    pairs = replace(make_pairs(0, n_grounds=1, scenes_per_ground=1), corner=np.array([[901, 16]], np.int32))
    place = on_modis_grid(pairs).fine_georeference(0)
    assert place is not None
    assert place.transform[2] == pytest.approx(14826.01, abs=0.01)
    assert place.transform[5] == pytest.approx(4724863.08, abs=0.01)


def test_real_pairs_lie_where_the_same_scenes_lie_as_geotiffs(data_folder: Path) -> None:
    data = real_data(data_folder)
    assert data.pairs.id is not None
    row = data.pairs.id.index("176")
    raster = read_raster(data_folder / "aster_modis_triple" / "aster_lst_250m_id176.tif")
    place = data.pairs.fine_georeference(row)
    assert place is not None
    np.testing.assert_allclose(place.transform, raster.transform, atol=0.01)
    assert data.pairs.fine is not None
    height, width = raster.shape
    np.testing.assert_allclose(data.pairs.fine[row, :height, :width], raster.values[0], atol=0.01)


def test_colour_scales_are_common_and_symmetric() -> None:
    images = [np.array([[280.0, np.nan]], np.float32), np.array([[300.0, 310.0]], np.float32)]
    low, high = common_range(images)
    assert 280.0 <= low < high <= 310.0
    assert symmetric_limit(np.array([[-3.0, 1.0, np.nan]], np.float32)) == pytest.approx(3.0, rel=0.05)
    assert symmetric_limit(np.full((2, 2), np.nan, np.float32)) == 1.0
    flat = common_range([np.full((2, 2), 5.0, np.float32)])
    assert flat == (4.5, 5.5)


def test_every_mode_that_can_be_the_default_has_a_method_to_judge_it_by() -> None:
    assert METHOD_OF_MODE == {
        "closed_form": "iustfm_closed_form",
        "rationet": "iustfm_rationet",
        "adaptive": "adaptive",
    }
    assert METHOD_OF_MODE.keys() == {*MODES, ADAPTIVE}
