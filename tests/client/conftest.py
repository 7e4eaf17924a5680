"""Small servers of our own that answer what a test has set and keep what they were sent."""

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from thermoscale.client.grpc_messages import PREDICTIONS_METHOD, load_messages
from thermoscale.wire.npz import encode_npz

META = {"unit": "K", "bundle": "amun", "version": "1.0.0", "note": "clear-sky skin temperature, not air temperature"}
REPLY = encode_npz({"lst": np.full((2, 3), 290.0, np.float32), "meta": META})


@dataclass
class Answer:
    """One HTTP answer; ``length`` is what its header claims, ``close`` ends the connection after it."""

    status: int = 200
    body: bytes = REPLY
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = None
    close: bool = False


@dataclass
class Seen:
    """One request, and the client's port, which tells connections apart."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    port: int


class HttpServer(ThreadingHTTPServer):
    """Gives its ``answers`` in turn, the last of them for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [Answer()]
        self.seen: list[Seen] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *args: Any) -> None:
        """Be quiet: clients break off here on purpose."""

    def next_answer(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HttpServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, body, self.client_address[1]))
        answer = self.server.next_answer()
        self.send_response(answer.status)
        self.send_header("content-length", str(len(answer.body) if answer.length is None else answer.length))
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
        self.close_connection = answer.close or answer.length is not None

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *args: Any) -> None:
        """Be quiet."""


@pytest.fixture
def http() -> Iterator[HttpServer]:
    server = HttpServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def answer() -> type[Answer]:
    """For tests that make answers."""
    return Answer


class GrpcServer(grpc.GenericRpcHandler):
    """Gives its ``answers`` (code, details, trailing metadata) in turn, the last of them for ever."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.answers: list[tuple[str, str, tuple[tuple[str, str], ...]]] = [("OK", "", ())]
        self.prediction = REPLY
        self.address = ""

    def service(self, call: Any) -> Any:
        messages = load_messages()
        if call.method != PREDICTIONS_METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self.answer,
            request_deserializer=messages.request.FromString,
            response_serializer=messages.response.SerializeToString,
        )

    def answer(self, request: Any, context: Any) -> Any:
        self.seen.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        code, details, trailing = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        context.set_trailing_metadata(trailing)
        if code != "OK":
            context.abort(grpc.StatusCode[code], details)
        return load_messages().response(prediction=self.prediction)


def serve_grpc(credentials: Any = None) -> Iterator[GrpcServer]:
    """Run one until the generator is closed."""
    handler = GrpcServer()
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    handler.address = f"127.0.0.1:{port}"
    yield handler
    server.stop(None).wait()


@pytest.fixture
def grpc_server() -> Iterator[GrpcServer]:
    yield from serve_grpc()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine that is its own authority, and its private key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(["openssl", "req", *kind, *names, *made], check=True, capture_output=True, timeout=30)
    return files


@pytest.fixture
def grpc_tls_server(certificate: tuple[Path, Path]) -> Iterator[GrpcServer]:
    chain, key = (path.read_bytes() for path in certificate)
    yield from serve_grpc(grpc.ssl_server_credentials([(key, chain)]))
