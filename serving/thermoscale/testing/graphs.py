"""Small ONNX graphs whose answer is known, written with ``onnx.helper``: stand-ins for trained networks in tests.

The package onnx is needed here and nowhere else in thermoscale; it comes with the extra ``train``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

_OPSET = 18
_IR_VERSION = 10


def amun_context_graph(n_channels: int, n_tokens: int, *, n_factors: int, thumbnail_px: int) -> bytes:
    """k and v repeat the thumbnail of LST, gate is its mean, bias is 0: a context that depends on the scene."""
    _, helper = _onnx()
    side = thumbnail_px
    nodes = [
        helper.make_node("Slice", ["thumb", "first", "last", "axis"], ["lst"]),
        helper.make_node("Reshape", ["lst", "flat"], ["tokens"]),
        helper.make_node("Expand", ["tokens", "wide"], ["k"]),
        helper.make_node("Mul", ["thumb", "thumb_valid"], ["weighted"]),
        helper.make_node("Slice", ["weighted", "first", "last", "axis"], ["lst_weighted"]),
        helper.make_node("Reshape", ["lst_weighted", "flat"], ["tokens_weighted"]),
        helper.make_node("Expand", ["tokens_weighted", "wide"], ["v"]),
        helper.make_node("ReduceMean", ["lst_weighted", "space"], ["gate"], keepdims=0),
        helper.make_node("Sub", ["gate", "gate"], ["bias"]),
    ]
    constants = {
        "first": [0],
        "last": [1],
        "axis": [1],
        "flat": [1, 1, n_tokens],
        "wide": [1, n_channels, n_tokens],
        "space": [2, 3],
    }
    shape = [1, 1 + n_factors, side, side]
    inputs = [("thumb", "f", shape), ("thumb_valid", "f", shape)]
    outputs = [("k", "f", [1, n_channels, n_tokens]), ("v", "f", [1, n_channels, n_tokens]), ("gate", "f", [1, 1])]
    outputs.append(("bias", "f", [1, 1]))
    return _model("amun_context", nodes, inputs, outputs, constants)


def amun_tile_graph(n_channels: int, n_tokens: int, *, n_factors: int, tile_px: int) -> bytes:
    """lst = coarse, whatever the factors and the context are; spread = 0."""
    _, helper = _onnx()
    nodes = [
        helper.make_node("Identity", ["coarse"], ["lst"]),
        helper.make_node("Sub", ["coarse", "coarse"], ["spread"]),
    ]
    square = [tile_px, tile_px]
    inputs: list[tuple[str, str, list[Any]]] = [
        ("coarse", "f", ["B", 1, *square]),
        ("valid", "f", ["B", 1 + n_factors, *square]),
        ("k", "f", [1, n_channels, n_tokens]),
        ("v", "f", [1, n_channels, n_tokens]),
        ("gate", "f", [1, 1]),
        ("bias", "f", [1, 1]),
    ]
    if n_factors:
        inputs.insert(1, ("factors", "f", ["B", n_factors, *square]))
    outputs: list[tuple[str, str, list[Any]]] = [(name, "f", ["B", 1, *square]) for name in ("lst", "spread")]
    return _model("amun", nodes, inputs, outputs, {})


def dynet_graph(m_max: int, h_max: int) -> bytes:
    """alpha_hcr of every present HCR = mean of the valid alphas; NaN for the absent."""
    _, helper = _onnx()
    nodes = [
        helper.make_node("Where", ["valid", "alpha", "zero"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["total"]),
        helper.make_node("Cast", ["valid"], ["ones"], to=1),
        helper.make_node("ReduceSum", ["ones", "axis"], ["count"]),
        helper.make_node("Div", ["total", "count"], ["mean"]),
        helper.make_node("Where", ["hcr_present", "mean", "nan"], ["alpha_hcr"]),
    ]
    inputs = [("alpha", "f", ["B", m_max]), ("valid", "b", ["B", m_max]), ("hcr_present", "b", ["B", h_max])]
    constants = {"axis": [1], "zero": 0.0, "nan": float("nan")}
    return _model("dynet", nodes, inputs, [("alpha_hcr", "f", ["B", h_max])], constants)


def ratio_net_graph() -> bytes:
    """delta = distance / a2: the division that RatioNet approximates, so that it equals the closed form."""
    _, helper = _onnx()
    nodes = [helper.make_node("Div", ["distance", "a2"], ["delta"])]
    inputs = [("distance", "f", ["N"]), ("a2", "f", ["N"])]
    return _model("ratio_net", nodes, inputs, [("delta", "f", ["N"])], {})


def _model(
    name: str,
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, str, list[Any]]],
    outputs: Sequence[tuple[str, str, list[Any]]],
    constants: dict[str, Any],
) -> bytes:
    """A checked, serialised model; kinds are ``f`` float32 and ``b`` bool, constants int64 lists or one float32."""
    onnx, helper = _onnx()
    kinds = {"f": onnx.TensorProto.FLOAT, "b": onnx.TensorProto.BOOL}
    tensors = [
        onnx.numpy_helper.from_array(np.asarray(value, np.float32 if isinstance(value, float) else np.int64), key)
        for key, value in constants.items()
    ]
    described = [
        [helper.make_tensor_value_info(key, kinds[kind], shape) for key, kind, shape in values]
        for values in (inputs, outputs)
    ]
    graph = helper.make_graph(list(nodes), name, described[0], described[1], initializer=tensors)
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="thermoscale.testing")
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _onnx() -> tuple[Any, Any]:
    import onnx
    from onnx import helper

    return onnx, helper
