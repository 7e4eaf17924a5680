"""Call a running server over REST (standard library and numpy only) or gRPC (extra ``client``: grpcio and protobuf).

Both clients take and give what :meth:`thermoscale.service.Service.predict` takes and gives, and raise the same errors,
with the id of the request as their ``request_id``. Threads may share a client; each process needs its own.
"""

import json
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlsplit

from thermoscale.client_access import authorization, read_ca, tls_context
from thermoscale.client_errors import error_of_grpc, error_of_http
from thermoscale.client_http import Connections, HttpReply, encode_multipart
from thermoscale.client_retry import Deadline, attempt
from thermoscale.errors import InvalidInput, ThermoscaleError, Unavailable
from thermoscale.geo.rasters import is_geotiff
from thermoscale.grpc_messages import NEEDS_CLIENT_EXTRA, PREDICTIONS_METHOD, load_messages
from thermoscale.wire.geotiff import decode_geotiff_reply
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import decode_npz, encode_npz, json_of

TIMEOUT_S = 60.0
"""Default patience for one request; the server itself gives up after 120 s."""

RETRIES = 4
"""Further attempts after the first, where :mod:`thermoscale.client_retry` says that one makes sense."""

MAX_REPLY_BYTES = Limits().max_body_bytes
"""The largest reply that a server of ours sends."""

LARGEST_MESSAGE = 2**31 - 1
_REPLY_LIMITS = Limits(max_body_bytes=LARGEST_MESSAGE, max_inflated_bytes=LARGEST_MESSAGE, max_ratio=10**6)
_HEADER_ID = re.compile(r"[!#-\[\]-~]{1,128}", re.ASCII)
_ENVELOPE_BYTES = 1024  # what a gRPC message holds beside the reply
_GRPC_BACKOFF_MS = (("initial", 100), ("max", 1000))  # between attempts to connect; grpcio's own grow to 2 minutes


class _Request(NamedTuple):
    """What goes to a server."""

    model: str
    version: str | None
    parts: Mapping[str, bytes]
    request_id: str

    @property
    def headers(self) -> dict[str, str]:
        """The id for the log of a front."""
        return {"x-request-id": self.request_id} if _HEADER_ID.fullmatch(self.request_id) else {}


