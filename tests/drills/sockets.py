"""Requests that no client library would make: raw HTTP and raw gRPC."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc

from thermoscale.grpc_messages import PREDICTIONS_METHOD, load_messages

SLOW_BYTE_S = 0.02


@contextlib.contextmanager
def connected(url: str, timeout_s: float = 10.0) -> Iterator[socket.socket]:
    """A TCP connection to the host of ``url``."""
    split = urlsplit(url)
    with socket.create_connection((split.hostname, split.port), timeout=timeout_s) as connection:
        yield connection


def post_head(model: str, length: int | str, *more: str) -> bytes:
    """The head of a POST with a body of ``length`` bytes."""
    lines = [f"POST /predictions/{model} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "Content-Type: application/octet-stream", *more, "", ""]).encode()


def http_outcome(url: str, request: bytes | Callable[[socket.socket], None]) -> str:
    """The status that a raw request gets, ``closed`` if the server hangs up, ``silent`` if it does neither."""
    with connected(url) as connection:
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
            time.sleep(SLOW_BYTE_S)

    return send


@contextlib.contextmanager
def raw_predictions(address: str) -> Iterator[Callable[..., Any]]:
    """The gRPC method as a callable of serialized requests, with ``future`` for calls that can be cancelled."""
    with grpc.insecure_channel(address) as channel:
        yield channel.unary_unary(PREDICTIONS_METHOD, request_serializer=bytes, response_deserializer=bytes)


def serialized(model: str, body: bytes) -> bytes:
    """A gRPC request as it goes over the wire."""
    return bytes(load_messages().request(model_name=model, input={"body": body}).SerializeToString())


def grpc_outcome(call: Callable[..., Any], request: bytes, **options: Any) -> str:
    """The name of the status that a raw call gets."""
    try:
        call(request, timeout=10.0, **options)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
