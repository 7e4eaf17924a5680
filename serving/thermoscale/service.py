"""One opened bundle that answers requests: the computation that every wire, every CLI and the training side share."""

import io
import json
import time
import uuid
import zipfile
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from thermoscale.amun_requests import CONTEXT_GRAPH, TILE_GRAPH, open_amun
from thermoscale.answer import Answer, Requests
from thermoscale.arrays import QUANTITIES, Array, Network, require_keys
from thermoscale.bundle.golden import GOLDEN_NAME, compare_golden, read_golden
from thermoscale.bundle.manifest import Manifest, read_manifest, verify_files
from thermoscale.errors import BundleError, InvalidInput, Unavailable, Undetermined
from thermoscale.fields import read_text
from thermoscale.formats import Georeference
from thermoscale.geo.alignment import Grid, window_georeference
from thermoscale.iustfm_requests import DYNET_GRAPH, RATIO_NET_GRAPH, open_iustfm
from thermoscale.request_parts import decode_parts
from thermoscale.request_values import read_number
from thermoscale.runtime.ort import open_session
from thermoscale.wire.geotiff import encode_geotiff_reply
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import encode_npz

GOLDEN_TOLERANCE_K = 1e-3
_MAX_REQUEST_ID = 128
_GRAPHS = {"amun": (TILE_GRAPH, CONTEXT_GRAPH), "iustfm": (DYNET_GRAPH, RATIO_NET_GRAPH)}
_SKIN = {"lst": "skin temperature, not air temperature", "reflectance": "surface reflectance"}
_CONTENT_TYPE = {"npz": "application/octet-stream", "geotiff": "image/tiff", "json": "application/json"}
_DESCRIPTION = "description"
_NETWORK_S: ContextVar[float] = ContextVar("network_s", default=0.0)


class Reply(NamedTuple):
    """Bytes for the wire."""

    body: bytes
    content_type: str


def open_bundle(folder: Path | str, *, threads: int = 1, limits: Limits | None = None) -> "Service":
    """Open the bundle in ``folder``: check its manifest and every hash, load its graphs, reproduce its golden sample.

    Args:
        threads: threads inside one operator of a graph, and blocks of pixels computed at once.
        limits: how large a request may be.

    Raises:
        BundleError: broken, incomplete, or this machine does not reproduce the golden sample within 1e-3 K.
        Unavailable: onnxruntime is missing.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    graphs = [name for name in _GRAPHS[manifest.pipeline] if name in manifest.files]
    networks = {name: _timed(open_session(folder / name, threads=threads)) for name in graphs}
    inputs, outputs = read_golden(folder / GOLDEN_NAME)
    try:
        service = Service(manifest, _open_requests(folder, manifest, networks, threads), inputs, limits or Limits())
        got = service.predict(inputs)
    except (InvalidInput, Undetermined) as error:
        raise BundleError(f"bundle {folder} cannot answer its own golden sample: {error}") from error
    compare_golden(outputs, got, GOLDEN_TOLERANCE_K)
    return service


def _open_requests(folder: Path, manifest: Manifest, networks: Mapping[str, Network], threads: int) -> Requests:
    """The bundle's pipeline."""
    quantity = manifest.config.get("quantity")
    if quantity != manifest.quantity:
        raise BundleError(f"bundle {folder}: the manifest says quantity {manifest.quantity}, its config {quantity}")
    if manifest.pipeline == "iustfm":
        return open_iustfm(folder, manifest, networks, threads)
    return open_amun(manifest, networks)


