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
    """One vector ``[2 * C * tokens + G + 1]``: k, v ``[1, C, tokens]``, gate ``[1, G]``, bias ``[1, 1]`` in a row."""
    return np.concatenate([np.ravel(context[name]) for name in CONTEXT_NAMES]).astype(np.float32)


def unpack_context(packed: Array, tokens: int) -> dict[str, Any]:
    """The context that :func:`pack_context` wrote; gate and bias together are shorter than ``2 * tokens``.

    Raises:
        InvalidInput: not a vector of finite numbers, or of an impossible length.
    """
    if packed.ndim != 1 or packed.dtype.kind != "f" or not np.isfinite(packed).all():
        raise InvalidInput(
            f"context has shape {list(packed.shape)} and type {packed.dtype}, needed one vector of finite float32, "
            "as an earlier reply gave it"
        )
    channels, rest = divmod(packed.size, 2 * tokens)
    if channels < 1 or rest < 2:
        raise InvalidInput(f"context has {packed.size} numbers, needed 2 * C * {tokens} + G + 1 with C, G >= 1")
    values = packed.astype(np.float32)
    k, v, gate, bias = np.split(values, [channels * tokens, 2 * channels * tokens, len(values) - 1])
    context = {"k": k.reshape(1, channels, tokens), "v": v.reshape(1, channels, tokens)}
    context |= {"gate": gate[None], "bias": bias[None]}
    return {**context, "id": context_id(context)}
