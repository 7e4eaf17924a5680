"""Which error an answer of a server becomes: those of our handlers, of TorchServe itself and of nginx before it."""

import json
import re
from collections.abc import Mapping

from thermoscale.client.access import UNTRUSTED
from thermoscale.errors import InvalidInput, ThermoscaleError, Unavailable, Undetermined

QUEUE_FULL_S = 1.0
"""Wait for a place in TorchServe's full queue, where no front says how long."""

WORKER_DIED_S = 0.5
"""Wait for another worker; TorchServe starts a new one within about 2 s."""

_INVALID_HTTP = (400, 401, 403, 404, 405, 411, 413, 414, 415, 431)
_INVALID_GRPC = ("INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")
_KEY_HTTP, _KEY_GRPC = (401, 403), ("UNAUTHENTICATED", "PERMISSION_DENIED")
_KEY = "; clients take the key as key=, --key-file or THERMOSCALE_KEY"
_EXPLAINED = {
    413: ": the request is too large for this server: send a smaller scene",
    429: ": too many requests",
    "RESOURCE_EXHAUSTED": ": too many requests",
    "CANCELLED": ": the server broke off; it does so with a request over its size limit",
}

# TorchServe's own texts, the same on both wires (docs/errors.md).
_UNKNOWN = ("Model not found: ", "Model version: ", "Parameter model_name")
_NO_PLACE = re.compile(r'Model "[^"]*" has no worker to serve')
_WORKER_DIED = "Worker died."
_EXPIRED = "the request expired"
_TOO_LARGE_HERE = re.compile(r"(?:Received|Sent) message larger than max \((\d+) vs\. (\d+)\)")


def error_of_http(status: int, headers: Mapping[str, str], body: bytes) -> ThermoscaleError:
    """The error of an HTTP answer that is not 200.

    Args:
        headers: names in lower case.
    """
    message = _message_of(body) or f"HTTP status {status}{_EXPLAINED.get(status, '')}"
    if status == 422:
        return Undetermined(message)
    if status in _INVALID_HTTP:
        return InvalidInput(message + _KEY if status in _KEY_HTTP else message)
    return _unavailable(message, headers)


def error_of_grpc(code: str, details: str, metadata: Mapping[str, str]) -> ThermoscaleError:
    """The error of a gRPC status that is not OK.

    TorchServe appends a line with the name of a Java class, and answers whatever it refuses itself with INTERNAL.

    Args:
        code: name of the status code.
        metadata: leading and trailing.
    """
    message, by_torchserve, _ = details.partition("\n")
    too_large = _TOO_LARGE_HERE.search(message)
    if too_large:
        return InvalidInput(
            f"the reply has {too_large[1]} bytes, at most {too_large[2]} are accepted: ask for a window"
        )
    message = message or f"gRPC status {code}{_EXPLAINED.get(code, '')}"
    if code == "FAILED_PRECONDITION":
        return Undetermined(message)
    if code in _INVALID_GRPC or (code == "INTERNAL" and message.startswith(_UNKNOWN)):
        return InvalidInput(message + _KEY if code in _KEY_GRPC else message)
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return Unavailable(UNTRUSTED.format(message))
    error = _unavailable(message, metadata)
    if code == "UNAVAILABLE" and not by_torchserve and error.retry_after_s is None:  # grpcio's own: no connection
        error.retry_after_s, error.may_have_begun = 0.0, "failed to connect" not in message
    return error


def _message_of(body: bytes) -> str:
    """The server's own words where there are some: TorchServe and our front wrap them in JSON."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _unavailable(message: str, headers: Mapping[str, str]) -> Unavailable:
    """With the wait that the server asks for, or that its words suggest."""
    if message.startswith(_EXPIRED):  # and yet we still wait
        return Unavailable(f"{message}; if that was early, the clocks of this machine and of the server differ")
    error = Unavailable(message)
    asked = headers.get("retry-after", "")
    if asked.isdecimal():
        error.retry_after_s = float(asked)
    elif _NO_PLACE.match(message):
        error.retry_after_s = QUEUE_FULL_S
    elif message == _WORKER_DIED:
        error.retry_after_s, error.may_have_begun = WORKER_DIED_S, True
    return error