class Service:
    """An opened bundle. Made by :func:`open_bundle`."""

    def __init__(
        self, manifest: Manifest, requests: Requests, golden_inputs: Mapping[str, Array], limits: Limits
    ) -> None:
        self.manifest = manifest
        self.limits = limits
        self._requests = requests
        self._golden_inputs = dict(golden_inputs)

    @property
    def pipeline(self) -> str:
        """``amun`` or ``iustfm``; also the model's name on a server."""
        return self.manifest.pipeline

    @property
    def requests(self) -> Requests:
        """The bundle's pipeline behind the named values of a request."""
        return self._requests

    def meta(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The ``meta`` of an answer that is made piece by piece, with ``facts``: no single time was spent on it."""
        timings = dict.fromkeys(("decode_ms", "network_ms", "assemble_ms", "encode_ms", "total_ms"))
        return {**self._begin({})[1], **self._facts(Answer({}, dict(facts), (0, 0), None)), "handler_ms": timings}

    def predict(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one request in memory.

        Args:
            arrays: named values of the pipeline (:mod:`thermoscale.amun_requests`, :mod:`thermoscale.iustfm_requests`)
                and optionally ``request_id`` and ``expires`` (seconds since 1970 UTC: not computed after that); a
                missing or unknown key is an error.

        Returns:
            Result arrays by name, and ``meta``, a dict.

        Raises:
            InvalidInput, Undetermined, Unavailable: as the message says.
        """
        start = time.perf_counter()
        values, meta = self._begin(arrays)
        answer, timings = self._timed_answer(values, {})
        meta |= self._facts(answer)
        timings |= {"decode_ms": 0.0, "encode_ms": 0.0, "total_ms": _ms_since(start)}
        return {**answer.arrays, "meta": {**meta, "handler_ms": timings}}

    def predict_bytes(self, parts: Mapping[str, bytes], observed: dict[str, Any] | None = None) -> Reply:
        """Answer one request from the wire.

        Args:
            parts: ``body`` with an .npz or a GeoTIFF, or named parts (.npz, GeoTIFF or text). ``reply`` (``npz`` or
                ``geotiff``; default: as the request came), ``request_id`` and ``expires`` may be parts or members of
                the .npz. ``ask`` = ``description`` alone gets :meth:`describe` as JSON.
            observed: filled as the work goes on, also when it fails, for logs and metrics: the request's ``values``,
                its ``meta``, the answer's ``arrays``.

        Raises:
            InvalidInput, Undetermined, Unavailable: as the message says.
        """
        start = time.perf_counter()
        observed = {} if observed is None else observed
        request = decode_parts(parts, self.limits)
        decode_ms = _ms_since(start)
        observed["values"] = request.values
        values, meta = self._begin(request.values)
        observed["meta"] = meta
        if "ask" in values:
            return self._description(values)
        answer, timings = self._timed_answer(values, request.grids)
        observed["arrays"] = answer.arrays
        meta |= {**self._facts(answer), "handler_ms": {"decode_ms": decode_ms, **timings}}
        body = _encode_geotiff(answer, meta, start) if request.reply == "geotiff" else _encode_npz(answer, meta, start)
        if len(body) > self.limits.max_body_bytes:
            raise InvalidInput(
                f"the reply has {len(body)} bytes, at most {self.limits.max_body_bytes} are allowed: ask for a window"
            )
        return Reply(body, _CONTENT_TYPE[request.reply])

    def describe(self) -> dict[str, Any]:
        """What this bundle is and what may be asked of it, as JSON; keys: ``docs/wire-format.md``."""
        manifest = self.manifest
        return {
            "model": manifest.pipeline,
            "version": manifest.version,
            "digest": manifest.digest,
            "pipeline": manifest.pipeline,
            "quantity": manifest.quantity,
            "unit": QUANTITIES[manifest.quantity].unit,
            "sky": manifest.sky,
            "note": _note(manifest),
            **self._requests.describe(),
            "limits": asdict(self.limits),
        }

    def golden_request(self) -> bytes:
        """The golden sample's input as an .npz body: whoever gets its answer over a wire has reached a ready model."""
        return encode_npz(self._golden_inputs)

    def _begin(self, arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The pipeline's own values, and the part of ``meta`` that is known before the work."""
        values = dict(arrays)
        given = values.pop("request_id", None)
        if "expires" in values:
            _require_fresh(read_number("expires", values.pop("expires")))
        manifest = self.manifest
        meta = {
            "bundle": manifest.pipeline,
            "version": manifest.version,
            "digest": manifest.digest,
            "request_id": uuid.uuid4().hex if given is None else _read_request_id(given),
            "unit": QUANTITIES[manifest.quantity].unit,
            "note": _note(manifest),
            "bias_applied": 0.0,
        }
        return values, meta

    def _description(self, values: Mapping[str, Any]) -> Reply:
        require_keys("request for a description", values, {"ask"}, set())
        if read_text("ask", values["ask"]) != _DESCRIPTION:
            raise InvalidInput(f"ask is {str(values['ask'])!r:.40}, needed {_DESCRIPTION!r}")
        return Reply(json.dumps(self.describe(), allow_nan=False).encode("ascii"), _CONTENT_TYPE["json"])

    def _timed_answer(
        self, values: Mapping[str, Any], grids: Mapping[str, Grid]
    ) -> tuple[Answer, dict[str, float | None]]:
        start = time.perf_counter()
        _NETWORK_S.set(0.0)
        try:
            answer = self._requests.answer(values, grids, self.limits)
        except MemoryError as error:
            raise Unavailable("not enough memory for this request now: ask for a window, or try again") from error
        network_ms = _NETWORK_S.get() * 1000.0
        return answer, {"network_ms": network_ms, "assemble_ms": _ms_since(start) - network_ms}

    @staticmethod
    def _facts(answer: Answer) -> dict[str, Any]:
        return {"dates_used": [], "context_id": None, "times": {"utc": None, "local": None}, **answer.facts}


def _note(manifest: Manifest) -> str:
    """What the values are."""
    return f"{manifest.sky} {_SKIN[manifest.quantity]}"


def _require_fresh(expires: float) -> None:
    """Refuse what nobody waits for any more; ``expires`` in seconds since 1970 UTC."""
    late_s = time.time() - expires
    if late_s > 0:
        raise Unavailable(f"the request expired {late_s:.1f} s ago: nothing was computed; send it again with more time")


def _read_request_id(value: Any) -> str:
    text = read_text("request_id", value)
    if len(text) > _MAX_REQUEST_ID:
        raise InvalidInput(f"request_id has {len(text)} characters, at most {_MAX_REQUEST_ID} are echoed")
    return text


def _encode_npz(answer: Answer, meta: dict[str, Any], start: float) -> bytes:
    """Arrays first, then ``meta``, which holds how long the arrays took."""
    before = time.perf_counter()
    stream = io.BytesIO(encode_npz(answer.arrays))
    meta["handler_ms"] |= {"encode_ms": _ms_since(before), "total_ms": _ms_since(start)}
    with zipfile.ZipFile(io.BytesIO(encode_npz({"meta": meta}))) as source, zipfile.ZipFile(stream, "a") as target:
        target.writestr("meta.npy", source.read("meta.npy"))
    return stream.getvalue()


def _encode_geotiff(answer: Answer, meta: dict[str, Any], start: float) -> bytes:
    """One GeoTIFF; ``encode_ms`` is null, because its tags are part of what is encoded."""
    meta["handler_ms"] |= {"encode_ms": None, "total_ms": _ms_since(start)}
    place: Georeference | None = answer.georeference
    if place is not None:
        place = window_georeference(place, *answer.corner)
    return encode_geotiff_reply({**answer.arrays, "meta": meta}, place)


def _timed(network: Network) -> Network:
    """``network``, adding the time it takes to the request's sum."""

    def call(arrays: Mapping[str, Array]) -> dict[str, Array]:
        start = time.perf_counter()
        try:
            return network(arrays)
        finally:
            _NETWORK_S.set(_NETWORK_S.get() + time.perf_counter() - start)

    return call


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000.0
