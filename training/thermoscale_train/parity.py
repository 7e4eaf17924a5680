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
from thermoscale.pipelines.iustfm_config import ADAPTIVE
from thermoscale.pipelines.iustfm_table import allowed_error, error_against, measured_table
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


def torch_iustfm(checkpoint: IustfmCheckpoint) -> dict[str, Answer]:
    """The golden request by torch, in every mode that the bundle will serve."""
    dynet, ratio_net = checkpoint.build_dynet(), checkpoint.build_ratio_net()
    return _iustfm_answers(checkpoint, dynet and dynet_network(dynet), ratio_net and ratio_net_network(ratio_net))


def onnx_iustfm(checkpoint: IustfmCheckpoint, folder: Path) -> dict[str, Answer]:
    """The same by onnxruntime, with the graphs in ``folder``."""
    names = ("dynet.onnx", "ratio_net.onnx")
    dynet, ratio_net = (open_session(folder / name) if (folder / name).exists() else None for name in names)
    return _iustfm_answers(checkpoint, dynet, ratio_net)


def require_ratio_table(checkpoint: IustfmCheckpoint, folder: Path) -> float | None:
    """Largest difference of the table that will be served, made from the graph in ``folder``, from torch's RatioNet.

    It covers all that RatioNet was trained on, the golden request only what one scene asks.

    Returns:
        In the unit of the quantity; None without RatioNet, and where the pole in its range forbids a table.

    Raises:
        BundleError: it exceeds ``LARGEST_ERROR_K``, or the graph has no value where torch has one.
    """
    config, ratio_net = checkpoint.config, checkpoint.build_ratio_net()
    table = None if ratio_net is None else measured_table(config, open_session(folder / "ratio_net.onnx"))
    if ratio_net is None or table is None:
        return None
    error = error_against(config, ratio_net_network(ratio_net), table)
    if not error <= allowed_error(config):
        raise BundleError(
            f"RatioNet and the table of ratio_net.onnx differ by {error:.3g} {config.physical.unit}, "
            f"allowed {allowed_error(config):g}: train RatioNet longer; no bundle was written"
        )
    return error


def require_parity(expected: Answer, got: Mapping[str, Any], what: str, tolerance_k: float) -> float:
    """Largest difference of two answers in the unit of the quantity.

    Raises:
        BundleError: it exceeds ``tolerance_k``, or a layer is missing, has another shape, flags or gaps.
    """
    try:
        return compare_golden(expected, {name: np.asarray(value) for name, value in got.items()}, tolerance_k)
    except BundleError as error:
        raise BundleError(f"parity of torch and {what}: {error}; no bundle was written") from error


def require_service_parity(
    expected: Answer,
    folder: Path,
    golden: Mapping[str, Array],
    tolerance_k: float,
    modes: Mapping[str, Answer],
) -> None:
    """Open the bundle in ``folder`` and compare its answer, and that in each of ``modes``.

    Raises:
        BundleError: it does not open, or differs.
    """
    service = open_bundle(folder)
    require_parity(expected, service.predict(golden), "the opened bundle", tolerance_k)
    for mode, answer in modes.items():
        got = service.predict({**golden, "mode": np.asarray(mode)})
        require_parity(answer, got, f"the opened bundle in mode {mode}", tolerance_k)


def _amun_answer(checkpoint: AmunCheckpoint, context: Network, tile: Network) -> Answer:
    golden = checkpoint.golden
    answer = Amun(checkpoint.config, context, tile).predict(golden["coarse"], golden.get("factors"))
    return {name: answer[name] for name in ("lst", "spread_k", "flags")}


def _iustfm_answers(
    checkpoint: IustfmCheckpoint, dynet: Network | None, ratio_net: Network | None
) -> dict[str, Answer]:
    pipeline = Iustfm(checkpoint.config, checkpoint.region, dynet, ratio_net, adaptive=checkpoint.adaptive)
    there = {"closed_form": True, "rationet": ratio_net is not None, ADAPTIVE: checkpoint.adaptive is not None}
    return {mode: _iustfm_answer(pipeline, checkpoint.golden, mode) for mode, present in there.items() if present}


def _iustfm_answer(pipeline: Iustfm, golden: Mapping[str, Array], mode: str) -> Answer:
    answer = pipeline.predict(
        golden["coarse"],
        str(golden["time"]),
        window=golden["window"].tolist(),
        mode=mode,
        order="past_only" if "past_only" in golden else "ordered",
    )
    return {name: answer[name] for name in ("lst", "spread_k", "n_triples", "flags")}
