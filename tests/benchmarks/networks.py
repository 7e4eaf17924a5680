"""The networks of I-USTFM with the published sizes and random weights, as onnxruntime sessions."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from places import H_MAX, M_MAX

from thermoscale.arrays import Array, Network
from thermoscale.runtime.ort import open_session


def perceptron_graph(widths: tuple[int, ...], activation: str, inputs: Callable[[Any], Any]) -> bytes:
    """A perceptron with random weights as an ONNX model; ``inputs`` adds what stands before and behind it."""
    from onnx import checker, helper

    rng, nodes, weights = np.random.default_rng(0), [], []
    head = inputs(helper)
    name = head["x"]
    for number, (a, b) in enumerate(pairwise(widths)):
        weights.append(_tensor(f"w{number}", rng.normal(0, 0.5 / np.sqrt(a), (a, b)).astype(np.float32)))
        nodes.append(helper.make_node("MatMul", [name, f"w{number}"], [f"m{number}"]))
        name = f"m{number}"
        if number < len(widths) - 2:
            if activation == "Silu":
                nodes.append(helper.make_node("Sigmoid", [name], [f"s{number}"]))
                nodes.append(helper.make_node("Mul", [name, f"s{number}"], [f"act{number}"]))
            else:
                nodes.append(helper.make_node(activation, [name], [f"act{number}"]))
            name = f"act{number}"
    tail = head["tail"](name)
    tensors = [*weights, *(_tensor(key, value) for key, value in head["constants"].items())]
    graph = helper.make_graph([*head["nodes"], *nodes, *tail], "bench", head["inputs"], head["outputs"], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()


def _tensor(name: str, values: Array) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(values, name)


def dynet(helper: Any) -> dict[str, Any]:
    """Masked alphas in; pushed towards 0.8, so that the ratios are plausible."""
    value = helper.make_tensor_value_info
    return {
        "x": "masked",
        "inputs": [
            value("alpha", 1, ["B", M_MAX]),
            value("valid", 9, ["B", M_MAX]),
            value("hcr_present", 9, ["B", H_MAX]),
        ],
        "outputs": [value("alpha_hcr", 1, ["B", H_MAX])],
        "constants": {
            "zero": np.float32(0),
            "nan": np.float32(np.nan),
            "mean": np.float32(0.8),
            "sd": np.float32(0.1),
        },
        "nodes": [helper.make_node("Where", ["valid", "alpha", "zero"], ["masked"])],
        "tail": lambda name: [
            helper.make_node("Tanh", [name], ["bounded"]),
            helper.make_node("Mul", ["bounded", "sd"], ["scaled"]),
            helper.make_node("Add", ["scaled", "mean"], ["ratio"]),
            helper.make_node("Where", ["hcr_present", "ratio", "nan"], ["alpha_hcr"]),
        ],
    }


def ratio_net(helper: Any) -> dict[str, Any]:
    """distance / a2 plus a smooth surface of a few kelvin."""
    value = helper.make_tensor_value_info
    return {
        "x": "standard",
        "inputs": [value("distance", 1, ["N"]), value("a2", 1, ["N"])],
        "outputs": [value("delta", 1, ["N"])],
        "constants": {
            "axis": np.array([1], np.int64),
            "offset": np.array([[11, 1.5]], np.float32),
            "scale": np.array([[5, 1.5]], np.float32),
            "two": np.float32(2),
        },
        "nodes": [
            helper.make_node("Unsqueeze", ["distance", "axis"], ["d"]),
            helper.make_node("Unsqueeze", ["a2", "axis"], ["a"]),
            helper.make_node("Concat", ["d", "a"], ["both"], axis=1),
            helper.make_node("Sub", ["both", "offset"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["standard"]),
        ],
        "tail": lambda name: [
            helper.make_node("Squeeze", [name, "axis"], ["flat"]),
            helper.make_node("Mul", ["flat", "two"], ["bend"]),
            helper.make_node("Div", ["distance", "a2"], ["quotient"]),
            helper.make_node("Add", ["quotient", "bend"], ["delta"]),
        ],
    }


def open_networks(folder: Path, threads: int) -> tuple[Network, Network]:
    """DyNet and RatioNet with the published sizes."""
    graphs = {
        "dynet": perceptron_graph((M_MAX, 128, 128, 128, 128, 128, H_MAX), "Relu", dynet),
        "ratio_net": perceptron_graph((2, 40, 40, 40, 10, 10, 1), "Silu", ratio_net),
    }
    for name, graph in graphs.items():
        (folder / f"{name}.onnx").write_bytes(graph)
    return tuple(open_session(folder / f"{name}.onnx", threads=threads) for name in graphs)  # type: ignore[return-value]
