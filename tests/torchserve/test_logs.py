"""Logs of a real server: failures as JSON with their ids, nothing of answers, bounded however much is refused."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from torchserve.breakable import WIRES, rest

from thermoscale.client.grpc_messages import PREDICTIONS_METHOD
from thermoscale.server.launcher import TorchServe
from thermoscale.testing.bundles import tiny_amun_config, tiny_amun_request
from thermoscale.torchserve import INTERNAL_TEXT
from thermoscale.wire.npz import encode_npz

pytestmark = pytest.mark.server

GOOD = encode_npz(tiny_amun_request(tiny_amun_config()))
SIZE = 20 * 1024
KEPT = 4
SECRET = "pK7-key-of-a-caller"


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """Every record of a failed request that is still there."""
    for path in folder.glob("requests*.log"):
        for line in path.read_text("ascii").splitlines():
            yield json.loads(line)


def record_of(folder: Path, **facts: Any) -> dict[str, Any]:
    """The one record with these facts; it is written a moment after the caller has its answer."""
    deadline = time.monotonic() + 10
    while True:
        found = [record for record in records(folder) if facts.items() <= record.items()]
        if found or time.monotonic() > deadline:
            (only,) = found
            return only
        time.sleep(0.05)


@pytest.mark.parametrize("wire", WIRES)
def test_the_id_of_an_unknown_error_leads_to_its_trace(breakable_server: tuple[TorchServe, Path], wire: str) -> None:
    server, folder = breakable_server
    server.wait_ready()
    text = WIRES[wire](server, "amun", {"body": GOOD, "order": b"fail"}).text
    match = re.fullmatch(INTERNAL_TEXT.format("([0-9a-f-]{36})"), text)
    assert match
    record = record_of(folder, server_id=match[1])
    assert (record["outcome"], record["model"], record["version"]) == ("internal", "amun", "0.0.1")
    assert "has no attribute 'predict_bytes'" in record["trace"]


@pytest.mark.parametrize("wire", WIRES)
def test_a_refusal_is_found_by_the_callers_id(breakable_server: tuple[TorchServe, Path], wire: str) -> None:
    server, folder = breakable_server
    outcome = WIRES[wire](server, "amun", {"body": b"PK", "request_id": f"tile-{wire}".encode()})
    record = record_of(folder, request_id=f"tile-{wire}")
    assert record["text"] == outcome.text
    assert record["total_ms"] > 0
    assert "trace" not in record


def test_answers_keys_and_bodies_leave_nothing(breakable_server: tuple[TorchServe, Path]) -> None:
    server, folder = breakable_server
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=10)
    for body in (encode_npz({**tiny_amun_request(tiny_amun_config()), "request_id": "a-good-one"}), SECRET.encode()):
        connection.request("POST", "/predictions/amun", body, {"Authorization": f"Bearer {SECRET}"})
        connection.getresponse().read()
    connection.close()
    rest(server, "amun", {"body": b"PK", "request_id": b"the-last"})
    record_of(folder, request_id="the-last")
    everything = "".join(path.read_text() for path in folder.iterdir())
    assert SECRET not in everything
    assert "a-good-one" not in everything


def test_logs_stay_within_their_bound_and_every_line_is_a_record(breakable_server: tuple[TorchServe, Path]) -> None:
    server, folder = breakable_server
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=10)
    for _ in range(400):
        connection.request("POST", "/predictions/amun", b"PK", {"Content-Type": "application/octet-stream"})
        assert connection.getresponse().read()
    connection.close()
    with grpc.insecure_channel(server.grpc_address) as channel:
        malformed = channel.unary_unary(PREDICTIONS_METHOD, bytes, bytes)
        for _ in range(50):
            with pytest.raises(grpc.RpcError, match="UNKNOWN"):
                malformed(b"\xff\xff\xff")
    assert (folder / "jvm.log").stat().st_size < 2000
    longest = 2**13
    for name in ("requests", "torchserve"):
        files = list(folder.glob(f"{name}*.log"))
        assert len(files) <= KEPT
        assert all(path.stat().st_size <= SIZE + longest for path in files)
    assert len(list(folder.glob("requests*.log"))) == KEPT
    assert all(record["event"] == "request_failed" for record in records(folder))
    lines = [line for path in folder.glob("torchserve*.log") for line in path.read_text().splitlines()]
    assert all(re.match(r"time=\S+Z level=[A-Z]+ logger=\S+ message=", line) for line in lines)
