"""A network and nothing else: what every server of the comparison runs, in whatever environment it lives."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime

Arrays = Mapping[str, Any]


def open_onnx(path: str) -> Callable[[Arrays], dict[str, Any]]:
    """The graph as a function of named arrays: one thread, no spinning, as our own workers run theirs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda arrays: dict(zip(names, session.run(None, dict(arrays)), strict=True))


def answer_npz(run: Callable[[Arrays], dict[str, Any]], body: bytes) -> bytes:
    """Named arrays in, named arrays out, both as .npz."""
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        answer = run(arrays)
    stream = io.BytesIO()
    np.savez(stream, **answer)
    return stream.getvalue()
