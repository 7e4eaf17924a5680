"""One opened bundle that answers requests: the computation that every wire, every CLI and the training side share."""

import io
import time
import uuid
import zipfile
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from thermoscale.amun_requests import CONTEXT_GRAPH, TILE_GRAPH, open_amun
from thermoscale.answer import Answer, Requests
from thermoscale.arrays import QUANTITIES, Array, Network
from thermoscale.bundle.golden import GOLDEN_NAME, compare_golden, read_golden
from thermoscale.bundle.manifest import Manifest, read_manifest, verify_files
from thermoscale.errors import BundleError, InvalidInput, Unavailable, Undetermined
from thermoscale.fields import read_text
from thermoscale.formats import Georeference
from thermoscale.geo.alignment import Grid, window_georeference
from thermoscale.iustfm_requests import DYNET_GRAPH, RATIO_NET_GRAPH, open_iustfm
from thermoscale.request_parts import decode_parts
from thermoscale.runtime.ort import open_session
from thermoscale.wire.geotiff import encode_geotiff_reply
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import encode_npz

GOLDEN_TOLERANCE_K = 1e-3
_MAX_REQUEST_ID = 128
_GRAPHS = {"amun": (TILE_GRAPH, CONTEXT_GRAPH), "iustfm": (DYNET_GRAPH, RATIO_NET_GRAPH)}
_SKIN = {"lst": "skin temperature, not air temperature", "reflectance": "surface reflectance"}
_CONTENT_TYPE = {"npz": "application/octet-stream", "geotiff": "image/tiff"}
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
                and optionally ``request_id``; a missing or unknown key is an error.

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

    def predict_bytes(self, parts: Mapping[str, bytes]) -> Reply:
        """Answer one request from the wire.

        Args:
            parts: ``body`` with an .npz or a GeoTIFF, or named parts (.npz, GeoTIFF or text). ``reply`` (``npz`` or
                ``geotiff``; default: as the request came) and ``request_id`` may be parts or members of the .npz.

        Raises:
            InvalidInput, Undetermined, Unavailable: as the message says.
        """
        start = time.perf_counter()
        request = decode_parts(parts, self.limits)
        decode_ms = _ms_since(start)
        values, meta = self._begin(request.values)
        answer, timings = self._timed_answer(values, request.grids)
        meta |= {**self._facts(answer), "handler_ms": {"decode_ms": decode_ms, **timings}}
        body = _encode_geotiff(answer, meta, start) if request.reply == "geotiff" else _encode_npz(answer, meta, start)
        if len(body) > self.limits.max_body_bytes:
            raise InvalidInput(
                f"the reply has {len(body)} bytes, at most {self.limits.max_body_bytes} are allowed: ask for a window"
            )
        return Reply(body, _CONTENT_TYPE[request.reply])

    def golden_request(self) -> bytes:
        """The golden sample's input as an .npz body: whoever gets its answer over a wire has reached a ready model."""
        return encode_npz(self._golden_inputs)

    def _begin(self, arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The pipeline's own values, and the part of ``meta`` that is known before the work."""
        values = dict(arrays)
        given = values.pop("request_id", None)
        manifest = self.manifest
        meta = {
            "bundle": manifest.pipeline,
            "version": manifest.version,
            "digest": manifest.digest,
            "request_id": uuid.uuid4().hex if given is None else _read_request_id(given),
            "unit": QUANTITIES[manifest.quantity].unit,
            "note": f"{manifest.sky} {_SKIN[manifest.quantity]}",
            "bias_applied": 0.0,
        }
        return values, meta

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
