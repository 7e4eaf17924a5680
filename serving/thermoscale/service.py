"""One opened bundle that answers requests: the computation that every wire, every CLI and the training side share."""

import json
import math
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from thermoscale.amun_requests import CONTEXT_GRAPH, TILE_GRAPH, open_amun
from thermoscale.answer import Answer, Requests
from thermoscale.arrays import QUANTITIES, Array, require_keys
from thermoscale.bundle.golden import GOLDEN_NAME, compare_golden, read_golden
from thermoscale.bundle.manifest import Manifest, read_manifest, verify_files
from thermoscale.drift import drift_of
from thermoscale.errors import BundleError, InvalidInput, Unavailable, Undetermined
from thermoscale.fields import read_text
from thermoscale.geo.alignment import Grid
from thermoscale.iustfm_requests import DYNET_GRAPH, RATIO_NET_GRAPH, open_iustfm
from thermoscale.replies import CONTENT_TYPE, Reply, encode_reply, ms_since
from thermoscale.request_parts import decode_parts
from thermoscale.request_values import read_number
from thermoscale.runtime.ort import open_session
from thermoscale.runtime.timed import TimedNetwork, stopwatch
from thermoscale.wire.file_parts import FileRoots
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import encode_npz
from thermoscale.wire.reply_form import ReplyForm

GOLDEN_TOLERANCE_K = 1e-3
_MAX_REQUEST_ID = 128
_GRAPHS = {"amun": (TILE_GRAPH, CONTEXT_GRAPH), "iustfm": (DYNET_GRAPH, RATIO_NET_GRAPH)}
_SKIN = {"lst": "skin temperature, not air temperature", "reflectance": "surface reflectance"}
_DESCRIPTION = "description"


def open_bundle(folder: Path | str, *, threads: int = 1, limits: Limits | None = None) -> "Service":
    """Open the bundle in ``folder``: check its manifest and every hash, load its graphs, reproduce its golden sample.

    Args:
        threads: threads inside one operator of a graph, and blocks of pixels computed at once.
        limits: how large a request may be.

    Raises:
        BundleError: broken, incomplete, or this machine does not reproduce the golden sample within 1e-3 K.
        InvalidInput: THERMOSCALE_FILE_ROOTS names something that is no folder.
        Unavailable: onnxruntime is missing.
    """
    folder, files = Path(folder), FileRoots.from_environment()
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    graphs = [name for name in _GRAPHS[manifest.pipeline] if name in manifest.files]
    networks = {name: TimedNetwork(open_session(folder / name, threads=threads)) for name in graphs}
    inputs, outputs = read_golden(folder / GOLDEN_NAME)
    try:
        requests = _open_requests(folder, manifest, networks, threads)
        service = Service(manifest, requests, inputs, limits or Limits(), files)
        got = service.predict(inputs)
    except (InvalidInput, Undetermined) as error:
        raise BundleError(f"bundle {folder} cannot answer its own golden sample: {error}") from error
    compare_golden(outputs, got, GOLDEN_TOLERANCE_K)
    return service


def _open_requests(folder: Path, manifest: Manifest, networks: Mapping[str, TimedNetwork], threads: int) -> Requests:
    """The bundle's pipeline."""
    quantity = manifest.config.get("quantity")
    if quantity != manifest.quantity:
        raise BundleError(f"bundle {folder}: the manifest says quantity {manifest.quantity}, its config {quantity}")
    if manifest.pipeline == "iustfm":
        return open_iustfm(folder, manifest, networks, threads)
    return open_amun(manifest, networks)


class _Begun(NamedTuple):
    """A request before its work: the pipeline's own values, what ``meta`` holds already, seconds until it expires."""

    values: dict[str, Any]
    meta: dict[str, Any]
    patience_s: float


