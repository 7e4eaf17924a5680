"""Call a running server over REST (standard library only) or gRPC (extra ``client``: grpcio and protobuf).

Both clients take and give what :meth:`thermoscale.service.Service.predict` takes and gives, and raise the same errors.
"""

import json
import uuid
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from thermoscale.errors import InvalidInput, ThermoscaleError, Unavailable, Undetermined
from thermoscale.geo.rasters import is_geotiff
from thermoscale.grpc_messages import NEEDS_CLIENT_EXTRA, PREDICTIONS_METHOD, load_messages
from thermoscale.wire.geotiff import decode_geotiff_reply
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import decode_npz, encode_npz, json_of

TIMEOUT_S = 60.0
"""Default patience for one request; the server itself gives up after 120 s."""

LARGEST_MESSAGE = 2**31 - 1
_REPLY_LIMITS = Limits(max_body_bytes=LARGEST_MESSAGE, max_inflated_bytes=LARGEST_MESSAGE, max_ratio=10**6)
_ERROR_OF_HTTP: dict[int, type[ThermoscaleError]] = {
    400: InvalidInput,
    404: InvalidInput,  # no such model or version
    413: InvalidInput,
    422: Undetermined,
}
_ERROR_OF_GRPC: dict[str, type[ThermoscaleError]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "NOT_FOUND": InvalidInput,
    "FAILED_PRECONDITION": Undetermined,
}


class _Client:
    """What both wires share: :meth:`predict` on top of the bytes that a subclass carries."""

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
            reply: format on the wire, "npz" (everything) or "geotiff" (arrays on the fine grid, meta).

        Raises:
            InvalidInput: the server names what is wrong with the request, or knows no such model.
            Undetermined: the data do not determine an answer.
            Unavailable: no server, no worker, no answer in time.
        """
        parts = {"body": encode_npz(arrays)}
        if reply != "npz":
            parts["reply"] = reply.encode("ascii")
        return decode_reply(self.predict_bytes(model, parts, version=version, timeout_s=timeout_s))

    def predict_bytes(
        self, model: str, parts: Mapping[str, bytes], *, version: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> bytes:
        """Send ``parts`` as they are (one called ``body``, or several by name) and return the reply's bytes."""
        raise NotImplementedError


class RestClient(_Client):
    """REST: ``POST /predictions/<model>[/<version>]``; one connection for each call, so threads may share a client."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise InvalidInput(f"REST address is {url!r}, needed for example http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._connection_class = HTTPSConnection if split.scheme == "https" else HTTPConnection
        self._address, self._prefix = split.netloc, split.path.rstrip("/")

    def predict_bytes(
        self, model: str, parts: Mapping[str, bytes], *, version: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> bytes:
        """Send one part as the body, several as multipart/form-data."""
        _require_sendable(parts)
        path = "/predictions/" + "/".join(quote(name, safe="") for name in (model, version) if name)
        if parts.keys() == {"body"}:
            status, reply = self.request("POST", path, parts["body"], "application/octet-stream", timeout_s)
        else:
            status, reply = self.request("POST", path, *_encode_multipart(parts), timeout_s)
        if status != 200:
            raise _ERROR_OF_HTTP.get(status, Unavailable)(_rest_message(status, reply))
        return reply

    def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "text/plain", timeout_s: float = TIMEOUT_S
    ) -> tuple[int, bytes]:
        """One HTTP exchange: status and body.

        Raises:
            Unavailable: no connection, or it broke, or no answer in time.
        """
        connection = self._connection_class(self._address, timeout=timeout_s)
        try:
            connection.request(method, self._prefix + path, body, {"Content-Type": content_type})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException) as error:
            raise Unavailable(f"no answer from {self.url}{path}: {error or type(error).__name__}") from error
        finally:
            connection.close()


class GrpcClient(_Client):
    """gRPC: one channel, which threads may share; close it, or use the client in a ``with`` statement.

    Args:
        address: host:port.

    Raises:
        Unavailable: grpcio or protobuf is missing.
    """

    def __init__(self, address: str) -> None:
        try:
            import grpc
        except ImportError as error:
            raise Unavailable(NEEDS_CLIENT_EXTRA) from error
        messages = load_messages()
        sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._errors = grpc.RpcError
        self._channel = grpc.insecure_channel(address, options=sizes)
        self._request = messages.request
        self._predictions = self._channel.unary_unary(
            PREDICTIONS_METHOD,
            request_serializer=messages.request.SerializeToString,
            response_deserializer=messages.response.FromString,
        )

    def predict_bytes(
        self, model: str, parts: Mapping[str, bytes], *, version: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> bytes:
        """Send every part as one entry of the request's map."""
        _require_sendable(parts)
        request = self._request(model_name=model, model_version=version or "", input=dict(parts))
        try:
            return bytes(self._predictions(request, timeout=timeout_s).prediction)
        except self._errors as error:
            raise _grpc_error(error.code().name, error.details() or "") from error

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def decode_reply(body: bytes) -> dict[str, Any]:
    """Arrays and ``meta`` (a dict) from a reply in either format.

    Raises:
        InvalidInput: not a reply of ours.
    """
    arrays = (decode_geotiff_reply if is_geotiff(body) else decode_npz)(body, _REPLY_LIMITS)
    if "meta" not in arrays:
        raise InvalidInput(f"the reply holds {sorted(arrays)} and no meta: it is not from thermoscale")
    return {**arrays, "meta": json_of("meta", arrays["meta"])}


def _require_sendable(parts: Mapping[str, bytes]) -> None:
    """Refuse here what a server would only break off: an empty 413 over REST, a reset stream over gRPC."""
    size, most = sum(map(len, parts.values())), Limits().max_body_bytes
    if size > most:
        raise InvalidInput(f"the request has {size} bytes, at most {most} are accepted: send a smaller scene")


def _encode_multipart(parts: Mapping[str, bytes]) -> tuple[bytes, str]:
    """Body and content type; every part is sent as a file, because TorchServe would decode fields as text."""
    boundary = uuid.uuid4().hex
    chunks = []
    for name, content in parts.items():
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{name}"'
        head = f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n"
        chunks += [head.encode("ascii", "replace"), content, b"\r\n"]
    chunks.append(f"--{boundary}--\r\n".encode("ascii"))
    return b"".join(chunks), f"multipart/form-data; boundary={boundary}"


def _rest_message(status: int, reply: bytes) -> str:
    """The server's own words where there are some: TorchServe wraps them in JSON."""
    try:
        return str(json.loads(reply)["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {status}: {reply[:200]!r}" + ("; the request is too large" if status == 413 else "")


def _grpc_error(code: str, details: str) -> ThermoscaleError:
    """TorchServe appends a line with the name of a Java class, and calls an unknown model INTERNAL."""
    message, _, java_class = details.partition("\norg.pytorch.serve.")
    if code == "INTERNAL" and java_class.endswith("NotFoundException"):
        return InvalidInput(message)
    return _ERROR_OF_GRPC.get(code, Unavailable)(message or f"gRPC status {code}")
