"""Floating-point operations of an ONNX graph, from the shapes of its convolutions and matrix products."""

from math import prod
from pathlib import Path
from typing import Any

import onnx


def flops(path: Path) -> int:
    """Of one run at batch 1: two for every multiply-add; all that is not a product of matrices counts nothing."""
    model = onnx.load(path)
    for tensor in model.graph.input:
        for dim in tensor.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for tensor in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[tensor.name] = [dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
    return 2 * sum(_multiply_adds(node, shapes) for node in inferred.node)


def _multiply_adds(node: Any, shapes: dict[str, list[int]]) -> int:
    if node.op_type == "Conv":
        return prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return prod(shapes[node.input[0]]) * prod(shapes[node.input[1]][1:])
    if node.op_type in ("MatMul", "Gemm"):
        return prod(shapes[node.output[0]]) * _shared_length(node, shapes)
    return 0


def _shared_length(node: Any, shapes: dict[str, list[int]]) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return shapes[node.input[0]][-2 if transposed else -1]
