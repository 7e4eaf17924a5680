"""onnxruntime sessions as callables: what is loaded, what is refused, and errors that are always ours."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from thermoscale.errors import BundleError, InvalidInput, ThermoscaleError, Unavailable
from thermoscale.runtime.onnx_scan import scan_onnx
from thermoscale.runtime.ort import CPU, open_session


def model(nodes, *, initializers=(), functions=(), domains=("",), shape=("N", 2)) -> onnx.ModelProto:
    """A model x -> y of float32 ``shape``."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in "xy"]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:], list(initializers))
    opsets = [helper.make_opsetid(domain, 18 if domain == "" else 1) for domain in domains]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))
    helper.set_model_props(made, {"pipeline": "amun"})
    return made


def add_one() -> onnx.ModelProto:
    one = numpy_helper.from_array(np.ones(2, np.float32), "one")
    return model([helper.make_node("Add", ["x", "one"], ["y"])], initializers=[one])


def in_a_branch(node: onnx.NodeProto, initializers=()) -> onnx.ModelProto:
    """A model whose If runs ``node`` (x -> b) in one branch."""
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["N", 2])
    branch = helper.make_graph([node], "branch", [], [out], list(initializers))
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "other", [], [out])
    yes = numpy_helper.from_array(np.array(True), "yes")
    choose = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=other)
    return model([choose], initializers=[yes], domains=("", node.domain) if node.domain else ("",))


def external(name: str = "one") -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.ones(2, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.data")
    return tensor


def store(folder: Path, made: onnx.ModelProto) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture
def network(tmp_path):
    return open_session(store(tmp_path, add_one()))


@given(st.integers(1, 5))
@settings(deadline=None, max_examples=5)
def test_a_network_computes_its_graph(tmp_path_factory, rows):
    opened = open_session(store(tmp_path_factory.mktemp("net"), add_one()))
    x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    np.testing.assert_array_equal(opened({"x": x})["y"], x + 1)


def test_a_network_tells_its_inputs_outputs_metadata_and_provider(network):
    assert network.inputs["x"].dtype == "float32"
    assert network.inputs["x"].shape == ("N", 2)
    assert list(network.outputs) == ["y"]
    assert network.metadata == {"pipeline": "amun"}
    assert network.provider == CPU


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_damaged_model_is_refused_or_loads(tmp_path_factory, data):
    content = bytearray(add_one().SerializeToString())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        open_session(path)
    except ThermoscaleError as error:
        assert isinstance(error, BundleError)  # noqa: PT017


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=50)
def test_any_bytes_are_scanned_or_refused(content):
    try:
        scan_onnx(content)
    except BundleError as error:
        assert "not an ONNX model" in str(error)  # noqa: PT017


def test_values_in_another_file_are_refused(tmp_path):
    (tmp_path / "weights.data").write_bytes(np.ones(2, np.float32).tobytes())
    made = model([helper.make_node("Add", ["x", "one"], ["y"])], initializers=[external()])
    with pytest.raises(
        BundleError, match=r"1 tensors in another file \(first: 'one'\); export with external_data=False"
    ):
        open_session(store(tmp_path, made))


def test_values_in_another_file_are_found_in_subgraphs_and_constants_too(tmp_path):
    made = in_a_branch(helper.make_node("Add", ["x", "one"], ["b"]), [external()])
    with pytest.raises(BundleError, match="another file"):
        open_session(store(tmp_path, made))
    constant = helper.make_node("Constant", [], ["y"], value=external("value"))
    with pytest.raises(BundleError, match="another file"):
        open_session(store(tmp_path, model([constant])))


def test_operators_of_another_domain_are_refused(tmp_path):
    made = model([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], domains=("", "com.microsoft"))
    with pytest.raises(BundleError, match=r"domains \['com.microsoft'\]"):
        open_session(store(tmp_path, made))


def test_operators_of_another_domain_are_found_in_subgraphs_and_functions_too(tmp_path):
    foreign = helper.make_node("Gelu", ["x"], ["b"], domain="com.microsoft")
    with pytest.raises(BundleError, match=r"com\.microsoft"):
        open_session(store(tmp_path, in_a_branch(foreign)))
    function = helper.make_function(
        "", "Mine", ["a"], ["b"], [helper.make_node("Gelu", ["a"], ["b"], domain="com.microsoft")],
        [helper.make_opsetid("com.microsoft", 1)],
    )  # fmt: skip
    made = model([helper.make_node("Identity", ["x"], ["y"])], functions=[function])
    assert scan_onnx(made.SerializeToString()).domains == {"", "com.microsoft"}


def test_an_operator_that_does_not_exist_is_a_bundle_error(tmp_path):
    with pytest.raises(BundleError, match="cannot load"):
        open_session(store(tmp_path, model([helper.make_node("NoSuchOperator", ["x"], ["y"])])))


def test_a_type_that_we_do_not_use_is_refused(tmp_path):
    tensors = [helper.make_tensor_value_info(name, TensorProto.STRING, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(BundleError, match=r"x has ONNX type tensor\(string\)"):
        open_session(store(tmp_path, made))


def test_a_missing_file_is_a_bundle_error(tmp_path):
    with pytest.raises(BundleError, match="cannot read"):
        open_session(tmp_path / "net.onnx")


def test_a_missing_provider_is_named_with_the_extra(tmp_path):
    with pytest.raises(Unavailable, match=r"no NoSuchProvider.*thermoscale\[gpu\]"):
        open_session(store(tmp_path, add_one()), providers=["NoSuchProvider"])


def test_a_missing_onnxruntime_is_named_with_both_extras(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Unavailable, match=r"thermoscale\[edge\].*thermoscale\[gpu\]"):
        open_session(store(tmp_path, add_one()))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, r"net.onnx: missing keys \['x'\]"),
        ({"x": np.ones((1, 2), np.float32), "z": np.ones(1)}, r"unknown keys \['z'\]"),
        ({"x": np.ones((1, 2))}, r"x is float64 \[1, 2\], needed float32 \['N', 2\]"),
        ({"x": np.ones((1, 3), np.float32)}, r"x is float32 \[1, 3\]"),
        ({"x": np.ones(2, np.float32)}, r"x is float32 \[2\]"),
        ({"x": np.ones((0, 2), np.float32)}, r"without an axis of length 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(network, arrays, message):
    with pytest.raises(InvalidInput, match=message):
        network(arrays)


def test_a_failure_inside_the_graph_is_unavailable(tmp_path):
    three = numpy_helper.from_array(np.array([3], np.int64), "three")
    made = model([helper.make_node("Reshape", ["x", "three"], ["y"])], initializers=[three])
    made.graph.output[0].type.tensor_type.ClearField("shape")
    opened = open_session(store(tmp_path, made))
    with pytest.raises(Unavailable, match=r"net.onnx failed in onnxruntime"):
        opened({"x": np.ones((1, 2), np.float32)})


def test_an_input_that_only_onnxruntime_refuses_is_invalid_input(network):
    class InvalidArgument(Exception):
        """Named like onnxruntime's own."""

    class Session:
        def run(self, *_):
            raise InvalidArgument("no")

    network._session = Session()
    with pytest.raises(InvalidInput, match=r"net.onnx refuses its input: no"):
        network({"x": np.ones((1, 2), np.float32)})
