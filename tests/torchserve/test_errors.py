"""docs/errors.md is true: every error that it lists, provoked on a real server over both wires."""

import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from torchserve.breakable import RESPONSE_TIMEOUT_S, WIRES, Outcome, call

from thermoscale.client.errors import error_of_grpc, error_of_http
from thermoscale.errors import BundleError
from thermoscale.server.front_setup import REFUSALS
from thermoscale.server.launcher import TorchServe
from thermoscale.server.setup import MAX_BYTES
from thermoscale.testing.bundles import tiny_amun_config, tiny_amun_request
from thermoscale.torchserve import INTERNAL_TEXT
from thermoscale.wire.npz import encode_npz
from thermoscale.wire.status import INTERNAL, STATUS_OF_ERROR

DOCUMENT = (Path(__file__).parents[2] / "serving" / "docs" / "errors.md").read_text()
GOOD = encode_npz(tiny_amun_request(tiny_amun_config()))
STALE = {"body": GOOD, "expires": b"1"}


def table(first_column: str) -> dict[str, dict[str, str]]:
    """First cell -> column -> cell of the table that begins with a column of this name."""
    block = next(block for block in DOCUMENT.split("\n\n") if block.startswith(f"| {first_column} |"))
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


OURS, THEIRS, FRONT = table("error"), table("situation"), table("kind")


def raised(row: Mapping[str, str], wire: str) -> str:
    """What the table says that a client raises; where the wires differ, REST comes first."""
    return row["client raises"].split(", gRPC ")[-1 if wire == "gRPC" else 0]


def raised_by_client(wire: str, status: str, body: bytes) -> str:
    """What the client makes of it."""
    if wire == "REST":
        return type(error_of_http(int(status), {}, body)).__name__
    return type(error_of_grpc(status, body.decode(), {})).__name__


def test_the_table_of_our_errors_is_that_of_the_code() -> None:
    documented = {name: (row["REST"], row["gRPC"]) for name, row in OURS.items()}
    statuses = {kind.__name__: status for kind, status in STATUS_OF_ERROR.items()} | {"any other": INTERNAL}
    assert documented == {name: (str(status.http), status.grpc) for name, status in statuses.items()}


def test_the_table_of_the_front_is_that_of_the_code_and_of_the_client() -> None:
    grpc_names = {code.value[0]: code.name for code in grpc.StatusCode}
    coded = {refusal.kind: (str(refusal.http), grpc_names[refusal.grpc]) for refusal in REFUSALS.values()}
    assert {kind: (row["REST"], row["gRPC"]) for kind, row in FRONT.items()} == coded
    for row in FRONT.values():
        assert [raised_by_client(wire, row[wire], b"") for wire in WIRES] == [raised(row, wire) for wire in WIRES]


def test_all_texts_are_ascii() -> None:
    """A byte outside ASCII in a reason phrase hangs the worker."""
    assert DOCUMENT.isascii()
    assert INTERNAL_TEXT.isascii()


@pytest.fixture
def server(breakable_server: tuple[TorchServe, Path]) -> Iterator[TorchServe]:
    """Ready before and after, whatever a test does to its worker."""
    yield breakable_server[0]
    breakable_server[0].wait_ready()


def full_queue(server: TorchServe, wire: str) -> Outcome:
    """Of five requests at once: one is computed, one waits."""
    with ThreadPoolExecutor(5) as pool:
        outcomes = list(pool.map(lambda _: order("sleep 1")(server, wire), range(5)))
    return next(outcome for outcome in outcomes if outcome.status not in ("200", "OK"))


def too_large(server: TorchServe, wire: str) -> Outcome:
    """One byte above TorchServe's own limit; over REST its header is enough."""
    if wire == "gRPC":
        return call(server, "amun", {"body": bytes(MAX_BYTES + 1)})
    host, _, port = server.rest_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST /predictions/amun HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MAX_BYTES + 1}\r\n\r\n"
        connection.sendall(head.encode())
        answer = connection.recv(4096)
    first, _, rest = answer.partition(b"\r\n")
    return Outcome(first.split()[1].decode(), "", rest.partition(b"\r\n\r\n")[2])


def order(word: str) -> Callable[[TorchServe, str], Outcome]:
    return lambda server, wire: WIRES[wire](server, "amun", {"body": GOOD, "order": word.encode()})


def ask(path: str) -> Callable[[TorchServe, str], Outcome]:
    return lambda server, wire: WIRES[wire](server, path, {"body": GOOD})


PROVOKED: Mapping[str, Callable[[TorchServe, str], Outcome]] = {
    "unknown model": ask("nosuch"),
    "unknown version": ask("amun/9.9.9"),
    "no model named": ask(""),
    "queue full": full_queue,
    "worker died": order("die"),
    "response timeout": order(f"sleep {RESPONSE_TIMEOUT_S + 20}"),
    "too large for TorchServe": too_large,
}


def test_every_row_is_provoked() -> None:
    assert THEIRS.keys() == PROVOKED.keys()


@pytest.mark.server
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("situation", PROVOKED)
def test_what_torchserve_answers_itself_is_as_documented(server: TorchServe, situation: str, wire: str) -> None:
    outcome = PROVOKED[situation](server, wire)
    assert outcome.status == THEIRS[situation][wire]
    begins = THEIRS[situation][f"text over {wire} begins"].strip("`")
    assert outcome.text.startswith(begins)
    assert raised_by_client(wire, outcome.status, outcome.body) == raised(THEIRS[situation], wire)
    if situation == "too large for TorchServe" and wire == "REST":
        assert outcome.body == b""


@pytest.mark.server
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("error", "parts"),
    [
        ("InvalidInput", {"body": b"PK"}),
        ("Unavailable", STALE),
        ("any other", {"body": GOOD, "order": b"fail"}),
    ],
)
def test_our_errors_have_their_status_on_both_wires(
    server: TorchServe, wire: str, error: str, parts: Mapping[str, bytes]
) -> None:
    outcome = WIRES[wire](server, "amun", parts)
    assert outcome.status == OURS[error][wire]
    assert raised_by_client(wire, outcome.status, outcome.body) == raised(OURS[error], wire)
    assert outcome.text.isascii()


def test_a_broken_bundle_is_unavailable_to_callers() -> None:
    assert STATUS_OF_ERROR[BundleError].grpc == OURS["BundleError"]["gRPC"] == "UNAVAILABLE"
