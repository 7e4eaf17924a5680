"""An onnxruntime session as a plain callable, and every onnxruntime error as one of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.arrays import Array, require_keys
from thermoscale.errors import BundleError, InvalidInput, ThermoscaleError, Unavailable
from thermoscale.runtime.onnx_scan import scan_onnx

CPU = "CPUExecutionProvider"
_STANDARD_DOMAINS = {"", "ai.onnx"}
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy type and shape of one input or output; a length that varies is a name or None."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class OrtNetwork:
    """One ONNX graph, ready to run: a :data:`thermoscale.arrays.Network`.

    Attributes:
        name: file name, for messages.
        inputs, outputs: specs by name, in graph order.
        metadata: the graph's metadata_props.
        provider: the execution provider that runs it.
    """

    def __init__(self, name: str, session: Any) -> None:
        self.name = name
        self.inputs = _specs(session.get_inputs())
        self.outputs = _specs(session.get_outputs())
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self.provider: str = session.get_providers()[0]
        self._session = session

    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph.

        Args:
            arrays: exactly the graph's inputs, in its types and shapes; no axis of length 0, because some graphs
                crash on it (leave such calls out).

        Raises:
            InvalidInput: another key, type or shape.
            Unavailable: onnxruntime failed, for example for want of memory.
        """
        require_keys(self.name, arrays, set(self.inputs), set())
        for spec in self.inputs.values():
            _require_fit(self.name, spec, arrays[spec.name])
        try:
            results = self._session.run(list(self.outputs), dict(arrays))
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise _run_error(self.name, error) from error
        return dict(zip(self.outputs, results, strict=True))


def open_session(path: Path, *, threads: int = 1, providers: Sequence[str] | None = None) -> OrtNetwork:
    """Load the single-file ONNX model at ``path``.

    Args:
        threads: threads inside one operator; idle threads sleep, they do not spin.
        providers: execution providers in order of preference, default the CPU. The first one must really be used.

    Raises:
        BundleError: not an ONNX model, not loadable, values in another file, or operators outside the standard.
        Unavailable: onnxruntime or the provider is missing on this machine.
    """
    runtime = _onnxruntime()
    wanted = list(providers or [CPU])
    missing = [name for name in wanted if name not in runtime.get_available_providers()]
    if missing:
        raise Unavailable(
            f"onnxruntime here has no {', '.join(missing)}, it has {runtime.get_available_providers()}; "
            "install the extra that brings it: pip install 'thermoscale[gpu]' (uninstall onnxruntime first)"
        )
    try:
        model = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error}") from error
    _require_standard(path.name, model)
    try:
        # From the bytes that were checked, never from the path: the file may change in between.
        session = runtime.InferenceSession(model, _options(runtime, threads), providers=wanted)
        session.disable_fallback()
        network = OrtNetwork(path.name, session)
    except ThermoscaleError:
        raise
    except Exception as error:  # see OrtNetwork.__call__
        raise BundleError(f"onnxruntime {runtime.__version__} cannot load {path}: {error}") from error
    if network.provider != wanted[0]:
        raise Unavailable(f"{path.name} runs on {network.provider}, needed {wanted[0]}: its driver did not start")
    return network


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise Unavailable(
            f"onnxruntime cannot be imported ({error}); install one of its two builds, not both: "
            "pip install 'thermoscale[edge]' for CPUs or 'thermoscale[gpu]' for NVIDIA GPUs"
        ) from error
    return onnxruntime


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: they come back as exceptions
    # The pattern of the first run asks for a second block of the same size: 66 MB for a tile of 416, and no faster.
    options.enable_mem_pattern = False
    return options


def _require_standard(name: str, model: bytes) -> None:
    try:
        facts = scan_onnx(model)
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from error
    if facts.external:
        raise BundleError(
            f"{name} keeps {len(facts.external)} tensors in another file (first: {facts.external[0]!r}); "
            "export with external_data=False"
        )
    foreign = sorted(facts.domains - _STANDARD_DOMAINS)
    if foreign:
        raise BundleError(f"{name} uses operators of the domains {foreign}, only standard ONNX operators are allowed")


def _specs(values: Any) -> dict[str, TensorSpec]:
    return {v.name: TensorSpec(v.name, _dtype(v), tuple(v.shape)) for v in values}


def _dtype(value: Any) -> str:
    if value.type not in _TYPES:
        raise BundleError(f"{value.name} has ONNX type {value.type}, needed one of {sorted(_TYPES)}")
    return _TYPES[value.type]


def _require_fit(network: str, spec: TensorSpec, array: Array) -> None:
    lengths_fit = len(array.shape) == len(spec.shape) and all(
        got == want or not isinstance(want, int) for got, want in zip(array.shape, spec.shape, strict=False)
    )
    if array.dtype != np.dtype(spec.dtype) or not lengths_fit or 0 in array.shape:
        raise InvalidInput(
            f"{network}: {spec.name} is {array.dtype} {list(array.shape)}, "
            f"needed {spec.dtype} {list(spec.shape)} without an axis of length 0"
        )


def _run_error(network: str, error: Exception) -> ThermoscaleError:
    kind = type(error).__name__
    if kind == "InvalidArgument":
        return InvalidInput(f"{network} refuses its input: {error}")
    return Unavailable(f"{network} failed in onnxruntime ({kind}): {error}")
