"""Parity: torch, onnxruntime and the opened bundle give one answer to one scene, or there is no bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.arrays import Array, Network
from thermoscale.bundle.golden import compare_golden
from thermoscale.errors import BundleError
from thermoscale.pipelines.amun import Amun
from thermoscale.pipelines.iustfm import Iustfm
from thermoscale.runtime.ort import open_session
from thermoscale.service import open_bundle
from thermoscale_train.checkpoint import AmunCheckpoint, IustfmCheckpoint
from thermoscale_train.networks import amun_context_network, amun_tile_network, dynet_network, ratio_net_network

TOLERANCE_K = 1e-3

Answer = dict[str, Array]


def torch_amun(checkpoint: AmunCheckpoint) -> Answer:
    """The golden scene by torch."""
    network = checkpoint.build()
    return _amun_answer(checkpoint, amun_context_network(network), amun_tile_network(network))


def onnx_amun(checkpoint: AmunCheckpoint, folder: Path) -> Answer:
    """The golden scene by onnxruntime, with the graphs in ``folder``."""
    return _amun_answer(checkpoint, open_session(folder / "amun_context.onnx"), open_session(folder / "amun.onnx"))


def torch_iustfm(checkpoint: IustfmCheckpoint) -> Answer:
    """The golden request by torch."""
    dynet, ratio_net = checkpoint.build_dynet(), checkpoint.build_ratio_net()
    return _iustfm_answer(checkpoint, dynet and dynet_network(dynet), ratio_net and ratio_net_network(ratio_net))


def onnx_iustfm(checkpoint: IustfmCheckpoint, folder: Path) -> Answer:
    """The golden request by onnxruntime, with the graphs in ``folder``."""
    names = ("dynet.onnx", "ratio_net.onnx")
    dynet, ratio_net = (open_session(folder / name) if (folder / name).exists() else None for name in names)
    return _iustfm_answer(checkpoint, dynet, ratio_net)


def require_parity(expected: Answer, got: Mapping[str, Any], what: str, tolerance_k: float) -> float:
    """Largest difference of two answers in the unit of the quantity.

    Raises:
        BundleError: it exceeds ``tolerance_k``, or a layer is missing, has another shape, flags or gaps.
    """
    try:
        return compare_golden(expected, {name: np.asarray(value) for name, value in got.items()}, tolerance_k)
    except BundleError as error:
        raise BundleError(f"parity of torch and {what}: {error}; no bundle was written") from error


def require_service_parity(expected: Answer, folder: Path, golden: Mapping[str, Array], tolerance_k: float) -> float:
    """Open the bundle in ``folder`` and compare its answer.

    Raises:
        BundleError: it does not open, or differs.
    """
    return require_parity(expected, open_bundle(folder).predict(golden), "the opened bundle", tolerance_k)


def _amun_answer(checkpoint: AmunCheckpoint, context: Network, tile: Network) -> Answer:
    golden = checkpoint.golden
    answer = Amun(checkpoint.config, context, tile).predict(golden["coarse"], golden.get("factors"))
    return {"lst": answer["lst"], "flags": answer["flags"]}


def _iustfm_answer(checkpoint: IustfmCheckpoint, dynet: Network | None, ratio_net: Network | None) -> Answer:
    golden = checkpoint.golden
    answer = Iustfm(checkpoint.config, checkpoint.region, dynet, ratio_net, adaptive=checkpoint.adaptive).predict(
        golden["coarse"],
        str(golden["time"]),
        window=golden["window"].tolist(),
        order="past_only" if "past_only" in golden else "ordered",
    )
    return {name: answer[name] for name in ("lst", "spread_k", "n_triples", "flags")}
