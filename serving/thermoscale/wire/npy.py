"""One .npy member from outside: its header is checked against the bytes that are there before an array is made.

``numpy.load`` allocates whatever shape the header claims; this does not.
"""

import ast
import math
import struct
from typing import Any

import numpy as np

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 4096
_MAX_AXES = 8
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


def decode_npy(name: str, content: bytes) -> Array:
    """The array in the .npy bytes ``content``: bool, integers, floats or text, native byte order, own memory.

    Raises:
        InvalidInput: no .npy, objects (pickle), or a shape that does not fit the bytes.
    """
    header, start = _header(name, content)
    dtype, shape = _dtype(name, header["descr"]), _shape(name, header["shape"])
    needed, there = math.prod(shape) * dtype.itemsize, len(content) - start
    if needed != there:
        raise InvalidInput(
            f"{name} claims shape {list(shape)} of {dtype}: {needed} bytes, but {there} are there (truncated?)"
        )
    values = np.frombuffer(content, dtype, offset=start) if needed else np.empty(0, dtype)
    if dtype.kind == "U":
        _require_text(name, values)
    array = values.reshape(shape[::-1]).T if header["fortran_order"] else values.reshape(shape)
    return array.astype(dtype.newbyteorder("="), order="C")


def _header(name: str, content: bytes) -> tuple[dict[str, Any], int]:
    """The header's dict and the position of the first value."""
    version = content[6:8]
    if content[:6] != _MAGIC or version not in (b"\x01\x00", b"\x02\x00"):
        raise InvalidInput(f"{name} is not an .npy array of version 1 or 2; write it with numpy.savez")
    start, layout = (10, "<H") if version == b"\x01\x00" else (12, "<I")
    if len(content) < start:
        raise InvalidInput(f"{name} ends inside its header (truncated?)")
    (length,) = struct.unpack(layout, content[8:start])
    if length > _MAX_HEADER or start + length > len(content):
        raise InvalidInput(f"{name} claims a header of {length} bytes, at most {_MAX_HEADER} are allowed")
    text = content[start : start + length].decode("latin-1")
    try:
        header = ast.literal_eval(text.strip())
    except Exception as error:  # the Python parser raises SyntaxError, ValueError, MemoryError, RecursionError
        raise InvalidInput(f"{name} has a header that cannot be read: {text!r:.80}") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise InvalidInput(f"{name} has a header without descr, fortran_order and shape: {text!r:.80}")
    return header, start + length


def _dtype(name: str, descr: object) -> np.dtype[Any]:
    try:
        dtype = np.dtype(descr) if isinstance(descr, str) else np.dtype("V")
    except Exception as error:  # TypeError, SyntaxError and others, by the text
        raise InvalidInput(f"{name} has the unknown type {descr!r:.80}") from error
    if dtype.kind not in "biufU" or dtype.itemsize == 0:
        raise InvalidInput(f"{name} has type {descr!r:.80}, needed numbers or text (objects are never unpickled)")
    return dtype


def _shape(name: str, shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > _MAX_AXES:
        raise InvalidInput(f"{name} has the shape {shape!r:.80}, needed a tuple of at most {_MAX_AXES} lengths")
    if not all(type(length) is int and 0 <= length < 2**31 for length in shape):
        raise InvalidInput(f"{name} has the shape {shape!r:.80}, needed lengths from 0 to 2**31")
    return shape


def _require_text(name: str, values: Array) -> None:
    """Numpy accepts any 32-bit number as a character and fails only when the text is read."""
    points = values.view(np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
    surrogate = (points >= _SURROGATES[0]) & (points <= _SURROGATES[1])
    if (points > _LAST_CODE_POINT).any() or surrogate.any():
        raise InvalidInput(f"{name} holds characters that do not exist in Unicode")
