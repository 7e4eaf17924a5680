"""``predict`` and ``inspect`` with a server: what their options become on the wire."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thermoscale.cli import main
from thermoscale.wire.npz import encode_npz

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    path = tmp_path / "request.npz"
    path.write_bytes(encode_npz({"coarse": np.ones((2, 2), np.float32)}))
    return path


@pytest.fixture
def described(http: Any, grpc_server: Any) -> dict[str, str]:
    """Wire -> address of a server that answers with a description."""
    fields = {"model": "amun", "grid": {"scale_factor": 10}, "library_dates": [f"2020-01-{d:02}" for d in range(1, 20)]}
    http.answers[0].body = grpc_server.prediction = json.dumps(fields).encode()
    return {"--url": http.url, "--grpc": grpc_server.address}


@pytest.mark.parametrize("wire", ["--url", "--grpc"])
def test_inspect_prints_what_a_server_says(described: dict[str, str], wire: str, capsys: Capture) -> None:
    assert main(["inspect", wire, described[wire], "--model", "amun"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["scale_factor", "10"] in lines
    assert ["library_dates", "19:", "2020-01-01", "...", "2020-01-19"] in lines
    assert main(["inspect", wire, described[wire], "--model", "amun", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "amun"


def test_inspect_without_a_model_lists_those_of_the_front(http: Any, capsys: Capture) -> None:
    http.answers[0].body = b'{"models": [{"name": "amun", "versions": [{"version": "1.0.0", "default": true}]}]}'
    assert main(["inspect", "--url", http.url]) == 0
    assert "1.0.0" in capsys.readouterr().out
    http.answers[0].status = 404
    assert main(["inspect", "--url", http.url]) == 2
    assert "without the front" in capsys.readouterr().err


def test_inspect_over_grpc_needs_a_model(grpc_server: Any, capsys: Capture) -> None:
    assert main(["inspect", "--grpc", grpc_server.address]) == 2
    assert "--model is missing" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["file", "variable"])
def test_a_key_comes_from_its_file_or_else_from_the_environment(
    http: Any, request_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    monkeypatch.setenv("THERMOSCALE_KEY", "s3cret" if where == "variable" else "another")
    options = ["--key-file", str(tmp_path / "key")] if where == "file" else []
    out = str(tmp_path / "reply.npz")
    arguments = ["predict", "--url", http.url, "--model", "amun", "--in", str(request_file), "--out", out]
    assert main([*arguments, *options]) == 0
    assert http.seen[0].headers["authorization"] == "Bearer s3cret"


def test_an_unreadable_key_file_is_named(http: Any, request_file: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = ["predict", "--url", http.url, "--model", "amun", "--in", str(request_file), "--out", "o.npz"]
    assert main([*arguments, "--key-file", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_the_options_of_predict_are_parts_beside_an_id_and_the_end_of_its_time(
    grpc_server: Any, request_file: Path, tmp_path: Path
) -> None:
    options = ["--encoding", "uint16", "--version", "1.0.0", "--timeout", "7"]
    where = ["--grpc", grpc_server.address, "--model", "amun"]
    assert main(["predict", *where, "--in", str(request_file), "--out", str(tmp_path / "o.npz"), *options]) == 0
    (sent,) = grpc_server.seen
    assert sent.model_version == "1.0.0"
    assert set(sent.input) == {"body", "reply", "encoding", "request_id", "expires"}
    assert sent.input["encoding"] == b"uint16"


def test_an_error_of_a_server_names_the_request(http: Any, request_file: Path, capsys: Capture) -> None:
    http.answers[0].status, http.answers[0].body = 400, b'{"message": "coarse is empty"}'
    assert main(["predict", "--url", http.url, "--model", "amun", "--in", str(request_file), "--out", "o.npz"]) == 2
    request_id = http.seen[0].headers["x-request-id"]
    assert capsys.readouterr().err == f"thermoscale predict: coarse is empty (request {request_id})\n"
