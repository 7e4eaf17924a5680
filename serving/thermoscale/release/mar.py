"""Pack a bundle and the code it was tested with into one TorchServe archive.

Inside: ``<pipeline>_handler.py``, ``<pipeline>.yaml``, ``thermoscale/`` (what a worker needs of this package),
``bundle/`` and TorchServe's ``MAR-INF/MANIFEST.json``. The same bundle and the same code give the same bytes.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from thermoscale.bundle.manifest import Manifest, read_manifest, verify_files
from thermoscale.errors import Unavailable
from thermoscale.resources import resource_folder
from thermoscale.torchserve import BUNDLE_FOLDER

_PACKAGE = Path(__file__).parents[1]
_NOT_SERVED = ("cli", "client", "config", "doctor", "handlers", "release", "server", "testing", "__pycache__")
_MAR_MANIFEST = "MAR-INF/MANIFEST.json"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def pack(bundle_folder: Path, model_store: Path) -> Path:
    """Write ``<pipeline>-<version>.mar`` into ``model_store``; an older one of that name is replaced in one step.

    Raises:
        BundleError: the bundle is broken.
        Unavailable: torch-model-archiver is missing or fails.
    """
    manifest = read_manifest(bundle_folder)
    verify_files(bundle_folder, manifest)
    model_store.mkdir(parents=True, exist_ok=True)
    target = model_store / f"{manifest.pipeline}-{manifest.version}.mar"
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=model_store) as temp:
        archive = _run_archiver(Path(temp), bundle_folder, manifest)
        os.replace(_repack(archive, manifest.created), target)
    return target


def _run_archiver(temp: Path, bundle_folder: Path, manifest: Manifest) -> Path:
    """TorchServe's own tool, with a temporary folder of its own: it works in ``$TMPDIR/<model name>``."""
    content, scratch = temp / "content", temp / "scratch"
    scratch.mkdir()
    shutil.copytree(_PACKAGE, content / "thermoscale", ignore=shutil.ignore_patterns(*_NOT_SERVED))
    shutil.copytree(bundle_folder, content / BUNDLE_FOLDER)
    command = [
        *(sys.executable, "-m", "model_archiver.model_packaging"),
        *("--model-name", manifest.pipeline, "--version", manifest.version),
        *("--handler", str(resource_folder("handlers") / f"{manifest.pipeline}_handler.py")),
        *("--config-file", str(resource_folder("config") / f"{manifest.pipeline}.yaml")),
        *("--extra-files", str(content), "--export-path", str(temp)),
    ]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(scratch)}, capture_output=True, text=True)
    if done.returncode != 0:
        hint = "; pip install 'thermoscale[serve]'" if "No module named" in done.stderr else ""
        raise Unavailable(f"torch-model-archiver failed{hint}:\n{done.stderr.strip()}")
    return temp / f"{manifest.pipeline}.mar"


def _repack(archive: Path, created: str) -> Path:
    """The same content without the time of packing: sorted, one time for all, ``createdOn`` from the bundle."""
    repacked = archive.with_suffix(".repacked")
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(repacked, "w", zipfile.ZIP_DEFLATED) as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == _MAR_MANIFEST:
                content = json.dumps({**json.loads(content), "createdOn": created}, indent=2).encode()
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            target.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return repacked
