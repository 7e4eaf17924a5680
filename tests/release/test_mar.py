"""An archive holds the bundle, its code and nothing else, and packing twice gives the same bytes."""

import json
import shutil
import time
import zipfile
from pathlib import Path

import pytest

from thermoscale.errors import BundleError, Unavailable
from thermoscale.release import mar
from thermoscale.release.mar import pack
from thermoscale.testing.bundles import write_tiny_amun


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_amun(tmp_path_factory.mktemp("exported") / "amun" / "1.2.3", version="1.2.3")


@pytest.fixture(scope="module")
def archive(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(bundle, tmp_path_factory.mktemp("store"))


def test_the_same_bundle_gives_the_same_bytes(bundle: Path, archive: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # createdOn and the times in a zip count seconds
    assert pack(bundle, tmp_path).read_bytes() == archive.read_bytes()


def test_the_bundle_is_in_it_byte_for_byte(bundle: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        packed = {name: opened.read(name) for name in opened.namelist() if name.startswith("bundle/")}
    assert packed == {f"bundle/{p.relative_to(bundle)}": p.read_bytes() for p in bundle.rglob("*") if p.is_file()}


def test_the_name_and_torchserves_manifest_agree_with_the_bundle(archive: Path) -> None:
    assert archive.name == "amun-1.2.3.mar"
    with zipfile.ZipFile(archive) as opened:
        model = json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]
        files = set(opened.namelist())
    assert (model["modelName"], model["modelVersion"], model["handler"]) == ("amun", "1.2.3", "amun_handler.py")
    assert {model["handler"], model["configFile"]} <= files


def test_it_carries_the_code_that_serves_and_no_other(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        code = {name for name in opened.namelist() if name.startswith("thermoscale/")}
    assert {"thermoscale/torchserve.py", "thermoscale/service.py", "thermoscale/wire/npz.py"} <= code
    assert not [name for name in code if "__pycache__" in name or not name.endswith(".py")]
    assert not {"cli", "client", "server", "testing"} & {name.split("/")[1] for name in code}


def test_packing_again_replaces_the_archive_and_leaves_no_scraps(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "amun-1.2.3.mar").write_bytes(b"old")
    assert zipfile.is_zipfile(pack(bundle, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["amun-1.2.3.mar"]


def test_a_broken_bundle_is_not_packed(bundle: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(bundle, tmp_path / "broken"))
    graph = bytearray((broken / "amun.onnx").read_bytes())
    graph[10] ^= 1
    (broken / "amun.onnx").write_bytes(graph)
    with pytest.raises(BundleError, match=r"amun\.onnx differs"):
        pack(broken, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_failing_archiver_is_reported(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mar.sys, "executable", shutil.which("false"))
    with pytest.raises(Unavailable, match="torch-model-archiver failed"):
        pack(bundle, tmp_path)
