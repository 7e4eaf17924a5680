"""``manifest.json``: what a bundle is, what it was made from, and the hash of every file in it.

``manifest.sha256`` beside it holds the hash of ``manifest.json`` itself in the format of ``sha256sum``, so that no
byte of a bundle can change unseen. Format: ``serving/docs/bundle-format.md``.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from thermoscale.arrays import QUANTITIES
from thermoscale.errors import BundleError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_HASH_NAME = "manifest.sha256"
PIPELINES = ("amun", "iustfm")
SKIES = ("clear-sky", "all-sky")

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", re.ASCII)
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_GEOREFERENCE_KEYS = ("fine_crs", "fine_transform", "coarse_crs", "coarse_transform")


@dataclass(frozen=True)
class FileEntry:
    """Hash and size of one file of a bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Everything a bundle says about itself.

    Attributes:
        pipeline: "amun" or "iustfm".
        version: semantic version; a version never changes.
        quantity: key of :data:`thermoscale.arrays.QUANTITIES`.
        sky: "clear-sky" or "all-sky": what the values are valid for.
        created: UTC, ``YYYY-MM-DDTHH:MMZ``.
        config: the pipeline's own settings, strict in the pipeline.
        training: data, dates, seeds, command line: provenance for people.
        metrics: scores on held-out data; NaN is None.
        versions: of the packages that made the bundle.
        georeference: ``fine_crs, fine_transform, coarse_crs, coarse_transform`` of a bundle tied to a place, else None.
        files: POSIX path inside the bundle -> hash and size; every file except the manifest and its hash.

    Raises:
        BundleError: a field has a value outside the format; the message names it.
    """

    pipeline: str
    version: str
    quantity: str
    sky: str
    created: str
    config: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, Any]
    versions: dict[str, str]
    georeference: dict[str, Any] | None = None
    files: dict[str, FileEntry] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise BundleError(
                f"manifest: format_version {self.format_version!r}, this program reads {FORMAT_VERSION}; "
                "use the thermoscale that made the bundle, or export it again"
            )
        _require_choice("pipeline", self.pipeline, PIPELINES)
        _require_choice("quantity", self.quantity, tuple(QUANTITIES))
        _require_choice("sky", self.sky, SKIES)
        _require_match("version", self.version, _VERSION, "a semantic version such as 1.2.0")
        _require_match("created", self.created, _CREATED, "UTC such as 2024-05-01T12:00Z")
        for name in ("config", "training", "metrics", "versions"):
            if not isinstance(getattr(self, name), dict):
                raise BundleError(f"manifest: {name} is {getattr(self, name)!r}, needed an object")
        _require_georeference(self.georeference)
        for name, entry in self.files.items():
            require_file_name(name)
            _require_match(f"files[{name}].sha256", entry.sha256, _SHA256, "64 hexadecimal digits")
            if type(entry.bytes) is not int or entry.bytes < 0:
                raise BundleError(f"manifest: files[{name}].bytes is {entry.bytes!r}, needed a size in bytes")

    def to_bytes(self) -> bytes:
        """The one spelling of this manifest: sorted keys, two spaces, ASCII, no NaN."""
        try:
            text = json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BundleError(f"manifest: not JSON ({error}); NaN is written as None") from error
        return (text + "\n").encode("ascii")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ``manifest.json``: identifies the bundle, since the manifest holds every other hash."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def hash_line(self) -> bytes:
        """Content of ``manifest.sha256``; ``sha256sum -c manifest.sha256`` checks it."""
        return f"{self.digest}  {MANIFEST_NAME}\n".encode("ascii")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the bundle in ``folder``; :func:`verify_files` then checks the files.

    Raises:
        BundleError: missing, changed after writing, not JSON, a missing or unknown key, or a bad value.
    """
    raw, recorded = _read(folder / MANIFEST_NAME), _read(folder / MANIFEST_HASH_NAME)
    digest = hashlib.sha256(raw).hexdigest()
    if recorded != f"{digest}  {MANIFEST_NAME}\n".encode("ascii"):
        raise BundleError(
            f"{folder / MANIFEST_NAME} has SHA-256 {digest}, {MANIFEST_HASH_NAME} says {recorded[:64]!r}: "
            "one of the two was changed; copy or export the bundle again"
        )
    manifest = _manifest_from(raw, folder)
    if manifest.to_bytes() != raw:
        raise BundleError(f"{folder / MANIFEST_NAME} was not written by write_bundle: its layout differs")
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check that the bundle in ``folder`` holds exactly the files of ``manifest``, byte for byte.

    Raises:
        BundleError: a file is missing, unlisted, a symbolic link, or differs in size or hash.
    """
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
    found -= {MANIFEST_NAME, MANIFEST_HASH_NAME}
    missing, unlisted = sorted(manifest.files.keys() - found), sorted(found - manifest.files.keys())
    if missing or unlisted:
        raise BundleError(f"bundle {folder}: missing files {missing}, files not in the manifest {unlisted}")
    for name, entry in manifest.files.items():
        _verify_file(folder / name, entry)


def file_entry(path: Path) -> FileEntry:
    """Hash and size of the file at ``path``."""
    with path.open("rb") as stream:
        return FileEntry(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def require_file_name(name: str) -> None:
    """Check that ``name`` is a plain relative path inside a bundle, and not the manifest's own."""
    if not _FILE_NAME.fullmatch(name) or name in (MANIFEST_NAME, MANIFEST_HASH_NAME):
        raise BundleError(f"manifest: file name {name!r}, needed a plain relative path such as region/labels.npy")


