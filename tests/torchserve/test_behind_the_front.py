"""The real TorchServe behind the real front: the same answers, the errors of both."""

import hashlib
import http.client
import json
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from thermoscale import Service
from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.server.front import Front
from thermoscale.server.front_setup import Tls, find_nginx
from thermoscale.server.launcher import TorchServe
from thermoscale.server.setup import free_ports
from thermoscale.testing.bundles import tiny_amun_config, tiny_amun_request
from thermoscale.wire.npz import encode_npz

pytestmark = pytest.mark.server
KEY = "of-the-tests"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    made = Tls(folder / "cert.pem", folder / "key.pem")
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(["openssl", "req", *kind, *names, *files], check=True, capture_output=True, timeout=30)
    return made


@pytest.fixture(scope="module")
def front(server: TorchServe, tls: Tls) -> Iterator[Front]:
    try:
        find_nginx()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # nginx's workers are another user
        keys = Path(folder, "keys")
        keys.write_text(f"{hashlib.sha256(KEY.encode()).hexdigest()}  tests\n")
        addresses = {"rest": urlsplit(server.rest_url).netloc, "management": urlsplit(server.management_url).netloc}
        with Front(
            **addresses, grpc=server.grpc_address, keys=keys, tls=tls, host="127.0.0.1", port=free_ports().rest
        ) as running:
            yield running


@pytest.fixture(scope="module")
def public(front: Front, tls: Tls) -> Iterator[dict[str, RestClient | GrpcClient]]:
    """Wire -> client of the public port."""
    rest = RestClient(front.url, key=KEY, ca=tls.certificate)
    with GrpcClient(urlsplit(front.url).netloc, key=KEY, ca=tls.certificate) as grpc_client:
        yield {"rest": rest, "grpc": grpc_client}
    rest.close()


def get(front: Front, tls: Tls, path: str) -> tuple[int, Any]:
    """Status and JSON."""
    trusted = ssl.create_default_context(cafile=str(tls.certificate))
    connection = http.client.HTTPSConnection(urlsplit(front.url).netloc, timeout=20, context=trusted)
    connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
    with connection.getresponse() as response:
        answer = response.status, json.loads(response.read())
    connection.close()
    return answer


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_the_answer_is_that_of_the_bundle(
    public: Mapping[str, RestClient | GrpcClient], services: Mapping[str, Service], wire: str
) -> None:
    request = tiny_amun_request(tiny_amun_config())
    np.testing.assert_array_equal(
        public[wire].predict("amun", request)["lst"], services["amun"].predict(request)["lst"]
    )


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_words_of_the_server_pass(public: Mapping[str, RestClient | GrpcClient], wire: str) -> None:
    with pytest.raises(InvalidInput, match=r"not a complete \.npz"):
        public[wire].predict_bytes("amun", {"body": b"nonsense"})
    with pytest.raises(InvalidInput, match="Model not found: nosuch"):
        public[wire].predict_bytes("nosuch", {"body": b"x"})


def test_no_answer_is_lost_beside_errors_that_end_a_connection(public: Mapping[str, RestClient | GrpcClient]) -> None:
    """TorchServe resets a connection after an error; nginx keeps connections to it for all its clients."""
    body = encode_npz(tiny_amun_request(tiny_amun_config()))

    def one(number: int) -> str:
        try:
            public["rest"].predict_bytes("amun", {"body": b"nonsense" if number % 2 else body})
        except InvalidInput as error:
            return "refused" if "not a complete .npz" in str(error) else str(error)
        return "answered"

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(one, range(120)))
    assert got == ["answered", "refused"] * 60


def test_curl_without_a_content_type_is_answered(front: Front, tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "request.npz").write_bytes(encode_npz(tiny_amun_request(tiny_amun_config())))
    line = ["curl", "-sSf", "--cacert", str(tls.certificate), "-H", f"Authorization: Bearer {KEY}"]
    files = ["--data-binary", f"@{tmp_path}/request.npz", "-o", f"{tmp_path}/reply.npz"]
    subprocess.run([*line, *files, f"{front.url}/predictions/amun"], check=True, timeout=30)
    with np.load(tmp_path / "reply.npz") as reply:
        assert "lst" in reply


def test_models_and_descriptions_are_public(front: Front, tls: Tls) -> None:
    assert get(front, tls, "/readyz") == (200, {"ready": True})
    status, listed = get(front, tls, "/v1/models")
    assert status == 200
    assert {model["name"]: model["versions"][0]["version"] for model in listed["models"]} == {
        "amun": "0.0.1", "iustfm": "0.0.1",
    }  # fmt: skip
    for path in ("/v1/models/amun", "/v1/models/iustfm/0.0.1"):
        status, described = get(front, tls, path)
        assert status == 200
        assert (described["model"], described["version"]) == (path.split("/")[3], "0.0.1")
    assert get(front, tls, "/v1/models/nosuch")[0] == 404
