"""The golden sample: one stored input of a bundle and the output it must give on every machine."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thermoscale.arrays import Array
from thermoscale.errors import BundleError

GOLDEN_NAME = "golden.npz"
_INPUT, _OUTPUT = "in.", "out."


def encode_golden(inputs: Mapping[str, Array | str], outputs: Mapping[str, Array]) -> bytes:
    """The bytes of ``golden.npz``: keys ``in.<name>`` and ``out.<name>``; text becomes a 0-d unicode array.

    Raises:
        BundleError: a value cannot be stored without pickle.
    """
    arrays = {_INPUT + name: np.asarray(value) for name, value in inputs.items()}
    arrays |= {_OUTPUT + name: np.asarray(value) for name, value in outputs.items()}
    for name, value in arrays.items():
        if value.dtype.hasobject:
            raise BundleError(f"golden: {name} is not an array of numbers or text")
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def write_golden(path: Path, inputs: Mapping[str, Array | str], outputs: Mapping[str, Array]) -> None:
    """Write the golden sample to the file ``path``."""
    path.write_bytes(encode_golden(inputs, outputs))


def read_golden(path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Read ``(inputs, outputs)`` from the file ``path``; text comes back as 0-d unicode arrays.

    Raises:
        BundleError: missing, not an .npz, pickled, or keys that are neither input nor output.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # numpy and zipfile raise many kinds over bad bytes
        raise BundleError(f"cannot read the golden sample {path}: {error}") from error
    foreign = [name for name in arrays if not name.startswith((_INPUT, _OUTPUT))]
    if foreign:
        raise BundleError(f"golden sample {path}: unknown keys {foreign}, needed {_INPUT}* and {_OUTPUT}*")
    inputs = {name.removeprefix(_INPUT): array for name, array in arrays.items() if name.startswith(_INPUT)}
    outputs = {name.removeprefix(_OUTPUT): array for name, array in arrays.items() if name.startswith(_OUTPUT)}
    return inputs, outputs


def compare_golden(expected: Mapping[str, Array], got: Mapping[str, Array], tolerance_k: float) -> float:
    """Largest absolute difference between the stored and the recomputed output, over all float arrays.

    Integers (flags, counts) and text must be equal; ``got`` may hold more arrays than ``expected``.

    Raises:
        BundleError: an output is missing, has another shape or NaN pattern, or differs by more than ``tolerance_k``.
    """
    worst = 0.0
    for name, wanted in expected.items():
        if name not in got:
            raise BundleError(f"golden self-test: output {name} is missing, got {sorted(got)}")
        difference = _difference(name, wanted, np.asarray(got[name]))
        if difference > tolerance_k:
            raise BundleError(
                f"golden self-test: {name} differs by {difference:.3g}, allowed {tolerance_k:g}: "
                "this machine does not reproduce the bundle"
            )
        worst = max(worst, difference)
    return worst


def _difference(name: str, wanted: Array, got: Array) -> float:
    if wanted.shape != got.shape:
        raise BundleError(f"golden self-test: {name} has shape {list(got.shape)}, needed {list(wanted.shape)}")
    if wanted.dtype.kind != "f":
        count = int(np.sum(wanted != got))
        if count:
            raise BundleError(f"golden self-test: {name} differs in {count} of {wanted.size} values")
        return 0.0
    if not np.array_equal(np.isnan(wanted), np.isnan(got)):
        raise BundleError(f"golden self-test: {name} has NaN elsewhere than the stored output")
    other = (wanted != got) & ~np.isnan(wanted)  # equal infinities would subtract to NaN
    return float(np.abs(wanted[other].astype(np.float64) - got[other]).max(initial=0.0))