class _Client:
    """What both wires share, on top of :meth:`_send`, which carries bytes."""

    retries = RETRIES

    def predict(
        self,
        model: str,
        arrays: Mapping[str, Any],
        *,
        version: str | None = None,
        timeout_s: float = TIMEOUT_S,
        reply: str = "npz",
    ) -> dict[str, Any]:
        """Predict one scene.

        Args:
            model: "amun" or "iustfm".
            arrays: as for ``Service.predict``: see ``docs/wire-format.md``.
            version: of the bundle, default the server's default version.
            timeout_s: for everything together, further attempts too. The server is told, and begins with no request
                whose time is over.
            reply: format on the wire, "npz" (everything) or "geotiff" (arrays on the fine grid, meta).

        Raises:
            InvalidInput: the server names what is wrong with the request, knows no such model, or no such key.
            Undetermined: the data do not determine an answer.
            Unavailable: no server, no worker, no answer in time.
        """
        values = {**_labels(timeout_s), "reply": reply, **arrays}
        parts = {"body": encode_npz(values)}
        return decode_reply(self._call(_Request(model, version, parts, str(values["request_id"])), timeout_s))

    def predict_bytes(
        self, model: str, parts: Mapping[str, bytes], *, version: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> bytes:
        """Send ``parts`` and return the reply's bytes; errors as of :meth:`predict`.

        Args:
            parts: one called ``body``, sent as it is, or several by name, beside which ``request_id`` and ``expires``
                are sent unless they are among them.
        """
        labels = {name: text.encode() for name, text in _labels(timeout_s).items()}
        request_id = {**labels, **parts}["request_id"].decode("utf-8", "replace")
        if parts.keys() != {"body"}:  # a body alone stays alone: a form of 8 MB takes TorchServe twice the time
            parts = {**labels, **parts}
        return self._call(_Request(model, version, parts, request_id), timeout_s)

    def describe(self, model: str, *, version: str | None = None, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """What the model is, needs and gives: place, grids, units, library dates, limits (``Service.describe``)."""
        request_id = uuid.uuid4().hex
        parts = {"ask": b"description", "request_id": request_id.encode()}
        return _json_object(self._call(_Request(model, version, parts, request_id), timeout_s))

    def close(self) -> None:
        """Close what is open; a client in a ``with`` statement does it at the end."""
        raise NotImplementedError

    def _send(self, request: _Request, deadline: Deadline) -> bytes:
        """One attempt."""
        raise NotImplementedError

    def _call(self, request: _Request, timeout_s: float) -> bytes:
        _require_sendable(request.parts)
        deadline = Deadline(timeout_s)
        try:
            return attempt(lambda: self._send(request, deadline), deadline, self.retries)
        except ThermoscaleError as error:
            error.request_id = request.request_id
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RestClient(_Client):
    """REST: ``POST /predictions/<model>[/<version>]`` on kept connections.

    Args:
        url: http://host:port or https://host:port, with a path before ``/predictions`` if there is one.
        key: for a server that asks for one.
        ca: PEM file of the authority that signed the server's certificate; default: those that the system trusts.
        retries: further attempts, 0 for none.
        max_reply_bytes: a larger reply is refused.

    Raises:
        InvalidInput: no such address, a key that cannot be one, or that would travel unencrypted.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        ca: Path | str | None = None,
        retries: int = RETRIES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise InvalidInput(f"REST address is {url!r}, needed for example http://127.0.0.1:8080")
        self.url, self.retries = url.rstrip("/"), retries
        tls = split.scheme == "https"
        self._headers = authorization(key, split.hostname, tls=tls)
        self._prefix = split.path.rstrip("/")
        self._connections = Connections(split.netloc, tls_context(ca, tls=tls), max_reply_bytes)

    def models(self, *, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
        """Name and versions of every model, as the front lists them.

        Raises:
            InvalidInput: a server without the front, which answers no such question.
            Unavailable: no answer.
        """
        status, body = self.request("GET", "/v1/models", timeout_s=timeout_s)
        if status == 404:
            raise InvalidInput(f"{self.url} lists no models, a server without the front does not: name a model")
        if status != 200:
            raise error_of_http(status, {}, body)
        found: list[dict[str, Any]] = _json_object(body)["models"]
        return found

    def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "text/plain", timeout_s: float = TIMEOUT_S
    ) -> tuple[int, bytes]:
        """One exchange, whatever its answer: status and body.

        Raises:
            Unavailable: no connection, or it broke, or no answer in time.
        """
        reply = self._exchange(method, path, body, {"content-type": content_type}, Deadline(timeout_s))
        return reply.status, reply.body

    def close(self) -> None:
        self._connections.close()

    def _send(self, request: _Request, deadline: Deadline) -> bytes:
        path = "/predictions/" + "/".join(quote(name, safe="") for name in (request.model, request.version) if name)
        body, content_type = request.parts.get("body", b""), "application/octet-stream"
        if request.parts.keys() != {"body"}:
            body, content_type = encode_multipart(request.parts)
        return self._ok("POST", path, body, {"content-type": content_type, **request.headers}, deadline)

    def _ok(self, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: Deadline) -> bytes:
        reply = self._exchange(method, path, body, headers, deadline)
        if reply.status != 200:
            raise error_of_http(reply.status, reply.headers, reply.body)
        return reply.body

    def _exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: Deadline
    ) -> HttpReply:
        try:
            return self._connections.exchange(method, self._prefix + path, body, {**self._headers, **headers}, deadline)
        except Unavailable as error:
            error.args = (f"no answer from {self.url}{path}: {error}",)
            raise


class GrpcClient(_Client):
    """gRPC: one channel.

    Args:
        address: host:port, or https://host:port for TLS.
        key: for a server that asks for one.
        ca: as of :class:`RestClient`; implies TLS. Default: those that grpcio brings.
        retries: further attempts, 0 for none.
        max_reply_bytes: a larger reply is refused.

    Raises:
        InvalidInput: no such address, a key that cannot be one, or that would travel unencrypted.
        Unavailable: grpcio or protobuf is missing.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        ca: Path | str | None = None,
        retries: int = RETRIES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        try:
            import grpc
        except ImportError as error:
            raise Unavailable(NEEDS_CLIENT_EXTRA) from error
        split = urlsplit(address if "://" in address else f"//{address}")
        if split.scheme not in ("", "http", "https") or not split.hostname or split.path.strip("/"):
            raise InvalidInput(f"gRPC address is {address!r}, needed for example 127.0.0.1:7070")
        tls = split.scheme == "https" or ca is not None
        self.address, self.retries = address, retries
        self._metadata = tuple(authorization(key, split.hostname, tls=tls).items())
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", max_reply_bytes + _ENVELOPE_BYTES),
            *((f"grpc.{name}_reconnect_backoff_ms", wait_ms) for name, wait_ms in _GRPC_BACKOFF_MS),
        ]
        if tls:
            credentials = grpc.ssl_channel_credentials(read_ca(ca) if ca else None)
            self._channel = grpc.secure_channel(split.netloc, credentials, options)
        else:
            self._channel = grpc.insecure_channel(split.netloc, options)
        messages = load_messages()
        self._errors, self._message = grpc.RpcError, messages.request
        self._predictions = self._channel.unary_unary(
            PREDICTIONS_METHOD,
            request_serializer=messages.request.SerializeToString,
            response_deserializer=messages.response.FromString,
        )

    def close(self) -> None:
        self._channel.close()

    def _send(self, request: _Request, deadline: Deadline) -> bytes:
        message = self._message(
            model_name=request.model, model_version=request.version or "", input=dict(request.parts)
        )
        metadata = (*self._metadata, *request.headers.items())
        try:
            reply = self._predictions(message, timeout=deadline.left_s(), metadata=metadata)
        except self._errors as error:
            if error.code().name == "DEADLINE_EXCEEDED":
                deadline.left_s()  # raises, unless that was the server's own patience
            received = dict((*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())))
            raise error_of_grpc(error.code().name, error.details() or "", received) from error
        return bytes(reply.prediction)


