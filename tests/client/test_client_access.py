"""Keys and certificates on both wires."""

import ssl
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import InvalidInput, Unavailable

BODY = {"coarse": np.ones((1, 1), np.float32)}


@pytest.fixture
def https(http: Any, certificate: tuple[Path, Path]) -> Any:
    """The same server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    http.url = http.url.replace("http:", "https:")
    return http


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Any:
    """A client class and the address of a TLS server for it."""
    if request.param == "rest":
        return RestClient, request.getfixturevalue("https").url
    return GrpcClient, "https://" + request.getfixturevalue("grpc_tls_server").address


both = pytest.mark.parametrize("wire", ["rest", "grpc"], indirect=True)


@both
def test_a_server_of_the_given_authority_is_trusted(wire: Any, certificate: tuple[Path, Path]) -> None:
    client_class, address = wire
    with client_class(address, ca=certificate[0]) as client:
        for _ in range(2):
            assert client.predict("amun", BODY)["meta"]["unit"] == "K"


@both
def test_another_server_is_not(wire: Any) -> None:
    client_class, address = wire
    with client_class(address) as client, pytest.raises(Unavailable, match=r"certificate is not trusted.*--ca"):
        client.predict("amun", BODY)


def test_the_key_goes_as_bearer_on_both_wires(http: Any, grpc_server: Any) -> None:
    with RestClient(http.url, key="s3cret") as rest, GrpcClient(grpc_server.address, key="s3cret") as grpc_client:
        rest.predict("amun", BODY)
        grpc_client.predict("amun", BODY)
    assert http.seen[0].headers["authorization"] == "Bearer s3cret"
    assert grpc_server.metadata[0]["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("client_class", [RestClient, GrpcClient])
@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_unseen(client_class: Any, key: str) -> None:
    with pytest.raises(InvalidInput, match="the key is empty or holds") as caught:
        client_class("http://127.0.0.1:1", key=key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("client_class", [RestClient, GrpcClient])
@pytest.mark.parametrize("host", ["10.0.0.1", "example.org", "[2001:db8::1]"])
def test_a_key_never_travels_unencrypted(client_class: Any, host: str) -> None:
    with pytest.raises(InvalidInput, match="unencrypted"):
        client_class(f"http://{host}:80", key="s3cret")


def test_a_certificate_authority_is_a_file_for_https(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(InvalidInput, match="use https"):
        RestClient("http://127.0.0.1:1", ca=tmp_path / "no.pem")
    with pytest.raises(InvalidInput, match="no PEM"):
        RestClient("https://127.0.0.1:1", ca=tmp_path / "no.pem")
    for client_class in (RestClient, GrpcClient):
        with pytest.raises(InvalidInput, match="cannot read"):
            client_class("https://127.0.0.1:1", ca=tmp_path / "nowhere.pem")
