"""What both clients send, what they return, and which error each answer becomes."""

import io
import json
import re
import socket
import time
import zipfile
from email import message_from_bytes
from email.policy import HTTP
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.client import GrpcClient, RestClient, decode_reply
from thermoscale.client.grpc_messages import PACKAGE, load_messages
from thermoscale.client.http import encode_multipart
from thermoscale.errors import InvalidInput, ThermoscaleError, Unavailable, Undetermined
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import encode_npz

BODY = {"coarse": np.ones((1, 1), np.float32)}
JAVA = "org.pytorch.serve.http.InternalServerException"
FULL = 'Model "amun" has no worker to serve inference request. Please use scale workers API'


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.binary(max_size=200), min_size=1, max_size=4))
def test_a_multipart_body_read_by_another_parser_gives_the_parts(parts: dict[str, bytes]) -> None:
    body, content_type = encode_multipart(parts)
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


def test_rest_sends_one_body_with_an_id_and_the_end_of_its_time(http: Any) -> None:
    with RestClient(http.url + "/prefix/") as client:
        got = client.predict("amun", BODY, version="1.0.0", timeout_s=30, reply="geotiff")
    (seen,) = http.seen
    assert (seen.method, seen.path) == ("POST", "/prefix/predictions/amun/1.0.0")
    assert seen.headers["content-type"] == "application/octet-stream"
    sent = np.load(io.BytesIO(seen.body))
    assert set(sent) == {"coarse", "reply", "request_id", "expires"}
    assert str(sent["request_id"]) == seen.headers["x-request-id"]
    assert float(str(sent["expires"])) == pytest.approx(time.time() + 30, abs=5)
    np.testing.assert_array_equal(got["lst"], np.full((2, 3), 290.0))
    assert got["meta"]["unit"] == "K"


def test_rest_sends_several_parts_as_a_form_and_a_lone_body_as_it_is(http: Any) -> None:
    with RestClient(http.url) as client:
        client.predict_bytes("iustfm", {"coarse": b"II*", "time": b"2020-01-01", "request_id": b"mine"})
        client.predict_bytes("iustfm", {"body": b"PK"})
    form, lone = http.seen
    assert form.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="time"; filename="time"\r\n' in form.body
    assert b'name="expires"' in form.body
    assert form.headers["x-request-id"] == "mine"
    assert (lone.body, lone.headers["content-type"]) == (b"PK", "application/octet-stream")


def test_grpc_sends_every_part_in_the_map(grpc_server: Any) -> None:
    with GrpcClient(grpc_server.address) as client:
        got = client.predict("amun", BODY, version="1.0.0")
        client.predict_bytes("amun", {"coarse": b"II*", "reply": b"npz"})
    first, second = grpc_server.seen
    assert (first.model_name, first.model_version, set(first.input)) == ("amun", "1.0.0", {"body"})
    assert set(second.input) == {"coarse", "reply", "request_id", "expires"}
    assert grpc_server.metadata[1]["x-request-id"] == second.input["request_id"].decode()
    assert got["meta"]["unit"] == "K"


@pytest.mark.parametrize("request_id", ["ä", 'a"b', "with space", "x" * 129])
def test_an_id_that_is_no_header_travels_in_the_body_only(http: Any, request_id: str) -> None:
    with RestClient(http.url) as client:
        client.predict("amun", {**BODY, "request_id": request_id})
    assert "x-request-id" not in http.seen[0].headers
    assert str(np.load(io.BytesIO(http.seen[0].body))["request_id"]) == request_id


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_a_description_is_asked_for_alone_and_comes_back_as_a_dict(http: Any, grpc_server: Any, wire: str) -> None:
    http.answers[0].body = grpc_server.prediction = b'{"model": "amun"}'
    with RestClient(http.url) if wire == "rest" else GrpcClient(grpc_server.address) as client:
        assert client.describe("amun", version="1.0.0") == {"model": "amun"}
    if wire == "rest":
        assert http.seen[0].path == "/predictions/amun/1.0.0"
        assert set(re.findall(rb' name="(\w+)"', http.seen[0].body)) == {b"ask", b"request_id"}
    else:
        assert set(grpc_server.seen[0].input) == {"ask", "request_id"}


def test_models_are_those_that_the_front_lists(http: Any) -> None:
    http.answers[0].body = b'{"models": [{"name": "amun", "versions": []}]}'
    with RestClient(http.url) as client:
        assert client.models() == [{"name": "amun", "versions": []}]
    assert (http.seen[0].method, http.seen[0].path) == ("GET", "/v1/models")


HTTP_ROWS = [
    *((status, InvalidInput) for status in (400, 401, 403, 404, 405, 411, 413, 414, 415, 431)),
    (422, Undetermined),
    *((status, Unavailable) for status in (408, 429, 500, 502, 503, 504, 507)),
]


@pytest.mark.parametrize(("status", "kind"), HTTP_ROWS)
def test_each_http_status_becomes_its_error_with_the_id_of_its_request(
    http: Any, status: int, kind: type[ThermoscaleError]
) -> None:
    http.answers[0].status = status
    http.answers[0].body = json.dumps({"code": status, "message": "coarse is empty"}).encode()
    with RestClient(http.url) as client, pytest.raises(kind, match=r"^coarse is empty") as caught:
        client.predict("amun", BODY)
    assert caught.value.request_id == http.seen[0].headers["x-request-id"]
    assert len(http.seen) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(413, "413: the request is too large"), (429, "429: too many"), (401, "401; .*--key-file"), (502, "status 502$")],
)
def test_an_answer_without_words_is_explained(http: Any, status: int, words: str) -> None:
    http.answers[0].status, http.answers[0].body = status, b"<html>"
    with RestClient(http.url) as client, pytest.raises(ThermoscaleError, match=words):
        client.predict("amun", BODY)


