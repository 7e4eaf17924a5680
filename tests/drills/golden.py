"""A bundle that does not reproduce its golden sample."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from drills.engine import Engine, is_running
from drills.load import steady_load
from drills.stage import Row, Stage
from thermoscale.bundle.golden import GOLDEN_NAME, encode_golden, read_golden
from thermoscale.bundle.manifest import read_manifest
from thermoscale.bundle.write import write_bundle
from thermoscale.errors import Unavailable
from thermoscale.readiness import Golden
from thermoscale.release.mar import pack

_VERSION = "0.0.2"
_REASON = "golden self-test"
_PATIENCE_S, _ANSWER_S = 60.0, 10.0


def broken_golden(stage: Stage) -> Row:
    """Loaded beside a good version under load, then given to a new server."""
    row = Row("bundle that fails its golden sample", stage.name)
    archive = pack(with_other_golden(stage.bundles["amun"], stage.folder / "amun" / _VERSION), stage.folder / "broken")
    with (
        stage.own_engine() as engine,
        engine.access.clients() as clients,
        steady_load(clients, stage.oracle, row.tally),
    ):
        engine.register(archive)
        if not _says_why(engine):
            row.defects.append("a loaded version does not say why it is never ready")
        for wire, client in clients.items():
            row.defects.extend(_asked(client, wire, engine.goldens["amun"]))
    alone = stage.new_engine([archive, stage.archives[1]])
    alone.start()
    since = time.monotonic()
    while time.monotonic() - since < _PATIENCE_S and is_running(alone):
        time.sleep(0.1)
    if is_running(alone) or alone.stop() != 1 or _REASON not in alone.log():
        row.defects.append("a new server does not end with code 1 and the reason")
    alone.stop()
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


def _says_why(engine: Engine) -> bool:
    since = time.monotonic()
    while time.monotonic() - since < _PATIENCE_S:
        if _REASON in engine.log():
            return True
        time.sleep(0.5)
    return False


def _asked(client: Any, wire: str, golden: Golden) -> list[str]:
    """What is amiss when the broken version is asked by name: it must refuse, and soon."""
    since = time.monotonic()
    try:
        client.predict(golden.model, golden.inputs, version=_VERSION, timeout_s=_ANSWER_S)
    except Unavailable:
        waited = time.monotonic() - since >= _ANSWER_S
        return [f"the broken version lets {wire} callers wait"] if waited else []
    return [f"the broken version answers over {wire}"]
