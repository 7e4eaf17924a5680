"""Checkpoints to bundles. A bundle appears under its name only after torch, onnxruntime and Service have agreed."""

import tempfile
from collections.abc import Mapping
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from thermoscale.arrays import Array
from thermoscale.bundle.golden import GOLDEN_NAME, encode_golden
from thermoscale.bundle.write import Content, write_bundle
from thermoscale.errors import BundleError
from thermoscale_train import parity
from thermoscale_train.checkpoint import AmunCheckpoint, IustfmCheckpoint
from thermoscale_train.onnx_graphs import (
    Graph,
    amun_channels,
    amun_graphs,
    amun_metadata,
    iustfm_graphs,
    iustfm_metadata,
    write_graph,
)
from thermoscale_train.parity import TOLERANCE_K

VERSIONED = ("thermoscale", "torch", "onnx", "onnxruntime", "numpy", "scikit-learn")


def export_amun(checkpoint: AmunCheckpoint, out: Path, *, version: str) -> Path:
    """Write the bundle ``out/amun/<version>``.

    Raises:
        BundleError: it exists, or the three computations do not agree; then nothing is left behind.
    """
    folder = _require_free(out / "amun" / version)
    with tempfile.TemporaryDirectory(prefix=f".{version}.", dir=folder.parent) as work:
        graphs = _write_graphs(Path(work), amun_graphs(checkpoint), amun_metadata(checkpoint, version))
        expected = parity.torch_amun(checkpoint)
        found = {"onnxruntime": _differ(expected, parity.onnx_amun(checkpoint, Path(work)), TOLERANCE_K)}
        fields = {
            "pipeline": "amun",
            "version": version,
            "training": {**checkpoint.training, "channels": amun_channels(checkpoint), "parity_k": found},
            "metrics": checkpoint.metrics,
            "contents": graphs,
        }
        return _publish(Path(work), folder, checkpoint, fields, expected, TOLERANCE_K, modes={})


def export_iustfm(checkpoint: IustfmCheckpoint, out: Path, *, version: str) -> Path:
    """Write the bundle ``out/iustfm/<version>``.

    Raises:
        BundleError: as in :func:`export_amun`.
    """
    folder = _require_free(out / "iustfm" / version)
    tolerance = TOLERANCE_K * checkpoint.config.physical.kelvin
    with tempfile.TemporaryDirectory(prefix=f".{version}.", dir=folder.parent) as work:
        graphs = _write_graphs(Path(work), iustfm_graphs(checkpoint), iustfm_metadata(checkpoint, version))
        modes, by_onnx = parity.torch_iustfm(checkpoint), parity.onnx_iustfm(checkpoint, Path(work))
        found = {"onnxruntime": max(_differ(modes[mode], by_onnx[mode], tolerance) for mode in modes)}
        measured = {}
        if checkpoint.ratio_net is not None:
            measured["ratio_table_error_k"] = parity.require_ratio_table(checkpoint, Path(work))
        arrays = {f"region/{name}.npy": array for name, array in checkpoint.region.to_arrays().items()}
        if checkpoint.adaptive is not None:
            arrays |= {f"region/adaptive_{name}.npy": array for name, array in checkpoint.adaptive.to_arrays().items()}
        fields = {
            "pipeline": "iustfm",
            "version": version,
            "training": {**checkpoint.training, "parity_k": found},
            "metrics": {**checkpoint.metrics, **measured},
            "contents": {**graphs, **arrays},
            "georeference": checkpoint.georeference,
        }
        expected = modes[checkpoint.config.mode]
        return _publish(Path(work), folder, checkpoint, fields, expected, tolerance, modes=modes)


def _require_free(folder: Path) -> Path:
    """``folder``, with its parents made.

    Raises:
        BundleError: it exists.
    """
    if folder.exists():
        raise BundleError(f"{folder} exists and a version is immutable: choose a new version")
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _write_graphs(work: Path, graphs: Mapping[str, Graph], metadata: Mapping[str, str]) -> dict[str, Content]:
    for name, graph in graphs.items():
        write_graph(work / name, graph, {**metadata, "graph": name})
    return {name: work / name for name in graphs}


def _differ(expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: float) -> float:
    return parity.require_parity(dict(expected), got, "onnxruntime", tolerance)


def _publish(
    work: Path,
    folder: Path,
    checkpoint: AmunCheckpoint | IustfmCheckpoint,
    fields: Mapping[str, Any],
    expected: dict[str, Array],
    tolerance: float,
    *,
    modes: Mapping[str, dict[str, Array]],
) -> Path:
    """Write the bundle where nobody looks, open it, compare, and only then give it its name."""
    contents = {**fields["contents"], GOLDEN_NAME: encode_golden(checkpoint.golden, expected)}
    hidden = write_bundle(
        work / "bundle",
        **{**fields, "contents": contents},
        quantity=checkpoint.config.quantity,
        sky=checkpoint.sky,
        config=checkpoint.config.to_json(),
        versions={name: package_version(name) for name in VERSIONED},
    )
    parity.require_service_parity(expected, hidden, checkpoint.golden, tolerance, modes)
    try:
        hidden.rename(folder)
    except OSError as error:
        raise BundleError(f"cannot rename the checked bundle to {folder}: {error}") from error
    return folder
