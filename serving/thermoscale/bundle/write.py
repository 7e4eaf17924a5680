"""Write a bundle so that it is either complete under its name or not there at all."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.arrays import Array
from thermoscale.bundle.manifest import (
    MANIFEST_HASH_NAME,
    MANIFEST_NAME,
    Manifest,
    file_entry,
    require_file_name,
)
from thermoscale.errors import BundleError

Content = bytes | Path | Array
"""One file of a bundle: its bytes, a file to copy, or an array for a ``.npy`` file."""


def write_bundle(
    folder: Path,
    *,
    pipeline: str,
    version: str,
    quantity: str,
    sky: str,
    config: Mapping[str, Any],
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    versions: Mapping[str, str],
    contents: Mapping[str, Content],
    georeference: Mapping[str, Any] | None = None,
    created: str | None = None,
) -> Path:
    """Write ``contents`` and their manifest as the bundle ``folder`` (``exported/<pipeline>/<version>``).

    Everything is written to a hidden folder beside it, synced to disk and renamed in one step: a reader sees the
    whole bundle or none. What a killed write leaves behind (``.<version>.*.partial``) may be deleted.

    Args:
        folder: the bundle's own folder; must not exist, because a version is immutable.
        contents: POSIX path inside the bundle -> content.
        created: UTC, default now. The other arguments are fields of :class:`Manifest`.

    Returns:
        ``folder``.

    Raises:
        BundleError: the folder exists, or a field or file name is outside the format.
    """
    if folder.exists():
        raise BundleError(f"{folder} exists and a version is immutable: choose a new version")
    manifest = Manifest(
        pipeline=pipeline,
        version=version,
        quantity=quantity,
        sky=sky,
        created=created or datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        config=dict(config),
        training=dict(training),
        metrics=dict(metrics),
        versions=dict(versions),
        georeference=None if georeference is None else dict(georeference),
    )
    manifest.to_bytes()  # not JSON: say so before anything is written
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        partial.chmod(0o755)  # mkdtemp makes it private, but a server may run as another user
        _fill(partial, manifest, contents)
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _fill(partial: Path, manifest: Manifest, contents: Mapping[str, Content]) -> None:
    for name, content in contents.items():
        require_file_name(name)
        _write_content(partial / name, content)
    files = {name: file_entry(partial / name) for name in contents}
    complete = replace(manifest, files=files)
    (partial / MANIFEST_NAME).write_bytes(complete.to_bytes())
    (partial / MANIFEST_HASH_NAME).write_bytes(complete.hash_line)


def _write_content(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, Path):
        shutil.copyfile(content, path)
    elif path.suffix == ".npy":
        np.save(path, content, allow_pickle=False)
    else:
        raise BundleError(f"bundle file {path.name} is an array and must be called *.npy")


def _publish(partial: Path, folder: Path) -> None:
    """Sync every file and folder below ``partial`` to disk, then give it its name."""
    for path in (*partial.rglob("*"), partial):
        _sync(path)
    try:
        partial.rename(folder)
    except OSError as error:
        raise BundleError(f"cannot rename {partial.name} to {folder}: {error}") from error
    _sync(folder.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
