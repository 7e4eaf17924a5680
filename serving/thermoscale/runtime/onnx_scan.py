"""Look into ONNX bytes without running or loading them: which operator domains they use, and outside files.

The ``onnx`` package is not installed on edge machines, so this reads the protobuf wire format itself
(https://protobuf.dev/programming-guides/encoding) and follows only the fields below, whose numbers are those of
``onnx.proto`` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from thermoscale.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL


@dataclass
class OnnxFacts:
    """What was found in a model.

    Attributes:
        domains: operator domains of all nodes, subgraphs and functions included; "" is the standard one.
        external: names of the tensors whose values lie in another file.
        n_nodes: number of nodes.
    """

    domains: set[str] = field(default_factory=set)
    external: list[str] = field(default_factory=list)
    n_nodes: int = 0


def scan_onnx(model: bytes) -> OnnxFacts:
    """Walk the ModelProto in ``model``.

    Raises:
        BundleError: the bytes are not a protobuf message, or hold no graph with a node.
    """
    facts = OnnxFacts()
    try:
        _model(memoryview(model), facts)
    except (IndexError, ValueError, RecursionError) as error:
        raise BundleError(f"not an ONNX model: {error}") from error
    if facts.n_nodes == 0:
        raise BundleError("not an ONNX model: there is no graph with a node in it")
    return facts


def _model(message: memoryview, facts: OnnxFacts) -> None:
    _visit(message, facts, {7: _graph, 20: _training_info, 25: _function})


def _training_info(message: memoryview, facts: OnnxFacts) -> None:
    _visit(message, facts, {1: _graph, 2: _graph})


def _graph(message: memoryview, facts: OnnxFacts) -> None:
    _visit(message, facts, {1: _node, 5: _tensor, 15: _sparse_tensor})


def _function(message: memoryview, facts: OnnxFacts) -> None:
    _visit(message, facts, {7: _node, 11: _attribute})


def _attribute(message: memoryview, facts: OnnxFacts) -> None:
    handlers = {5: _tensor, 6: _graph, 10: _tensor, 11: _graph, 22: _sparse_tensor, 23: _sparse_tensor}
    _visit(message, facts, handlers)


def _sparse_tensor(message: memoryview, facts: OnnxFacts) -> None:
    _visit(message, facts, {1: _tensor, 2: _tensor})


def _node(message: memoryview, facts: OnnxFacts) -> None:
    domain = ""
    for number, value in _fields(message):
        if number == 7 and isinstance(value, memoryview):
            domain = _text(value)
        elif number == 5 and isinstance(value, memoryview):
            _attribute(value, facts)
    facts.domains.add(domain)
    facts.n_nodes += 1


def _tensor(message: memoryview, facts: OnnxFacts) -> None:
    name, external = "", False
    for number, value in _fields(message):
        if number == 8 and isinstance(value, memoryview):
            name = _text(value)
        external |= number == 13 or (number == 14 and value == _EXTERNAL)
    if external:
        facts.external.append(name)


def _visit(
    message: memoryview, facts: OnnxFacts, handlers: Mapping[int, Callable[[memoryview, OnnxFacts], None]]
) -> None:
    for number, value in _fields(message):
        if number in handlers and isinstance(value, memoryview):
            handlers[number](value, facts)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Every field of one message: its number, and its integer or its bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"protobuf wire type {kind} at byte {position}")
        if position + length > len(message):
            raise ValueError(f"field {number} needs {length} bytes, {len(message) - position} are left")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"number longer than 10 bytes at byte {position}")


def _text(value: memoryview) -> str:
    return str(value, "utf-8", errors="replace")
