"""Torch networks as single-file ONNX graphs with standard operators, dynamic batch and metadata."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thermoscale.arrays import QUANTITIES
from thermoscale_train.checkpoint import AmunCheckpoint, IustfmCheckpoint
from thermoscale_train.models.amun import THUMBNAIL_PX
from thermoscale_train.networks import (
    AMUN_CONTEXT_INPUTS,
    AMUN_CONTEXT_OUTPUTS,
    AMUN_TILE_OUTPUTS,
    DYNET_INPUTS,
    DYNET_OUTPUTS,
    RATIO_NET_INPUTS,
    RATIO_NET_OUTPUTS,
    amun_tile,
    amun_tile_inputs,
)

OPSET = 20


@dataclass(frozen=True)
class Graph:
    """What is exported: a function of tensors, example inputs by name, and which of them have a batch axis in front.

    The examples must be different tensors: the exporter takes the same tensor twice for one input.
    """

    function: Callable[..., Any]
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    batched: Sequence[str]


def amun_graphs(checkpoint: AmunCheckpoint) -> dict[str, Graph]:
    """``amun.onnx`` and ``amun_context.onnx``."""
    amun, config = checkpoint.build(), checkpoint.config
    n_factors = len(config.factor_names)
    thumb = torch.rand(1, 1 + n_factors, THUMBNAIL_PX, THUMBNAIL_PX)
    with torch.no_grad():
        context = amun.context(thumb, torch.ones_like(thumb))
    side = config.tile_px
    tile = {
        "coarse": torch.rand(2, 1, side, side),
        "factors": torch.rand(2, n_factors, side, side),
        "valid": torch.ones(2, 1 + n_factors, side, side),
        **dict(zip(AMUN_CONTEXT_OUTPUTS, context, strict=True)),
    }
    names = amun_tile_inputs(n_factors)
    batched = [name for name in names if name not in AMUN_CONTEXT_OUTPUTS]
    thumbs = dict(zip(AMUN_CONTEXT_INPUTS, (thumb, torch.ones_like(thumb)), strict=True))
    return {
        "amun.onnx": Graph(amun_tile(amun), {name: tile[name] for name in names}, AMUN_TILE_OUTPUTS, batched),
        "amun_context.onnx": Graph(amun.context, thumbs, AMUN_CONTEXT_OUTPUTS, ()),
    }


def iustfm_graphs(checkpoint: IustfmCheckpoint) -> dict[str, Graph]:
    """``dynet.onnx`` and ``ratio_net.onnx``; none for an untrained checkpoint."""
    graphs = {}
    dynet, ratio_net, config = checkpoint.build_dynet(), checkpoint.build_ratio_net(), checkpoint.config
    if dynet is not None:
        inputs = (torch.rand(2, config.m_max), torch.rand(2, config.m_max) > 0.5, torch.rand(2, config.h_max) > 0.5)
        named = dict(zip(DYNET_INPUTS, inputs, strict=True))
        graphs["dynet.onnx"] = Graph(dynet, named, DYNET_OUTPUTS, DYNET_INPUTS)
    if ratio_net is not None:
        named = dict(zip(RATIO_NET_INPUTS, (torch.rand(2), torch.rand(2)), strict=True))
        graphs["ratio_net.onnx"] = Graph(ratio_net, named, RATIO_NET_OUTPUTS, RATIO_NET_INPUTS)
    return graphs


def write_graph(path: Path, graph: Graph, metadata: Mapping[str, str]) -> None:
    """Export ``graph`` to the one file ``path``; ``metadata`` becomes its metadata_props."""
    import onnx

    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    shapes = tuple({0: batch} if name in graph.batched else None for name in graph.inputs)
    module = _Wrapped(graph.function).eval()
    with _quiet_exporter():
        torch.onnx.export(
            module,
            tuple(graph.inputs.values()),
            path,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=(shapes,),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def amun_metadata(checkpoint: AmunCheckpoint, version: str) -> dict[str, str]:
    """Who made the graphs, their unit and their channels."""
    return {
        **_common("amun", version, checkpoint.config.quantity),
        "channels": json.dumps(amun_channels(checkpoint)),
        "config": json.dumps(checkpoint.config.to_json()),
    }


def amun_channels(checkpoint: AmunCheckpoint) -> list[dict[str, Any]]:
    """The standardisation inside the graphs, repeated for people; what is missing is filled before the graph."""
    config, network = checkpoint.config, checkpoint.network
    rows = zip(config.factor_names, config.factor_units, network.factor_offset, network.factor_scale, strict=True)
    coarse = {"name": "coarse", "unit": config.physical.unit, "offset": "mean of the neighbourhood"}
    return [
        {**coarse, "scale": network.detail_scale, "fill": "nearest valid cell"},
        *({"name": n, "unit": u, "offset": o, "scale": s, "fill": 0.0} for n, u, o, s in rows),
    ]


def iustfm_metadata(checkpoint: IustfmCheckpoint, version: str) -> dict[str, str]:
    """Who made the graphs and their unit."""
    config = json.dumps(checkpoint.config.to_json())
    return {**_common("iustfm", version, checkpoint.config.quantity), "config": config}


class _Wrapped(nn.Module):
    """A function of tensors as a module; holds the module behind it, so that its weights are found."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        owner = getattr(function, "__self__", None)
        self.owner = owner if isinstance(owner, nn.Module) else None

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def _common(pipeline: str, version: str, quantity: str) -> dict[str, str]:
    unit = QUANTITIES[quantity].unit
    return {
        "producer": "thermoscale-train",
        "pipeline": pipeline,
        "version": version,
        "quantity": quantity,
        "unit": unit,
    }


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Three remarks of torch 2.13's exporter that concern nobody: torchvision is not needed, axes share one name,
    and a deprecation inside torch itself."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*The axis name: batch will not be used", category=UserWarning)
            warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\)", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
