"""A broken bundle never becomes ready, says why at once, and does not disturb the good one beside it."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx.external_data_helper import set_external_data

from thermoscale.bundle.manifest import read_manifest
from thermoscale.bundle.write import write_bundle
from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import BundleError, Unavailable
from thermoscale.release.mar import pack
from thermoscale.server.launcher import TorchServe
from thermoscale.server.readiness import require_golden

pytestmark = pytest.mark.server


def with_one_flipped_bit(archive: Path, target: Path) -> Path:
    """The same archive with one bit of its graph changed, and a zip directory that agrees with it."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as changed:
        for name in source.namelist():
            content = bytearray(source.read(name))
            if name == "bundle/amun.onnx":
                content[len(content) // 2] ^= 1
            changed.writestr(name, bytes(content))
    return target


def with_external_data(bundle: Path, folder: Path) -> Path:
    """A bundle with the right hashes whose graph keeps a tensor in a file beside it."""
    model = onnx.load(bundle / "amun.onnx")
    weights = onnx.helper.make_tensor("weights", onnx.TensorProto.FLOAT, [4], bytes(16), raw=True)
    set_external_data(weights, location="weights.data")
    weights.ClearField("raw_data")
    model.graph.initializer.append(weights)
    manifest = read_manifest(bundle)
    contents: dict[str, Any] = {name: bundle / name for name in manifest.files}
    contents |= {"amun.onnx": model.SerializeToString(), "weights.data": bytes(16)}
    kept = ("pipeline", "version", "quantity", "sky", "config", "training", "metrics", "versions")
    return write_bundle(folder, **{name: getattr(manifest, name) for name in kept}, contents=contents)


def flipped(archives: Mapping[str, Path], bundles: Mapping[str, Path], folder: Path) -> Path:
    return with_one_flipped_bit(archives["amun"], folder / "flipped.mar")


def external(archives: Mapping[str, Path], bundles: Mapping[str, Path], folder: Path) -> Path:
    return pack(with_external_data(bundles["amun"], folder / "external"), folder)


@pytest.mark.parametrize(
    ("breaking", "words"), [(flipped, "differs from the manifest"), (external, "external|weights")]
)
def test_a_broken_bundle_is_never_ready_and_the_good_one_answers(
    archives: Mapping[str, Path],
    bundles: Mapping[str, Path],
    tmp_path: Path,
    breaking: Callable[..., Path],
    words: str,
) -> None:
    broken = breaking(archives, bundles, tmp_path)
    with TorchServe([broken, archives["iustfm"]]) as server:
        server.wait_ready(models=["iustfm"])
        with pytest.raises(BundleError, match=words):
            server.wait_ready(models=["amun"])
        assert all(worker.status != "READY" for worker in server.workers("amun"))
        with GrpcClient(server.grpc_address) as grpc_client:
            for client in (RestClient(server.rest_url), grpc_client):
                with pytest.raises(Unavailable):
                    client.predict("amun", server.goldens["amun"].inputs, timeout_s=0.5)
                require_golden(client, server.goldens["iustfm"])
