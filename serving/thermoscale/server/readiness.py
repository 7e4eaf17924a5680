"""Is a server really ready? Its workers say so, and the golden sample gives the golden answer over the wire.

TorchServe's ``/ping`` answers "healthy" long before a model can predict, and through the death of a worker.
"""

import json
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from thermoscale.arrays import Array
from thermoscale.bundle.golden import GOLDEN_NAME, compare_golden, read_golden
from thermoscale.bundle.manifest import MANIFEST_HASH_NAME, MANIFEST_NAME, read_manifest
from thermoscale.client import RestClient
from thermoscale.errors import BundleError, Unavailable
from thermoscale.service import GOLDEN_TOLERANCE_K
from thermoscale.torchserve import BUNDLE_FOLDER

_NEEDED = (MANIFEST_NAME, MANIFEST_HASH_NAME, GOLDEN_NAME)


class Client(Protocol):
    """Either client of :mod:`thermoscale.client`."""

    def predict(self, model: str, arrays: dict[str, Array], *, version: str | None, timeout_s: float) -> dict[str, Any]:
        """Predict one scene."""


@dataclass(frozen=True)
class Golden:
    """The golden sample of one bundle, and the model and version under which a server knows it."""

    model: str
    version: str
    inputs: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True)
class Worker:
    """One worker process as TorchServe's management API describes it."""

    pid: int
    status: str


def read_golden_of(path: Path) -> Golden:
    """The golden sample of a bundle folder or of a ``.mar``.

    Raises:
        BundleError: neither of the two, or damaged.
    """
    if path.is_dir():
        return _read_golden(path)
    with tempfile.TemporaryDirectory(prefix="thermoscale-") as temp:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in _NEEDED:
                    Path(temp, name).write_bytes(archive.read(f"{BUNDLE_FOLDER}/{name}"))
        except Exception as error:  # zipfile and zlib raise many kinds over bad bytes
            raise BundleError(f"{path} is no archive made by `thermoscale pack`: {error}") from error
        return _read_golden(Path(temp))


def read_workers(management: RestClient, model: str, version: str) -> list[Worker]:
    """The workers of ``model``.

    Raises:
        Unavailable: the management API does not answer, or knows no such model (yet).
    """
    status, reply = management.request("GET", f"/models/{model}/{version}", timeout_s=10)
    if status != 200:
        raise Unavailable(f"{management.url} answers {status} about model {model} {version}")
    workers = json.loads(reply)[0]["workers"]
    return [Worker(int(worker["pid"]), str(worker["status"])) for worker in workers]


def all_ready(workers: Sequence[Worker]) -> bool:
    """Whether there are any, and every one is READY."""
    return bool(workers) and all(worker.status == "READY" for worker in workers)


def require_golden(client: Client, golden: Golden, timeout_s: float = 60.0) -> float:
    """Send the golden sample and compare the answer; the largest difference in kelvin.

    Raises:
        BundleError: another answer than the stored one.
        Unavailable: no answer.
    """
    got = client.predict(golden.model, golden.inputs, version=golden.version, timeout_s=timeout_s)
    return compare_golden(golden.outputs, got, GOLDEN_TOLERANCE_K)


def _read_golden(folder: Path) -> Golden:
    manifest = read_manifest(folder)
    inputs, outputs = read_golden(folder / GOLDEN_NAME)
    return Golden(manifest.pipeline, manifest.version, inputs, outputs)
