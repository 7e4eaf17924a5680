"""The clients against small servers of our own: what goes over the wire, and which error each status becomes."""

import json
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermoscale.client import GrpcClient, RestClient, _encode_multipart, decode_reply
from thermoscale.errors import InvalidInput, ThermoscaleError, Unavailable, Undetermined
from thermoscale.grpc_messages import PACKAGE, PREDICTIONS_METHOD, load_messages
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import encode_npz

REPLY = encode_npz({"lst": np.full((2, 3), 290.0, np.float32), "meta": {"unit": "K"}})


class CannedHandler(BaseHTTPRequestHandler):
    """Answers every request with what the test has set, and keeps the request."""

    status: ClassVar[int] = 200
    reply: ClassVar[bytes] = REPLY
    seen: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Content-Type"], body))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.reply)))
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, *args: Any) -> None:
        """Be quiet."""


@pytest.fixture
def http() -> Iterator[tuple[str, type[CannedHandler]]]:
    handler = type("Handler", (CannedHandler,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


class Echo(grpc.GenericRpcHandler):
    """Answers with what the test has set, and keeps the requests."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.code, self.details = grpc.StatusCode.OK, ""

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
        if self.code is not grpc.StatusCode.OK:
            context.abort(self.code, self.details)
        return load_messages().response(prediction=REPLY)


@pytest.fixture
def grpc_server() -> Iterator[tuple[str, Echo]]:
    echo = Echo()
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", echo
    server.stop(None).wait()


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.binary(max_size=200), min_size=1, max_size=4))
def test_a_multipart_body_read_by_another_parser_gives_the_parts(parts: dict[str, bytes]) -> None:
    body, content_type = _encode_multipart(parts)
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=HTTP)
    raw = dict(zip(parts, body.split(b"--" + content_type.split("=")[1].encode())[1:-1], strict=True))
    assert [part.get_param("name", header="content-disposition") for part in message.iter_parts()] == list(parts)
    assert {name: chunk.partition(b"\r\n\r\n")[2][:-2] for name, chunk in raw.items()} == parts


def test_our_messages_have_the_fields_of_torchserves_own_description() -> None:
    package = find_spec("ts")
    assert package is not None
    assert package.origin is not None
    with zipfile.ZipFile(Path(package.origin).parent / "frontend" / "model-server.jar") as jar:
        proto = jar.read("inference.proto").decode()
    assert f"package {PACKAGE};" in proto
    for name, message in (
        ("PredictionsRequest", load_messages().request),
        ("PredictionResponse", load_messages().response),
    ):
        text = proto[proto.index(f"message {name}") :].partition("\n}")[0]
        numbers = {field: int(number) for field, number in re.findall(r"(\w+) = (\d+);", text)}
        ours = {field.name: field.number for field in message.DESCRIPTOR.fields}
        assert ours.items() <= numbers.items()
    assert "rpc Predictions(PredictionsRequest) returns (PredictionResponse)" in proto


def test_rest_sends_one_part_as_the_body(http: tuple[str, type[CannedHandler]]) -> None:
    url, handler = http
    got = RestClient(url + "/prefix/").predict("amun", {"coarse": np.ones((1, 1), np.float32)}, version="1.0.0")
    path, content_type, body = handler.seen[0]
    assert (path, content_type) == ("/prefix/predictions/amun/1.0.0", "application/octet-stream")
    assert body[:2] == b"PK"
    np.testing.assert_array_equal(got["lst"], np.full((2, 3), 290.0))
    assert got["meta"] == {"unit": "K"}


def test_rest_sends_several_parts_as_a_form(http: tuple[str, type[CannedHandler]]) -> None:
    url, handler = http
    RestClient(url).predict_bytes("iustfm", {"coarse": b"II*", "time": b"2020-01-01"})
    _, content_type, body = handler.seen[0]
    assert content_type.startswith("multipart/form-data; boundary=")
    assert b'name="time"; filename="time"\r\n' in body


def test_grpc_sends_every_part_in_the_map(grpc_server: tuple[str, Echo]) -> None:
    address, echo = grpc_server
    with GrpcClient(address) as client:
        got = client.predict("amun", {"coarse": np.ones((1, 1), np.float32)}, version="1.0.0", reply="geotiff")
    assert (echo.seen[0].model_name, echo.seen[0].model_version) == ("amun", "1.0.0")
    assert set(echo.seen[0].input) == {"body", "reply"}
    assert got["meta"] == {"unit": "K"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, InvalidInput) for status in (400, 404, 413)),
        (422, Undetermined),
        *((status, Unavailable) for status in (429, 500, 503, 507)),
    ],
)
def test_each_http_status_becomes_its_error(
    http: tuple[str, type[CannedHandler]], status: int, kind: type[ThermoscaleError]
) -> None:
    url, handler = http
    handler.status, handler.reply = status, json.dumps({"code": status, "message": "coarse is empty"}).encode()
    with pytest.raises(kind, match="coarse is empty"):
        RestClient(url).predict("amun", {})


def test_an_empty_413_is_explained(http: tuple[str, type[CannedHandler]]) -> None:
    url, handler = http
    handler.status, handler.reply = 413, b""
    with pytest.raises(InvalidInput, match=r"413.*too large"):
        RestClient(url).predict("amun", {})


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("INVALID_ARGUMENT", "coarse is empty\norg.pytorch.serve.http.InternalServerException", InvalidInput),
        ("FAILED_PRECONDITION", "no triple\norg.pytorch.serve.http.InternalServerException", Undetermined),
        ("UNAVAILABLE", "try later\norg.pytorch.serve.http.InternalServerException", Unavailable),
        ("INTERNAL", "trace is in the log\norg.pytorch.serve.http.InternalServerException", Unavailable),
        ("INTERNAL", "Model not found: x\norg.pytorch.serve.archive.model.ModelNotFoundException", InvalidInput),
        ("UNKNOWN", "", Unavailable),
    ],
)
def test_each_grpc_status_becomes_its_error(
    grpc_server: tuple[str, Echo], code: str, details: str, kind: type[ThermoscaleError]
) -> None:
    address, echo = grpc_server
    echo.code, echo.details = grpc.StatusCode[code], details
    with GrpcClient(address) as client, pytest.raises(ThermoscaleError) as caught:
        client.predict("amun", {})
    assert type(caught.value) is kind
    assert str(caught.value) == (details.partition("\n")[0] or f"gRPC status {code}")


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_a_server_that_never_answers_is_unavailable_in_time(wire: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        client = RestClient(f"http://{address}") if wire == "rest" else GrpcClient(address)
        with pytest.raises(Unavailable):
            client.predict("amun", {}, timeout_s=0.2)
        if isinstance(client, GrpcClient):
            client.close()


def test_no_server_is_unavailable_and_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        RestClient(f"http://127.0.0.1:{port}").predict("amun", {})


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http:/x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(repr(url))):
        RestClient(url)


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_a_request_that_no_server_takes_is_not_sent(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thermoscale.client.Limits", lambda: Limits(max_body_bytes=100))
    client = RestClient("http://127.0.0.1:9") if wire == "rest" else GrpcClient("127.0.0.1:9")
    with pytest.raises(InvalidInput, match="102 bytes, at most 100"):
        client.predict_bytes("amun", {"coarse": bytes(51), "factors": bytes(51)})
    if isinstance(client, GrpcClient):
        client.close()


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>", encode_npz({"lst": np.zeros((1, 1))})])
def test_a_reply_that_is_not_ours_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_reply(body)
