"""REST on the public port: what reaches TorchServe, what is refused and in which words."""

import json
import re
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from thermoscale.server.front_setup import MAX_REQUEST_BYTES


def test_a_body_of_any_size_goes_there_and_back_unchanged(public: Any) -> None:
    for size in (0, 1, 16_000, 3_000_001):
        body = bytes(range(251)) * (size // 251) + b"\xff" * (size % 251)
        assert public.ask("POST", "/predictions/echo", body).body == body


def test_path_query_and_content_type_reach_the_server_and_the_key_does_not(public: Any) -> None:
    seen = public.ask("POST", "/predictions/headers/1.0.0?reply=npz", b"body", Content_Type="image/tiff").json
    assert seen["path"] == "/predictions/headers/1.0.0?reply=npz"
    assert seen["headers"]["Content-Type"] == "image/tiff"
    assert seen["body"] == "body"
    assert "correct-horse" not in json.dumps(seen)


@pytest.mark.parametrize("sent", ["application/x-www-form-urlencoded", "APPLICATION/X-WWW-FORM-URLENCODED; charset=x"])
def test_the_content_type_of_curl_becomes_one_whose_body_arrives(public: Any, sent: str) -> None:
    seen = public.ask("POST", "/predictions/headers", b"a=b&c", Content_Type=sent).json
    assert seen["headers"]["Content-Type"] == "application/octet-stream"
    assert seen["body"] == "a=b&c"


def test_a_line_of_curl_over_either_http_works(public: Any, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04" * 500_000)
    line = ["curl", "-sSf", "--cacert", str(public.tls.certificate), "-H", "Authorization: Bearer correct-horse"]
    for version in ("--http1.1", "--http2"):
        files = ["--data-binary", f"@{tmp_path}/x.npz", "-o", str(tmp_path / "reply"), "-w", "%{http_version}"]
        done = subprocess.run(
            [*line, version, *files, f"{public.front.url}/predictions/echo"], capture_output=True, text=True, timeout=20
        )
        assert done.stdout == version.removeprefix("--http").removesuffix(".0"), done.stderr
        assert (tmp_path / "reply").read_bytes() == (tmp_path / "x.npz").read_bytes()


def test_a_request_id_is_passed_on_and_returned_or_made(public: Any) -> None:
    got = public.ask("POST", "/predictions/headers", b"", X_Request_Id="tile-7")
    assert got.headers["X-Request-Id"] == "tile-7"
    assert got.json["headers"]["X-Thermoscale-Request-Id"] == "tile-7"
    made = [public.ask("POST", "/predictions/echo", b"").headers["X-Request-Id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in made)
    assert made[0] != made[1]
    odd = public.ask("POST", "/predictions/echo", b"", X_Request_Id='a"b')
    assert re.fullmatch("[0-9a-f]{32}", odd.headers["X-Request-Id"])


@pytest.mark.parametrize("key", [None, "", "wrong", "correct-hors", "correct-horse2", "correct-horse x"])
@pytest.mark.parametrize("path", ["/predictions/echo", "/v1/models", "/v1/models/amun"])
def test_without_a_valid_key_nothing_is_answered(public: Any, key: str | None, path: str) -> None:
    method = "POST" if "predictions" in path else "GET"
    got = public.ask(method, path, b"" if method == "POST" else None, key=key)
    assert got.status == 401
    assert got.headers["Www-Authenticate"].startswith("Bearer")
    assert got.json["message"] == "no valid key, needed the header Authorization: Bearer KEY"
    assert got.headers["X-Request-Id"]


def test_the_scheme_of_the_key_may_be_spelled_in_any_case(public: Any) -> None:
    assert public.ask("POST", "/predictions/echo", b"x", key=None, Authorization="bearer correct-horse").status == 200
    assert public.ask("POST", "/predictions/echo", b"x", key=None, Authorization="Basic correct-horse").status == 401


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_no_other_address_reaches_the_server(public: Any, method: str) -> None:
    for path in (
        "/", "/models", "/models/amun", "/_models", "/_models/amun", "/_auth", "/ping", "/metrics", "/api-description",
        "/predictions", "/predictions/a/b/c", "/predictions/..%2fmodels", "/predictions/../models", "/v1/models/..",
        "/explanations/amun", "/v2/models", "/wfpredict/x", "//models", "/predictions/%2e%2e/models/amun",
    ):  # fmt: skip
        got = public.ask(method, path)
        assert (path, got.status, got.json["code"]) == (path, 404, 404)


@pytest.mark.parametrize(("method", "path"), [("GET", "/predictions/echo"), ("DELETE", "/v1/models")])
def test_another_method_is_refused(public: Any, method: str, path: str) -> None:
    assert public.ask(method, path).json["type"] == "MethodNotAllowed"


def test_a_request_over_the_limit_is_refused_in_words_whether_announced_or_not(public: Any) -> None:
    announced = public.ask("POST", "/predictions/echo", None, Content_Length=str(MAX_REQUEST_BYTES + 1))
    pieces = (bytes(2**20) for _ in range(MAX_REQUEST_BYTES // 2**20 + 1))
    chunked = public.ask("POST", "/predictions/echo", pieces)
    for got in (announced, chunked):
        assert got.status == got.json["code"] == 413
        assert f"larger than {MAX_REQUEST_BYTES} bytes" in got.json["message"]


def test_a_full_queue_is_passed_through_with_the_time_to_wait(public: Any) -> None:
    got = public.ask("POST", "/predictions/busy", b"")
    assert got.status == 503
    assert got.json["message"] == "queue full"
    assert got.headers["Retry-After"] == "1"


def test_a_server_that_is_gone_is_a_503(start_front: Any, keys: Path) -> None:
    with start_front(keys, rest="127.0.0.1:1", management="127.0.0.1:1") as public:
        for method, path in (("POST", "/predictions/echo"), ("GET", "/v1/models"), ("GET", "/v1/models/amun")):
            got = public.ask(method, path)
            assert got.status == got.json["code"] == 503
            assert got.headers["Retry-After"] == "1"
            assert "does not answer; try again later" in got.json["message"]
        assert public.ask("GET", "/readyz").json == {"ready": False}
        assert public.ask("GET", "/healthz").json == {"live": True}


def test_headers_beyond_their_limit_are_refused(public: Any) -> None:
    got = public.ask("POST", "/predictions/echo", b"", X_Much="a" * 9000)
    assert got.status == got.json["code"] == 431
    assert public.ask("POST", "/predictions/echo?" + "a" * 9000, b"").json["code"] == 414


def raw(public: Any, data: bytes) -> tuple[bytes, float]:
    """All that comes back for ``data``, and the seconds until the end."""
    host, port = public.host.split(":")
    context = ssl.create_default_context(cafile=str(public.tls.certificate))
    start = time.monotonic()
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        tls.sendall(data)
        return b"".join(iter(lambda: tls.recv(65536), b"")), time.monotonic() - start


def test_what_is_not_http_is_refused(public: Any) -> None:
    assert b"not a valid HTTP request" in raw(public, b"\x00\x01\x02 nonsense\r\n\r\n")[0]


POST = b"POST /predictions/echo HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "data",
    [POST + b"X-Slow: ", POST + b"Authorization: Bearer correct-horse\r\nContent-Length: 9\r\n\r\nslow"],
    ids=["headers", "body"],
)
def test_a_sender_that_stalls_is_cut_off(public: Any, data: bytes) -> None:
    answer, seconds = raw(public, data)
    assert answer == b""
    assert 0.9 < seconds < 4


def test_plain_http_on_the_port_of_tls_says_so(public: Any) -> None:
    host, port = public.host.split(":")
    with socket.create_connection((host, int(port)), 10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"this port speaks TLS, needed https://" in b"".join(iter(lambda: plain.recv(65536), b""))


def test_old_tls_is_refused(public: Any) -> None:
    host, port = public.host.split(":")
    line = ["openssl", "s_client", "-connect", f"{host}:{port}", "-cipher", "DEFAULT@SECLEVEL=0"]
    refused, taken = (
        subprocess.run([*line, version], input="", capture_output=True, text=True, timeout=10).stdout
        for version in ("-tls1_1", "-tls1_2")
    )
    assert "Cipher is (NONE)" in refused
    assert "Cipher is ECDHE" in taken


def test_models_and_versions_are_listed(public: Any) -> None:
    one, two = {"ready": 1, "all": 1}, {"ready": 2, "all": 2}
    assert public.ask("GET", "/v1/models").json == {
        "models": [
            {"name": "amun", "versions": [
                {"version": "0.1.0", "default": True, "ready": True, "workers": two},
                {"version": "0.2.0", "default": False, "ready": True, "workers": two},
            ]},
            {"name": "iustfm", "versions": [{"version": "0.1.0", "default": True, "ready": True, "workers": one}]},
        ]
    }  # fmt: skip


@pytest.mark.parametrize("name", ["amun", "amun/0.1.0"])
def test_a_description_is_asked_of_the_model_itself(public: Any, name: str) -> None:
    seen = public.ask("GET", f"/v1/models/{name}").json
    assert seen["path"] == f"/predictions/{name}"
    assert seen["headers"]["Content-Type"] == "multipart/form-data; boundary=part"
    assert seen["body"] == '--part\r\nContent-Disposition: form-data; name="ask"\r\n\r\ndescription\r\n--part--\r\n'
    assert "correct-horse" not in json.dumps(seen)


def test_readiness_and_life_are_told_without_a_key(public: Any) -> None:
    assert public.ask("GET", "/readyz", key=None).json == {"ready": True}
    assert public.ask("GET", "/healthz", key=None).json == {"live": True}
