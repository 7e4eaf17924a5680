"""A bundle that does not reproduce its golden sample."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from drills.engine import is_ready, is_running
from drills.load import steady_load
from drills.stage import Row, Stage
from thermoscale.bundle.golden import GOLDEN_NAME, encode_golden, read_golden
from thermoscale.bundle.manifest import read_manifest
from thermoscale.bundle.write import write_bundle
from thermoscale.release.mar import pack

_VERSION = "0.0.2"
_REASON = "golden self-test"
_PATIENCE_S = 120.0


def broken_golden(stage: Stage) -> Row:
    """A start with it beside a good bundle ends with the reason; a server that runs on the same machine goes on.

    That the good bundle answers while the broken one is refused: ``tests/torchserve/test_broken_archives.py``.
    """
    row, engine = stage.row("bundle that fails its golden sample"), stage.engine()
    archive = pack(with_other_golden(stage.bundles["amun"], stage.folder / "amun" / _VERSION), stage.folder / "broken")
    refused = stage.new_engine([archive, stage.archives[1]])
    with engine.access.clients() as clients, steady_load(clients, stage.oracle, row.tally):
        refused.start()
        since = time.monotonic()
        while time.monotonic() - since < _PATIENCE_S and is_running(refused):
            if is_ready(refused, models=["amun"]):
                row.defects.append("the broken bundle becomes ready")
                break
            time.sleep(0.2)
        left = [path.name for path in refused.unpacked()]
        code = refused.stop()
    if code != 1 or _REASON not in refused.log():
        row.defects.append(f"the start ends with code {code}, needed 1 and the reason")
    if left:
        row.defects.append(f"left behind: {left}")
    return row


def with_other_golden(bundle: Path, folder: Path) -> Path:
    """The bundle with the right hashes, and a golden answer that is 0.01 K off."""
    manifest = read_manifest(bundle)
    inputs, outputs = read_golden(bundle / GOLDEN_NAME)
    other = {**outputs, "lst": outputs["lst"] + np.float32(0.01)}
    contents: dict[str, Any] = {name: bundle / name for name in manifest.files}
    contents[GOLDEN_NAME] = encode_golden(inputs, other)
    kept = ("pipeline", "quantity", "sky", "config", "training", "metrics", "versions")
    fields = {name: getattr(manifest, name) for name in kept}
    return write_bundle(folder, **fields, version=_VERSION, contents=contents)
