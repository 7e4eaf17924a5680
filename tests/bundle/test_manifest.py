"""Manifests: strict in every field, and the files of a bundle are exactly those listed."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from thermoscale.bundle.manifest import (
    MANIFEST_HASH_NAME,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    read_manifest,
    verify_files,
)
from thermoscale.bundle.write import write_bundle
from thermoscale.errors import BundleError

GOOD = Manifest("amun", "1.0.0", "lst", "all-sky", "2024-05-01T12:00Z", {}, {}, {}, {})
PLACE = {
    "fine_crs": "EPSG:4326",
    "fine_transform": [1, 0, 0, 0, -1, 0],
    "coarse_crs": "EPSG:4326",
    "coarse_transform": [10, 0, 0, 0, -10, 0],
}


@pytest.fixture
def bundle(tmp_path) -> Path:
    return write_bundle(
        tmp_path / "1.0.0", pipeline="amun", version="1.0.0", quantity="lst", sky="all-sky", config={}, training={},
        metrics={}, versions={}, contents={"a.onnx": b"aa", "region/b.npy": b"bb"},
    )  # fmt: skip


def store(folder: Path, raw: bytes) -> None:
    """Put a manifest there together with its right hash."""
    (folder / MANIFEST_NAME).write_bytes(raw)
    (folder / MANIFEST_HASH_NAME).write_text(f"{hashlib.sha256(raw).hexdigest()}  {MANIFEST_NAME}\n")


def test_created_defaults_to_now(bundle):
    assert read_manifest(bundle).created > "2024"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pipeline", "starfm"),
        ("version", "1.0"),
        ("version", "01.0.0"),
        ("version", None),
        ("version", "1.0.0\n"),
        ("quantity", "celsius"),
        ("sky", "cloudy"),
        ("created", "yesterday"),
        ("config", []),
        ("metrics", None),
        ("format_version", 2),
        ("georeference", {"fine_crs": "EPSG:4326"}),
        ("georeference", {**PLACE, "coarse_crs": ""}),
        ("georeference", {**PLACE, "fine_transform": [1, 2, 3]}),
        ("georeference", {**PLACE, "fine_transform": [1, 0, float("inf"), 0, 1, 0]}),
        ("files", {"../x": FileEntry("0" * 64, 1)}),
        ("files", {"x": FileEntry("0", 1)}),
        ("files", {"x": FileEntry("0" * 64, -1)}),
        ("files", {"x": FileEntry("0" * 64, True)}),
    ],
)
def test_a_field_outside_the_format_is_refused_by_name(field, value):
    name = {"georeference": "coarse|fine|georeference", "files": "file"}.get(field, field)
    with pytest.raises(BundleError, match=name):
        replace(GOOD, **{field: value})


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x"])
def test_values_that_are_no_json_are_refused(value):
    with pytest.raises(BundleError, match="not JSON"):
        replace(GOOD, metrics={"rmse": value}).to_bytes()


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"is .* a bundle\?"):
        read_manifest(tmp_path)


def test_a_manifest_without_its_hash_is_refused(bundle):
    (bundle / MANIFEST_HASH_NAME).unlink()
    with pytest.raises(BundleError, match=MANIFEST_HASH_NAME):
        read_manifest(bundle)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_json_is_refused(bundle, raw):
    store(bundle, raw)
    with pytest.raises(BundleError, match="not JSON"):
        read_manifest(bundle)


def changed(bundle: Path, change) -> None:
    values = json.loads((bundle / MANIFEST_NAME).read_bytes())
    change(values)
    store(bundle, (json.dumps(values, indent=2, sort_keys=True) + "\n").encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("sky"), r"missing keys \['sky'\]"),
        (lambda m: m.update(color=1), r"unknown keys \['color'\]"),
        (lambda m: m.update(files=[]), "files is"),
        (lambda m: m["files"].update(x={"sha256": "0" * 64}), r"files\[x\]: missing keys \['bytes'\]"),
        (lambda m: m["files"].update(x=1), r"files\[x\] is 1"),
    ],
)
def test_missing_and_unknown_keys_are_refused_by_name(bundle, change, message):
    changed(bundle, change)
    with pytest.raises(BundleError, match=message):
        read_manifest(bundle)


def test_a_manifest_that_is_a_list_is_refused(bundle):
    store(bundle, b"[]\n")
    with pytest.raises(BundleError, match="needed an object"):
        read_manifest(bundle)


def test_another_layout_of_the_same_values_is_refused(bundle):
    store(bundle, json.dumps(json.loads((bundle / MANIFEST_NAME).read_bytes())).encode())
    with pytest.raises(BundleError, match="layout"):
        read_manifest(bundle)


def test_a_missing_and_an_unlisted_file_are_named(bundle):
    (bundle / "a.onnx").rename(bundle / "b.onnx")
    with pytest.raises(BundleError, match=r"missing files \['a.onnx'\], files not in the manifest \['b.onnx'\]"):
        verify_files(bundle, read_manifest(bundle))


def test_a_symbolic_link_is_refused_even_to_the_right_bytes(bundle, tmp_path):
    (bundle / "a.onnx").rename(tmp_path / "elsewhere")
    (bundle / "a.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="symbolic link"):
        verify_files(bundle, read_manifest(bundle))


def test_a_bundle_may_be_reached_through_a_link_and_moved(bundle, tmp_path):
    (tmp_path / "current").symlink_to(bundle)
    verify_files(tmp_path / "current", read_manifest(tmp_path / "current"))
    moved = bundle.rename(tmp_path / "moved")
    verify_files(moved, read_manifest(moved))
