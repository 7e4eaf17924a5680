"""Requests that no client library would make: raw HTTP and raw gRPC."""

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from drills.access import Access
from thermoscale.client.grpc_messages import PREDICTIONS_METHOD, load_messages

_PAUSE_S = 0.02


def post_head(access: Access, model: str, length: int | str, *more: str) -> bytes:
    """The head of a POST with a body of ``length`` bytes."""
    lines = [f"POST /predictions/{model} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += [f"{name}: {text}" for name, text in access.credentials.items()]
    return "\r\n".join([*lines, "Content-Type: application/octet-stream", *more, "", ""]).encode()


def http_outcome(access: Access, request: bytes | Callable[[socket.socket], None]) -> str:
    """The status that a raw request gets, ``closed`` if the server hangs up, ``silent`` if it does neither."""
    with access.connection() as connection:
        try:
            if callable(request):
                request(connection)
            else:
                connection.sendall(request)
            answer = connection.recv(64)
        except TimeoutError:
            return "silent"
        except OSError:
            return "closed"
    return answer.split()[1].decode() if answer.startswith(b"HTTP/") else "closed"


def dribble(body: bytes, pieces: int) -> Callable[[socket.socket], None]:
    """Send a good request in ``pieces``, with a pause after each."""

    def send(connection: socket.socket) -> None:
        step = len(body) // pieces + 1
        for start in range(0, len(body), step):
            connection.sendall(body[start : start + step])
            time.sleep(_PAUSE_S)

    return send


def raw_predictions(channel: grpc.Channel) -> Any:
    """The gRPC method, of serialized requests."""
    return channel.unary_unary(PREDICTIONS_METHOD, request_serializer=bytes, response_deserializer=bytes)


def serialized(model: str, body: bytes) -> bytes:
    """A gRPC request as it goes over the wire."""
    return bytes(load_messages().request(model_name=model, input={"body": body}).SerializeToString())


def grpc_outcome(call: Any, request: bytes, metadata: Mapping[str, str]) -> str:
    """The name of the status that a raw call gets."""
    try:
        call(request, timeout=10.0, metadata=tuple(metadata.items()))
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
