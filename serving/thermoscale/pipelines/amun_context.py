"""The context of a scene: what AMUN's tiles know of the whole. A value with an identity.

The gate and the attention of the network are global. Computed once from a thumbnail of the whole scene, and
passed to every tile, window and chunk of it, they leave no trace of where the cuts were.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import InvalidInput

CONTEXT_NAMES = ("k", "v", "gate", "bias")


def context_id(context: Mapping[str, Array]) -> str:
    """16 hexadecimal digits; equal for equal contexts."""
    digest = sha256()
    for name in CONTEXT_NAMES:
        digest.update(np.ascontiguousarray(context[name], dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def pack_context(context: Mapping[str, Array]) -> FloatArray:
    """One vector ``[V * (2 * C * tokens + G) + 1]`` for V views: k, v ``[V, C, tokens]``, gate ``[V, G]``, bias
    ``[1, 1]`` in a row."""
    return np.concatenate([np.ravel(context[name]) for name in CONTEXT_NAMES]).astype(np.float32)


def unpack_context(packed: Array, tokens: int, views: int) -> dict[str, Any]:
    """The context that :func:`pack_context` wrote; a gate is shorter than ``2 * tokens``.

    Raises:
        InvalidInput: not a vector of finite numbers, or of an impossible length.
    """
    if packed.ndim != 1 or packed.dtype.kind != "f" or not np.isfinite(packed).all():
        raise InvalidInput(
            f"context has shape {list(packed.shape)} and type {packed.dtype}, needed one vector of finite float32, "
            "as an earlier reply gave it"
        )
    of_a_view, rest = divmod(packed.size - 1, views)
    channels, groups = divmod(of_a_view, 2 * tokens)
    if rest or channels < 1 or groups < 1:
        raise InvalidInput(
            f"context has {packed.size} numbers, needed {views} * (2 * C * {tokens} + G) + 1 with C, G >= 1: "
            "is it of another bundle?"
        )
    values, size = packed.astype(np.float32), views * channels * tokens
    k, v, gate, bias = np.split(values, [size, 2 * size, len(values) - 1])
    context: dict[str, Array] = {"k": k.reshape(views, channels, tokens), "v": v.reshape(views, channels, tokens)}
    context |= {"gate": gate.reshape(views, groups), "bias": bias[None]}
    return {**context, "id": context_id(context)}