class Service:
    """An opened bundle. Made by :func:`open_bundle`."""

    def __init__(
        self,
        manifest: Manifest,
        requests: Requests,
        golden_inputs: Mapping[str, Array],
        limits: Limits,
        files: FileRoots | None = None,
    ) -> None:
        self.manifest = manifest
        self.limits = limits
        self._requests = requests
        self._golden_inputs = dict(golden_inputs)
        self._files = files

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
        return {**self._begin({}).meta, **self._facts(Answer({}, dict(facts), (0, 0), None)), "handler_ms": timings}

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
        with _enough_memory():
            values, meta, patience_s = self._begin(arrays)
            answer, timings = self._timed_answer(values, {}, None, patience_s)
        meta |= self._facts(answer)
        timings |= {"decode_ms": 0.0, "encode_ms": 0.0, "total_ms": ms_since(start)}
        return {**answer.arrays, "meta": {**meta, "handler_ms": timings}}

    def predict_bytes(
        self, parts: Mapping[str, bytes], observed: dict[str, Any] | None = None, begun: float | None = None
    ) -> Reply:
        """Answer one request from the wire.

        Args:
            parts: ``body`` with an .npz or a GeoTIFF, or named parts (.npz, GeoTIFF or text). ``reply`` (``npz`` or
                ``geotiff``; default: as the request came), ``encoding``, ``request_id`` and ``expires`` may be parts
                or members of the .npz. ``<name>_file`` names a file instead, where that is allowed. ``ask`` =
                ``description`` alone gets :meth:`describe` as JSON.
            observed: filled as the work goes on, also when it fails, for logs and metrics: the request's ``values``,
                its ``meta``, the answer's ``drift``.
            begun: when the work on it began, by ``time.perf_counter``; default now.

        Raises:
            InvalidInput, Undetermined, Unavailable: as the message says.
        """
        start = time.perf_counter() if begun is None else begun
        with _enough_memory():
            return self._reply(parts, {} if observed is None else observed, start)

    def _reply(self, parts: Mapping[str, bytes], observed: dict[str, Any], start: float) -> Reply:
        request = decode_parts(parts, self.limits, self._files)
        decode_ms = ms_since(start)
        observed["values"] = request.values
        values, meta, patience_s = self._begin(request.values)
        observed["meta"] = meta
        if "ask" in values:
            return self._description(values)
        patience_s = min(patience_s, self.limits.max_seconds)
        answer, timings = self._timed_answer(values, request.grids, request.form, patience_s)
        observed["drift"] = drift_of(request.values, answer.arrays)
        meta |= {**self._facts(answer), "handler_ms": {"decode_ms": decode_ms, **timings}}
        reply = encode_reply(answer, meta, request.form, QUANTITIES[self.manifest.quantity], start)
        if len(reply.body) > self.limits.max_reply_bytes:
            raise InvalidInput(
                f"the reply has {len(reply.body)} bytes, at most {self.limits.max_reply_bytes} are allowed: "
                "ask for a window"
            )
        return reply

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

    def _begin(self, arrays: Mapping[str, Any]) -> _Begun:
        values = dict(arrays)
        given = values.pop("request_id", None)
        patience_s = _seconds_left(read_number("expires", values.pop("expires"))) if "expires" in values else math.inf
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
        return _Begun(values, meta, patience_s)

    def _description(self, values: Mapping[str, Any]) -> Reply:
        require_keys("request for a description", values, {"ask"}, set())
        if read_text("ask", values["ask"]) != _DESCRIPTION:
            raise InvalidInput(f"ask is {str(values['ask'])!r:.40}, needed {_DESCRIPTION!r}")
        return Reply(json.dumps(self.describe(), allow_nan=False).encode("ascii"), CONTENT_TYPE["json"])

    def _timed_answer(
        self, values: Mapping[str, Any], grids: Mapping[str, Grid], form: ReplyForm | None, patience_s: float
    ) -> tuple[Answer, dict[str, float | None]]:
        start = time.perf_counter()
        with stopwatch(patience_s) as watch:
            answer = self._requests.answer(values, grids, self.limits, form)
        network_ms = watch.network_s * 1000.0
        return answer, {"network_ms": network_ms, "assemble_ms": ms_since(start) - network_ms}

    @staticmethod
    def _facts(answer: Answer) -> dict[str, Any]:
        return {"dates_used": [], "context_id": None, "times": {"utc": None, "local": None}, **answer.facts}


def _note(manifest: Manifest) -> str:
    """What the values are."""
    return f"{manifest.sky} {_SKIN[manifest.quantity]}"


def _seconds_left(expires: float) -> float:
    """Until ``expires``, seconds since 1970 UTC; refuses what nobody waits for any more."""
    left_s = expires - time.time()
    if left_s < 0:
        raise Unavailable(
            f"the request expired {-left_s:.1f} s ago: nothing was computed; send it again with more time"
        )
    return left_s


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise Unavailable("not enough memory for this request now: ask for a window, or try again") from error


def _read_request_id(value: Any) -> str:
    text = read_text("request_id", value)
    if len(text) > _MAX_REQUEST_ID:
        raise InvalidInput(f"request_id has {len(text)} characters, at most {_MAX_REQUEST_ID} are echoed")
    return text
