"""Named arrays as the bytes of an .npz and back; bytes from outside are never unpickled and never over-inflated.

An .npz is a zip of .npy members. Layout: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.fields import as_array
from thermoscale.wire.limits import InflatedBudget, Limits
from thermoscale.wire.npy import decode_npy

_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\.npy", re.ASCII)
_DIRECTORY_ENTRY, _END_SIGNATURE = b"PK\x01\x02", b"PK\x05\x06"
_END_RECORD = struct.Struct("<4s4H2LH")
_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_ENCRYPTED = 0x1  # bit 0 of a zip entry's flags


def encode_npz(arrays: Mapping[str, Array | str | Mapping[str, Any]]) -> bytes:
    """The bytes of an uncompressed .npz.

    Args:
        arrays: numbers or text; a string becomes a 0-d unicode array, a dict its JSON text.

    Raises:
        InvalidInput: a name that is no identifier, or a value that would need pickle or is no JSON.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in arrays.items():
            write_member(archive, name, _as_array(name, value))
    return stream.getvalue()


def write_member(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    """Add one array, stored; what ``numpy.savez`` does."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def decode_npz(
    body: bytes, limits: Limits, budget: InflatedBudget | None = None, name: str = "the .npz"
) -> dict[str, Array]:
    """The arrays in the .npz ``body``; any bytes give arrays or :class:`InvalidInput`.

    The zip directory is judged before anything is inflated, and no member is inflated beyond the size that the
    directory declared for it, whatever it really holds.

    Args:
        budget: of the whole request; None: this body is all of it.
        name: of this part, for messages about its size.

    Returns:
        name -> array of bool, integers, floats or text, in native byte order, owning its memory.

    Raises:
        InvalidInput: too large, truncated, damaged, encrypted, pickled, or no .npz at all.
    """
    if len(body) > limits.max_body_bytes:
        raise InvalidInput(f"the body has {len(body)} bytes, at most {limits.max_body_bytes} are allowed")
    # Before zipfile makes an object of each entry: millions fit into one body. Twice, since values may look like one.
    if _directory(body).count(_DIRECTORY_ENTRY) > 2 * limits.max_arrays:
        raise InvalidInput(f"the .npz holds far more than the {limits.max_arrays} arrays that are allowed")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            _require_members(archive.infolist(), limits)
            inflated_bytes = sum(entry.file_size for entry in archive.infolist())
            (budget or InflatedBudget(limits)).charge(name, len(body), inflated_bytes)
            return {entry.filename[:-4]: _read_member(archive, entry) for entry in archive.infolist()}
    except InvalidInput:
        raise
    except Exception as error:  # zipfile, zlib and struct raise many kinds over bad bytes
        raise InvalidInput(
            f"the body of {len(body)} bytes is not a complete .npz ({error}); send what numpy.savez wrote, "
            "with the header Content-Type: application/octet-stream"
        ) from error


def text_of(name: str, array: Array) -> str:
    """The string in a 0-d unicode array.

    Raises:
        InvalidInput: an array of numbers, or more than one string.
    """
    if array.dtype.kind != "U" or array.ndim != 0:
        raise InvalidInput(f"{name} is {array.dtype} {list(array.shape)}, needed one text")
    return str(array)


def json_of(name: str, array: Array) -> dict[str, Any]:
    """The JSON object in a 0-d unicode array.

    Raises:
        InvalidInput: not one text, or not a JSON object.
    """
    text = text_of(name, array)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} is a JSON {type(value).__name__}, needed an object")
    return value


def _as_array(name: str, value: Array | str | Mapping[str, Any]) -> Array:
    if not _MEMBER.fullmatch(name + ".npy"):
        raise InvalidInput(f"{name!r} is not a name of an array: needed letters, digits and _, at most 64")
    if isinstance(value, Mapping):
        try:
            value = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{name} is not JSON ({error}); NaN is written as None") from error
    array = as_array(name, value)
    if array.dtype.kind not in "biufU":
        raise InvalidInput(f"{name} has type {array.dtype}, needed numbers or text")
    return array


def _directory(body: bytes) -> bytes:
    """The part of ``body`` that zipfile will read as its directory; all of ``body`` where that takes more to tell.

    ``numpy.savez`` ends the plain way, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT 4.3.16: directory,
    then an end record without comment; only far larger archives put a locator of another end record before that.
    """
    end = len(body) - _END_RECORD.size
    if end < 0 or body[max(0, end - _LOCATOR_BYTES) : end].startswith(_LOCATOR):
        return body
    signature, *_, directory_bytes, _, comment_bytes = _END_RECORD.unpack_from(body, end)
    if signature != _END_SIGNATURE or comment_bytes:
        return body
    return body[max(0, end - directory_bytes) : end]


def _require_members(entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Judge the directory of the zip: count, names, kinds."""
    if len(entries) > limits.max_arrays:
        raise InvalidInput(f"the .npz holds {len(entries)} arrays, at most {limits.max_arrays} are allowed")
    names = [entry.filename for entry in entries]
    for entry in entries:
        if not _MEMBER.fullmatch(entry.filename) or names.count(entry.filename) > 1:
            raise InvalidInput(f"the .npz holds {entry.filename!r:.80}, needed distinct members called <name>.npy")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidInput(f"{entry.filename} is encrypted or oddly compressed, needed stored or deflated")


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    with archive.open(entry) as stream:
        content = stream.read(entry.file_size)  # stops there even if the member goes on, and checks its CRC
    if len(content) != entry.file_size:
        raise InvalidInput(f"{entry.filename} does not have the {entry.file_size} bytes that the .npz declares")
    return decode_npy(entry.filename[:-4], content)