def _verify_file(path: Path, entry: FileEntry) -> None:
    if path.is_symlink():
        raise BundleError(f"{path} is a symbolic link; a bundle holds its files itself")
    try:
        got = file_entry(path)
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error}") from error
    if got != entry:
        raise BundleError(
            f"{path} differs from the manifest: {got.bytes} bytes, SHA-256 {got.sha256}; "
            f"needed {entry.bytes} bytes, {entry.sha256}; copy or export the bundle again"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error}; is {path.parent} a bundle?") from error


def _manifest_from(raw: bytes, folder: Path) -> Manifest:
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder / MANIFEST_NAME} is not JSON: {error}") from error
    _require_exact_keys("manifest", values, tuple(f.name for f in fields(Manifest)))
    files = values["files"]
    if not isinstance(files, dict):
        raise BundleError(f"manifest: files is {files!r}, needed an object")
    for name, entry in files.items():
        _require_exact_keys(f"manifest: files[{name}]", entry, ("sha256", "bytes"))
    return Manifest(**{**values, "files": {name: FileEntry(**entry) for name, entry in files.items()}})


def _require_exact_keys(name: str, values: object, keys: tuple[str, ...]) -> None:
    if not isinstance(values, Mapping):
        raise BundleError(f"{name} is {values!r:.80}, needed an object")
    missing, unknown = sorted(set(keys) - values.keys()), sorted(values.keys() - set(keys))
    if missing or unknown:
        raise BundleError(f"{name}: missing keys {missing}, unknown keys {unknown}; needed {sorted(keys)}")


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BundleError(f"manifest: {name} is {value!r}, needed one of {list(choices)}")


def _require_match(name: str, value: object, pattern: re.Pattern[str], example: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BundleError(f"manifest: {name} is {value!r}, needed {example}")


def _require_georeference(georeference: dict[str, Any] | None) -> None:
    if georeference is None:
        return
    _require_exact_keys("manifest: georeference", georeference, _GEOREFERENCE_KEYS)
    for grid in ("fine", "coarse"):
        crs, transform = georeference[f"{grid}_crs"], georeference[f"{grid}_transform"]
        if not isinstance(crs, str) or not crs:
            raise BundleError(f"manifest: {grid}_crs is {crs!r}, needed WKT or EPSG:n")
        numbers = isinstance(transform, list | tuple) and all(type(v) in (int, float) for v in transform)
        if not numbers or len(transform) != 6 or not all(map(math.isfinite, transform)):
            raise BundleError(f"manifest: {grid}_transform is {transform!r}, needed 6 finite numbers")
