"""The parts of one request on the wire as named values, whatever mixture of .npz, GeoTIFF and text they are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from thermoscale.errors import InvalidInput
from thermoscale.geo.alignment import Grid
from thermoscale.geo.rasters import is_geotiff
from thermoscale.wire.file_parts import FileRoots
from thermoscale.wire.geotiff import decode_geotiff_request
from thermoscale.wire.limits import InflatedBudget, Limits
from thermoscale.wire.npz import decode_npz
from thermoscale.wire.reply_form import ReplyForm, take_reply_form

_ZIP = b"PK"
_MAX_TEXT_BYTES = 1 << 16


class Request(NamedTuple):
    """A decoded request: named values, the grids of its GeoTIFFs, and the form the reply shall have."""

    values: dict[str, Any]
    grids: dict[str, Grid]
    form: ReplyForm


def decode_parts(parts: Mapping[str, bytes], limits: Limits, files: FileRoots | None = None) -> Request:
    """Decode every part by what its bytes are; their number, size and what they inflate to together are limited.

    Args:
        parts: ``body`` holds an .npz of everything, or a GeoTIFF that is ``coarse``. Any other name holds an .npz whose
            arrays join the request, a GeoTIFF that is the array of that name, or the text of that name.
            ``<name>_file`` holds the path of a file with the bytes of ``<name>``.
        files: folders whose files may be named; None: no files are read.

    Raises:
        InvalidInput: nothing there, damaged, too many, too large, or a name given twice.
    """
    if not parts or not any(parts.values()):
        raise InvalidInput(
            "the request has no body; send an .npz or a GeoTIFF with the header Content-Type: application/octet-stream"
        )
    if len(parts) > limits.max_parts:
        raise InvalidInput(f"the request has {len(parts)} parts, at most {limits.max_parts} are allowed")
    size = sum(map(len, parts.values()))
    if size > limits.max_body_bytes:
        raise InvalidInput(
            f"the request has {size} bytes, at most {limits.max_body_bytes} are allowed: send a part of it"
        )
    parts = (files or FileRoots()).read_parts(parts, limits)
    budget = InflatedBudget(limits)
    rasters: dict[str, bytes] = {}
    for name, part in parts.items():
        if is_geotiff(part):
            _join(rasters, {"coarse" if name == "body" else name: part})
    values: dict[str, Any] = {}
    for name, part in parts.items():
        if not is_geotiff(part):
            is_npz = _is_npz(name, part)
            _join(values, decode_npz(part, limits, budget, f"part {name}") if is_npz else {name: _text(name, part)})
    grids: dict[str, Grid] = {}
    if rasters:
        decoded = decode_geotiff_request(rasters, limits, budget)
        if "time" in values:
            decoded.arrays.pop("time", None)  # a part of its own outranks the raster's tag
        _join(values, decoded.arrays)
        grids = decoded.grids
    return Request(values, grids, take_reply_form(values, "geotiff" if rasters else "npz"))


def _is_npz(name: str, part: bytes) -> bool:
    return name == "body" or part[:2] == _ZIP


def _text(name: str, part: bytes) -> str:
    if len(part) > _MAX_TEXT_BYTES:
        raise InvalidInput(f"part {name} has {len(part)} bytes and is neither .npz nor GeoTIFF")
    try:
        return bytes(part).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"part {name} is neither .npz nor GeoTIFF nor UTF-8 text") from error


def _join(values: dict[str, Any], more: Mapping[str, Any]) -> None:
    twice = sorted(values.keys() & more.keys())
    if twice:
        raise InvalidInput(f"the request gives {twice} twice")
    values.update(more)