GRPC_ROWS = [
    ("INVALID_ARGUMENT", f"coarse is empty\n{JAVA}", InvalidInput),
    ("NOT_FOUND", "no such thing", InvalidInput),
    ("UNIMPLEMENTED", "no such address", InvalidInput),
    ("FAILED_PRECONDITION", f"no triple\n{JAVA}", Undetermined),
    ("UNAVAILABLE", f"try later\n{JAVA}", Unavailable),
    ("RESOURCE_EXHAUSTED", "more requests than this client may send", Unavailable),
    ("INTERNAL", f"internal error 5f0c2a9be1d44c17; the trace is in the log\n{JAVA}", Unavailable),
    ("INTERNAL", "Model not found: x\norg.pytorch.serve.archive.model.ModelNotFoundException", InvalidInput),
    ("INTERNAL", "Model version: 9 does not exist for model: x\norg.pytorch.serve.x.Y", InvalidInput),
    ("INTERNAL", "Parameter model_name is required.\nBadRequestException.()", InvalidInput),
    ("DEADLINE_EXCEEDED", "no answer after 130 s", Unavailable),
    ("UNKNOWN", "", Unavailable),
]


@pytest.mark.parametrize(("code", "details", "kind"), GRPC_ROWS)
def test_each_grpc_status_becomes_its_error_with_the_id_of_its_request(
    grpc_server: Any, code: str, details: str, kind: type[ThermoscaleError]
) -> None:
    grpc_server.answers = [(code, details, ())]
    with GrpcClient(grpc_server.address) as client, pytest.raises(ThermoscaleError) as caught:
        client.predict("amun", BODY)
    assert type(caught.value) is kind
    assert str(caught.value) == (details.partition("\n")[0] or f"gRPC status {code}")
    assert caught.value.request_id == grpc_server.metadata[0]["x-request-id"]
    assert len(grpc_server.seen) == 1


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_a_missing_key_says_how_to_give_one(grpc_server: Any, code: str) -> None:
    grpc_server.answers = [(code, "no valid key", ())]
    with GrpcClient(grpc_server.address) as client, pytest.raises(InvalidInput, match=r"no valid key; .*--key-file"):
        client.predict("amun", BODY)


def test_work_that_the_server_calls_late_while_we_wait_hints_at_the_clocks(http: Any) -> None:
    http.answers[0].status = 503
    http.answers[0].headers = (("retry-after", "1"),)
    http.answers[0].body = b'{"message": "the request expired 9.0 s ago: nothing was computed"}'
    with RestClient(http.url) as client, pytest.raises(Unavailable, match="the clocks of this machine"):
        client.predict("amun", BODY)
    assert len(http.seen) == 1


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_a_reply_over_the_limit_is_refused(http: Any, grpc_server: Any, wire: str) -> None:
    grpc_server.prediction = bytes(5000)
    http.answers[0].body = bytes(5000)
    client = (
        RestClient(http.url, max_reply_bytes=1000)
        if wire == "rest"
        else GrpcClient(grpc_server.address, max_reply_bytes=1000)
    )
    with client, pytest.raises(InvalidInput, match=r"at most|more than 1000 bytes"):
        client.predict("amun", BODY)


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_a_request_that_no_server_takes_is_not_sent(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thermoscale.client.base.Limits", lambda: Limits(max_body_bytes=300))
    with (
        RestClient("http://127.0.0.1:9") if wire == "rest" else GrpcClient("127.0.0.1:9") as client,
        pytest.raises(InvalidInput, match="bytes, at most 300"),
    ):
        client.predict_bytes("amun", {"coarse": bytes(151), "factors": bytes(151)})


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_a_server_that_never_answers_is_unavailable_in_time(wire: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with (
            RestClient(f"http://{address}") if wire == "rest" else GrpcClient(address) as client,
            pytest.raises(Unavailable, match=r"within 0\.2 s|failed to connect|Deadline"),
        ):
            client.predict("amun", BODY, timeout_s=0.2)
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_no_server_is_unavailable_and_named(wire: str) -> None:
    port = closed_port()
    with (
        RestClient(f"http://127.0.0.1:{port}", retries=1)
        if wire == "rest"
        else GrpcClient(f"127.0.0.1:{port}", retries=1) as client,
        pytest.raises(Unavailable, match=f"127.0.0.1:{port}"),
    ):
        client.predict("amun", BODY)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http:/x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(repr(url))):
        RestClient(url)


@pytest.mark.parametrize("address", ["", "ftp://127.0.0.1:1", "127.0.0.1:7070/path", "http://"])
def test_a_grpc_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(repr(address))):
        GrpcClient(address)


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>", encode_npz({"lst": np.zeros((1, 1))})])
def test_a_reply_that_is_not_ours_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_reply(body)


@pytest.mark.parametrize(("body", "words"), [(b"PK", "not JSON"), (b"[1]", "JSON list")])
def test_a_description_that_is_none_is_refused(http: Any, body: bytes, words: str) -> None:
    http.answers[0].body = body
    with RestClient(http.url) as client, pytest.raises(InvalidInput, match=words):
        client.describe("amun")
