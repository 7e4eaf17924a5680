"""What both clients share: the requests they make, and what they make of the replies."""

import json
import re
import time
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from thermoscale.client.retry import Deadline, attempt
from thermoscale.errors import InvalidInput, ThermoscaleError
from thermoscale.geo.rasters import is_geotiff
from thermoscale.wire.geotiff import decode_geotiff_reply
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import decode_npz, encode_npz, json_of

TIMEOUT_S = 60.0
"""Default patience for one request; the server itself gives up after 120 s."""

RETRIES = 4
"""Further attempts after the first, where :mod:`thermoscale.client.retry` says that one makes sense."""

MAX_REPLY_BYTES = Limits().max_reply_bytes
"""The largest reply that a server of ours sends."""

_LARGEST_BYTES = 2**31 - 1
_REPLY_LIMITS = Limits(max_body_bytes=_LARGEST_BYTES, max_inflated_bytes=_LARGEST_BYTES, max_ratio=10**6)
_HEADER_ID = re.compile(r"[!#-\[\]-~]{1,128}", re.ASCII)


class Request(NamedTuple):
    """What goes to a server."""

    model: str
    version: str | None
    parts: Mapping[str, bytes]
    request_id: str

    @property
    def headers(self) -> dict[str, str]:
        """The id for the log of a front."""
        return {"x-request-id": self.request_id} if _HEADER_ID.fullmatch(self.request_id) else {}


class Client:
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
        return decode_reply(self._call(Request(model, version, parts, str(values["request_id"])), timeout_s))

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
        return self._call(Request(model, version, parts, request_id), timeout_s)

    def describe(self, model: str, *, version: str | None = None, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """What the model is, needs and gives: place, grids, units, library dates, limits (``Service.describe``)."""
        request_id = uuid.uuid4().hex
        parts = {"ask": b"description", "request_id": request_id.encode()}
        return json_object(self._call(Request(model, version, parts, request_id), timeout_s))

    def close(self) -> None:
        """Close what is open; a client in a ``with`` statement does it at the end."""
        raise NotImplementedError

    def _send(self, request: Request, deadline: Deadline) -> bytes:
        """One attempt."""
        raise NotImplementedError

    def _call(self, request: Request, timeout_s: float) -> bytes:
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


def decode_reply(body: bytes) -> dict[str, Any]:
    """Arrays and ``meta`` (a dict) from a reply in either format.

    Raises:
        InvalidInput: not a reply of ours.
    """
    arrays = (decode_geotiff_reply if is_geotiff(body) else decode_npz)(body, _REPLY_LIMITS)
    if "meta" not in arrays:
        raise InvalidInput(f"the reply holds {sorted(arrays)} and no meta: it is not from thermoscale")
    return {**arrays, "meta": json_of("meta", arrays["meta"])}


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON answer of a server.

    Raises:
        InvalidInput: it is none, or no object.
    """
    try:
        value = json.loads(body)
    except ValueError as error:
        raise InvalidInput(f"the answer of {len(body)} bytes is not JSON: it is not from thermoscale") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"the answer is a JSON {type(value).__name__}, needed an object")
    return value


def _labels(timeout_s: float) -> dict[str, str]:
    """What every request carries: an id for logs and errors, and the moment after which nobody waits for its answer."""
    return {"request_id": uuid.uuid4().hex, "expires": f"{time.time() + timeout_s:.3f}"}


def _require_sendable(parts: Mapping[str, bytes]) -> None:
    """Refuse here what a server would only break off: an empty 413 over REST, a reset stream over gRPC."""
    size, most = sum(map(len, parts.values())), Limits().max_body_bytes
    if size > most:
        raise InvalidInput(f"the request has {size} bytes, at most {most} are accepted: send a smaller scene")
