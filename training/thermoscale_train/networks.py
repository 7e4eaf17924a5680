"""Torch modules as the plain callables that the pipelines take."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from thermoscale.arrays import Array, Network
from thermoscale_train.models.amun import Amun
from thermoscale_train.models.dynet import DyNet
from thermoscale_train.models.ratio_net import RatioNet

AMUN_CONTEXT_INPUTS, AMUN_CONTEXT_OUTPUTS = ("thumb", "thumb_valid"), ("k", "v", "gate", "bias")
DYNET_INPUTS, DYNET_OUTPUTS = ("alpha", "valid", "hcr_present"), ("alpha_hcr",)
RATIO_NET_INPUTS, RATIO_NET_OUTPUTS = ("distance", "a2"), ("delta",)
AMUN_TILE_OUTPUTS = ("lst", "spread")


def amun_tile_inputs(n_factors: int) -> tuple[str, ...]:
    """Names of the tile graph's inputs; without factors there is no such input."""
    return ("coarse", *(("factors",) if n_factors else ()), "valid", *AMUN_CONTEXT_OUTPUTS)


def amun_context_network(amun: Amun) -> Network:
    """The scene's graph."""
    return as_network(amun.context, AMUN_CONTEXT_INPUTS, AMUN_CONTEXT_OUTPUTS)


def amun_tile_network(amun: Amun) -> Network:
    """The tile's graph."""
    return as_network(amun_tile(amun), amun_tile_inputs(amun.config.n_factors), AMUN_TILE_OUTPUTS)


def amun_tile(amun: Amun) -> Callable[..., Tensor]:
    """``amun`` as a function of exactly the graph's inputs."""
    if amun.config.n_factors:
        return amun
    return lambda coarse, valid, *context: amun(coarse, None, valid, *context)


def dynet_network(dynet: DyNet) -> Network:
    """DyNet."""
    return as_network(dynet, DYNET_INPUTS, DYNET_OUTPUTS)


def ratio_net_network(ratio_net: RatioNet) -> Network:
    """RatioNet."""
    return as_network(ratio_net, RATIO_NET_INPUTS, RATIO_NET_OUTPUTS)


def as_network(
    function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[str], outputs: Sequence[str]
) -> Network:
    """``function`` of tensors as a function of named arrays, without gradients."""

    def call(arrays: Mapping[str, Array]) -> dict[str, Array]:
        tensors = [torch.from_numpy(np.array(arrays[name])) for name in inputs]
        with torch.no_grad():
            answers = function(*tensors)
        answers = answers if isinstance(answers, tuple) else (answers,)
        return {name: answer.numpy() for name, answer in zip(outputs, answers, strict=True)}

    return call