def decode_reply(body: bytes) -> dict[str, Any]:
    """Arrays and ``meta`` (a dict) from a reply in either format.

    Raises:
        InvalidInput: not a reply of ours.
    """
    arrays = (decode_geotiff_reply if is_geotiff(body) else decode_npz)(body, _REPLY_LIMITS)
    if "meta" not in arrays:
        raise InvalidInput(f"the reply holds {sorted(arrays)} and no meta: it is not from thermoscale")
    return {**arrays, "meta": json_of("meta", arrays["meta"])}


def _labels(timeout_s: float) -> dict[str, str]:
    """What every request carries: an id for logs and errors, and the moment after which nobody waits for its answer."""
    return {"request_id": uuid.uuid4().hex, "expires": f"{time.time() + timeout_s:.3f}"}


def _require_sendable(parts: Mapping[str, bytes]) -> None:
    """Refuse here what a server would only break off: an empty 413 over REST, a reset stream over gRPC."""
    size, most = sum(map(len, parts.values())), Limits().max_body_bytes
    if size > most:
        raise InvalidInput(f"the request has {size} bytes, at most {most} are accepted: send a smaller scene")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise InvalidInput(f"the answer of {len(body)} bytes is not JSON: it is not from thermoscale") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"the answer is a JSON {type(value).__name__}, needed an object")
    return value
