"""A real nginx before a stand-in for TorchServe that answers at once and tells what reached it."""

import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from thermoscale.client.grpc_messages import PREDICTIONS_METHOD, load_messages
from thermoscale.errors import Unavailable
from thermoscale.server.front import Front
from thermoscale.server.front_setup import FrontLimits, Tls, find_nginx

KEY = "correct-horse"
SLOW_S = {"slow": 0.6, "stuck": 10.0}
WORKERS = {"amun": ["READY", "READY"], "iustfm": ["READY"]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without nginx and njs there is no front; with them, nothing here ever skips."""
    try:
        find_nginx()
    except Unavailable as missing:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(reason=str(missing)))


class StandIn(BaseHTTPRequestHandler):
    """Inference and management API in one; the model's name says how to behave."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """``echo``: the body; ``slow`` and ``stuck``: that, later; ``busy``: queue full; else what arrived, as JSON."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        model = self.path.split("/")[2].partition("?")[0]
        time.sleep(SLOW_S.get(model, 0))
        if model == "busy":
            self._answer(503, b'{"code": 503, "type": "ServiceUnavailableException", "message": "queue full"}')
        elif model == "echo" or model in SLOW_S:
            self._answer(200, body)
        else:
            seen = {"path": self.path, "headers": dict(self.headers), "body": body.decode("latin-1")}
            self._answer(200, json.dumps(seen).encode())

    def do_GET(self) -> None:
        """TorchServe's management API, of two models."""
        parts = self.path.split("/")[2:]
        if not parts:
            self._answer(200, json.dumps({"models": [{"modelName": name} for name in WORKERS]}).encode())
            return
        versions = ["0.1.0", "0.2.0"] if parts[1:] == ["all"] and parts[0] == "amun" else ["0.1.0"]
        workers = [{"status": status} for status in WORKERS[parts[0]]]
        self._answer(200, json.dumps([{"modelVersion": version, "workers": workers} for version in versions]).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-request-id", "torchserve's own")
        self.end_headers()
        self.wfile.write(body)


def predict_over_grpc(request: bytes, context: Any) -> bytes:
    """The same over gRPC."""
    messages = load_messages()
    got = messages.request.FromString(request)
    time.sleep(SLOW_S.get(got.model_name, 0))
    if got.model_name == "busy":
        context.abort(grpc.StatusCode.INTERNAL, "queue full")
    if got.model_name == "metadata":
        seen = json.dumps({name: str(value) for name, value in context.invocation_metadata()})
        return bytes(messages.response(prediction=seen.encode()).SerializeToString())
    return bytes(messages.response(prediction=got.input["body"]).SerializeToString())


@dataclass(frozen=True)
class StandIns:
    """host:port of each wire."""

    rest: str
    grpc: str
    management: str


class Listener(ThreadingHTTPServer):
    """Many clients at once."""

    request_queue_size = 256


@pytest.fixture(scope="session")
def behind() -> Iterator[StandIns]:
    """What is behind the front."""
    rest = Listener(("127.0.0.1", 0), StandIn)
    threading.Thread(target=rest.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    pool = ThreadPoolExecutor(32)
    server = grpc.server(pool, options=[("grpc.max_receive_message_length", -1)])
    service, method = PREDICTIONS_METHOD.strip("/").split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(predict_over_grpc)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield StandIns(f"127.0.0.1:{rest.server_port}", f"127.0.0.1:{grpc_port}", f"127.0.0.1:{rest.server_port}")
    server.stop(0).wait()
    pool.shutdown()
    rest.shutdown()
    rest.server_close()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate for localhost that is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    files = Tls(folder / "cert.pem", folder / "key.pem")
    made = ["-keyout", str(files.key), "-out", str(files.certificate)]
    subprocess.run(["openssl", "req", *kind, *names, *made], check=True, capture_output=True, timeout=30)
    return files


def line_of(key: str, name: str) -> str:
    """A line of the keys file."""
    return f"{hashlib.sha256(key.encode()).hexdigest()}  {name}\n"


@pytest.fixture
def keys() -> Iterator[Path]:
    """A keys file of the test's own, in a folder that nginx's workers may enter, whoever they are."""
    with keys_file() as path:
        yield path


@contextmanager
def keys_file() -> Iterator[Path]:
    """A keys file with two keys."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "keys")
        path.write_text(f"# keys of the tests\n{line_of(KEY, 'tests')}\n{line_of('another', 'other')}")
        path.chmod(0o644)
        yield path


@pytest.fixture(scope="session")
def key_line() -> Callable[[str, str], str]:
    """Makes a line of a keys file."""
    return line_of


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)


@dataclass(frozen=True)
class Public:
    """A client of a front."""

    front: Front
    tls: Tls | None

    def ask(self, method: str, path: str, body: Any = None, *, key: str | None = KEY, **headers: str) -> Answer:
        """One HTTP/1.1 request; underscores in names of headers become hyphens."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            named = {name.title(): text for name, text in response.getheaders()}
            return Answer(response.status, named, response.read())

    def connection(self) -> http.client.HTTPConnection:
        """One to ask on oneself."""
        if self.tls is None:
            return http.client.HTTPConnection(self.host, timeout=20)
        trusted = ssl.create_default_context(cafile=str(self.tls.certificate))
        return http.client.HTTPSConnection(self.host, timeout=20, context=trusted)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A gRPC channel without limits of its own."""
        assert self.tls is not None
        credentials = grpc.ssl_channel_credentials(self.tls.certificate.read_bytes())
        sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        with grpc.secure_channel(self.host, credentials, options=sizes) as channel:
            yield channel

    @property
    def host(self) -> str:
        """host:port."""
        return self.front.url.split("//")[1]

    @staticmethod
    def call(
        channel: grpc.Channel, model: str, body: bytes = b"x", *, key: str | None = KEY,
        method: str = PREDICTIONS_METHOD, **metadata: str,
    ) -> tuple[bytes, dict[str, Any]]:  # fmt: skip
        """One prediction over gRPC: reply and the metadata before it; raises ``grpc.RpcError``."""
        messages = load_messages()
        stub = channel.unary_unary(
            method,
            request_serializer=messages.request.SerializeToString,
            response_deserializer=messages.response.FromString,
        )
        sent = [("authorization", f"Bearer {key}")] if key is not None else []
        sent += [(name.replace("_", "-"), text) for name, text in metadata.items()]
        reply, done = stub.with_call(
            messages.request(model_name=model, input={"body": body}), metadata=sent, timeout=20
        )
        return bytes(reply.prediction), dict(done.initial_metadata())


@pytest.fixture(scope="session")
def start_front(behind: StandIns, tls: Tls) -> Callable[..., Any]:
    """Starts a front on a free loopback port: a context manager that gives its client."""

    @contextmanager
    def start(keys: Path, *, secure: bool = True, **settings: Any) -> Iterator[Public]:
        used = tls if secure else None
        with Front(tls=used, keys=keys, host="127.0.0.1", port=free_port(), **{**vars(behind), **settings}) as front:
            yield Public(front, used)

    return start


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the front of the session logs."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def public(start_front: Callable[..., Any], logs: Path) -> Iterator[Public]:
    """Client of one front for the session, with limits that no test of it reaches by accident."""
    limits = FrontLimits(rate_per_s=10_000, burst=10_000, open_requests=1000, header_timeout_s=1, body_timeout_s=1)
    with keys_file() as path, start_front(path, log_folder=logs, limits=limits, drain_s=5) as client:
        yield client
