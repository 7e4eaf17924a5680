"""Bundles: read(write(x)) = x, whole or not there, and no byte can change unseen."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.bundle.manifest import MANIFEST_HASH_NAME, MANIFEST_NAME, Manifest, read_manifest, verify_files
from thermoscale.bundle.write import write_bundle
from thermoscale.errors import BundleError

FIELDS = {
    "pipeline": "iustfm",
    "version": "1.2.0-rc.1",
    "quantity": "lst",
    "sky": "clear-sky",
    "created": "2024-05-01T12:00Z",
    "config": {"n_hcr": 4, "guards": {"min_baseline_k": 2.0}, "clips": [1, 2]},
    "training": {"data": "synthetic", "seed": 7},
    "metrics": {"rmse": 1.25, "cc": None},
    "versions": {"thermoscale": "0.1.0"},
    "georeference": {
        "fine_crs": "EPSG:32611",
        "fine_transform": [70.0, 0.0, 649980.0, 0.0, -70.0, 3659840.0],
        "coarse_crs": "EPSG:32611",
        "coarse_transform": [490.0, 0.0, 649980.0, 0.0, -490.0, 3659840.0],
    },
}
CONTENTS = {"dynet.onnx": b"network", "golden.npz": b"golden", "region/labels.npy": np.arange(6, dtype=np.int32)}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def write(folder: Path, **changes) -> Path:
    return write_bundle(folder, **{**FIELDS, "contents": CONTENTS, **changes})


def read(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return manifest


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=3), st.binary(max_size=50))
@settings(deadline=None, max_examples=25)
def test_what_is_written_is_read_back(tmp_path_factory, config, content):
    folder = write(tmp_path_factory.mktemp("b") / "iustfm" / "1.0.0", config=config, contents={"a.bin": content})
    manifest = read(folder)
    assert manifest.config == config
    assert {name: getattr(manifest, name) for name in FIELDS if name != "config"} == {
        name: value for name, value in FIELDS.items() if name != "config"
    }
    assert (folder / "a.bin").read_bytes() == content
    assert list(folder.parent.iterdir()) == [folder]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("bundles") / "iustfm" / "1.2.0")


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_one_flipped_bit_anywhere_in_a_bundle_is_noticed(bundle, tmp_path_factory, data):
    copy = tmp_path_factory.mktemp("copy") / "bundle"
    shutil.copytree(bundle, copy)
    path = data.draw(st.sampled_from(sorted(p for p in copy.rglob("*") if p.is_file())))
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"SHA-256"):
        read(copy)


def test_arrays_files_and_bytes_become_files(tmp_path):
    source = tmp_path / "source.onnx"
    source.write_bytes(b"graph")
    folder = write(tmp_path / "b", contents={"a.onnx": source, "region/x.npy": np.eye(2), "c.bin": b"c"})
    assert (folder / "a.onnx").read_bytes() == b"graph"
    np.testing.assert_array_equal(np.load(folder / "region/x.npy", mmap_mode="r"), np.eye(2))
    assert set(read(folder).files) == {"a.onnx", "region/x.npy", "c.bin"}


def test_the_digest_is_the_hash_of_the_manifest_and_sha256sum_agrees(bundle):
    assert (bundle / MANIFEST_HASH_NAME).read_text() == f"{read_manifest(bundle).digest}  {MANIFEST_NAME}\n"
    subprocess.run(["sha256sum", "-c", MANIFEST_HASH_NAME], cwd=bundle, check=True, capture_output=True)


def test_a_killed_write_leaves_no_half_bundle(tmp_path):
    folder = tmp_path / "iustfm" / "1.0.0"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import thermoscale.bundle.write as module\n"
        "module._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "module.write_bundle(Path(sys.argv[1]), pipeline='amun', version='1.0.0', quantity='lst', sky='all-sky',\n"
        "    config={}, training={}, metrics={}, versions={}, contents={'a.bin': b'x'})\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert not folder.exists()
    assert all(path.name.startswith(".") for path in folder.parent.iterdir())
    read(write(folder, version="1.0.0"))


def test_a_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "e" / "1.0.0", contents={"a.bin": b"x", "b.bin": tmp_path / "missing"})
    assert list((tmp_path / "e").iterdir()) == []


def test_a_version_is_immutable(bundle):
    with pytest.raises(BundleError, match=r"immutable: choose a new version"):
        write(bundle)


def test_two_writers_of_one_version_do_not_mix(tmp_path, monkeypatch):
    folder = tmp_path / "1.0.0"
    real_mkdtemp = __import__("tempfile").mkdtemp

    def other_writer_wins(*args, **kwargs):
        folder.mkdir()
        (folder / "theirs").write_bytes(b"x")
        return real_mkdtemp(*args, **kwargs)

    monkeypatch.setattr("tempfile.mkdtemp", other_writer_wins)
    with pytest.raises(BundleError, match="cannot rename"):
        write(folder)
    assert [path.name for path in folder.iterdir()] == ["theirs"]


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../b", "a//b", "", ".hidden", "a b", "manifest.json", "manifest.sha256", "a\n"]
)
def test_file_names_that_leave_the_bundle_or_take_the_manifests_are_refused(tmp_path, name):
    with pytest.raises(BundleError, match="file name"):
        write(tmp_path / "b", contents={name: b"x"})
    assert list(tmp_path.iterdir()) == []


def test_an_array_needs_the_suffix_npy(tmp_path):
    with pytest.raises(BundleError, match=r"x\.bin is an array"):
        write(tmp_path / "b", contents={"x.bin": np.zeros(2)})
