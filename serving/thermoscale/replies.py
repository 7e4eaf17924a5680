"""An answer as bytes for the wire, with ``meta`` inside. Format: ``docs/wire-format.md``."""

import io
import json
import time
import zipfile
from typing import Any, NamedTuple

import numpy as np

from thermoscale.answer import Answer
from thermoscale.arrays import Quantity
from thermoscale.formats import Georeference
from thermoscale.geo.alignment import window_georeference
from thermoscale.wire.geotiff import encode_geotiff_reply
from thermoscale.wire.npz import write_member
from thermoscale.wire.reply_form import ReplyForm

CONTENT_TYPE = {"npz": "application/octet-stream", "geotiff": "image/tiff", "json": "application/json"}
_STEP_K = 0.01


class Reply(NamedTuple):
    """Bytes for the wire."""

    body: bytes
    content_type: str


def encode_reply(answer: Answer, meta: dict[str, Any], form: ReplyForm, quantity: Quantity, start: float) -> Reply:
    """The reply in the form that was asked for.

    Args:
        meta: with the times taken so far under ``handler_ms``; ``encode_ms`` and ``total_ms`` are added, though a
            GeoTIFF holds ``encode_ms`` as null, since its tags are part of what is encoded.
        start: of the request, by ``time.perf_counter``.

    Raises:
        InvalidInput: a value does not fit the encoding.
        Unavailable: a GeoTIFF cannot be made here.
    """
    if form.format == "npz":
        body = _encode_npz(answer, meta, start)
    else:
        body = _encode_geotiff(answer, meta, _STEP_K * quantity.kelvin if form.encoding == "uint16" else None, start)
    return Reply(body, CONTENT_TYPE[form.format])


def ms_since(start: float) -> float:
    """Milliseconds since ``start``, by ``time.perf_counter``."""
    return (time.perf_counter() - start) * 1000.0


def _encode_npz(answer: Answer, meta: dict[str, Any], start: float) -> bytes:
    """Arrays first, then ``meta``, which holds how long the arrays took; after that next to nothing is left to do."""
    before = time.perf_counter()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in answer.arrays.items():
            write_member(archive, name, array)
        known = {name: value for name, value in meta.items() if name != "handler_ms"}
        text = json.dumps(known, allow_nan=False)
        meta["handler_ms"] |= {"encode_ms": ms_since(before), "total_ms": ms_since(start)}
        write_member(archive, "meta", np.array(f'{text[:-1]}, "handler_ms": {json.dumps(meta["handler_ms"])}}}'))
    return stream.getvalue()


def _encode_geotiff(answer: Answer, meta: dict[str, Any], step: float | None, start: float) -> bytes:
    before = time.perf_counter()
    meta["handler_ms"] |= {"encode_ms": None, "total_ms": ms_since(start)}
    place: Georeference | None = answer.georeference
    if place is not None:
        place = window_georeference(place, *answer.corner)
    body = encode_geotiff_reply({**answer.arrays, "meta": meta}, place, step=step)
    meta["handler_ms"] |= {"encode_ms": ms_since(before), "total_ms": ms_since(start)}
    return body
