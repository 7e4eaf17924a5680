"""What is sent again, how often, and when a call gives up."""

import itertools
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

from thermoscale.client import GrpcClient, RestClient
from thermoscale.client.retry import Deadline, attempt
from thermoscale.errors import InvalidInput, ThermoscaleError, Unavailable

BODY = {"coarse": np.ones((1, 1), np.float32)}
FULL = 'Model "amun" has no worker to serve inference request. Please use scale workers API'
JAVA = "org.pytorch.serve.http.InternalServerException"


def refusal(retry_after_s: float | None, *, begun: bool = False) -> Unavailable:
    error = Unavailable("try later")
    error.retry_after_s, error.may_have_begun = retry_after_s, begun
    return error


class Failing:
    """Raises its errors in turn, then returns."""

    def __init__(self, *errors: ThermoscaleError) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were asked for; none is waited."""
    asked: list[float] = []
    monkeypatch.setattr("thermoscale.client.retry.time.sleep", asked.append)
    return asked


def test_an_attempt_that_succeeds_is_the_only_one(waits: list[float]) -> None:
    call = Failing()
    assert attempt(call, Deadline(10), 4) == "answer"
    assert (call.calls, waits) == (1, [])


def test_waits_double_from_what_is_asked_for(waits: list[float]) -> None:
    call = Failing(refusal(0.0), refusal(0.0), refusal(0.0), refusal(2.0))
    assert attempt(call, Deadline(60), 4) == "answer"
    for wait, least in zip(waits, (0.1, 0.2, 0.4, 16.0), strict=True):
        assert least <= wait <= 1.5 * least


@pytest.mark.parametrize("retries", range(4))
def test_there_are_no_more_attempts_than_allowed(waits: list[float], retries: int) -> None:
    call = Failing(*(refusal(0.0) for _ in range(9)))
    with pytest.raises(Unavailable):
        attempt(call, Deadline(60), retries)
    assert call.calls == retries + 1


@pytest.mark.parametrize("error", [InvalidInput("no"), Unavailable("no"), refusal(None, begun=True)])
def test_what_would_fail_again_is_not_sent_again(waits: list[float], error: ThermoscaleError) -> None:
    call = Failing(error)
    with pytest.raises(ThermoscaleError) as caught:
        attempt(call, Deadline(60), 4)
    assert (caught.value, call.calls) == (error, 1)


def test_what_may_have_harmed_the_server_is_sent_again_once(waits: list[float]) -> None:
    call = Failing(refusal(0.0, begun=True), refusal(0.0), refusal(0.0, begun=True), refusal(0.0))
    with pytest.raises(Unavailable):
        attempt(call, Deadline(60), 9)
    assert call.calls == 3


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    start = time.monotonic()
    with pytest.raises(Unavailable, match="try later"):
        attempt(Failing(refusal(5.0)), Deadline(1.0), 4)
    assert time.monotonic() - start < 0.5


def test_rest_comes_back_to_a_full_queue(http: Any, answer: type, waits: list[float]) -> None:
    good = http.answers[0]
    http.answers = [
        answer(503, b'{"message": "full"}', (("Retry-After", "3"),)),
        answer(503, b'{"message": "%s"}' % FULL.replace('"', '\\"').encode()),
        answer(429, b"", (("Retry-After", "1"),)),
        good,
    ]
    with RestClient(http.url) as client:
        client.predict("amun", BODY)
    assert len({seen.headers["x-request-id"] for seen in http.seen}) == 1
    assert [int(wait >= least) for wait, least in zip(waits, (3, 2, 4), strict=True)] == [1, 1, 1]


def test_grpc_comes_back_to_a_full_queue(grpc_server: Any, waits: list[float]) -> None:
    grpc_server.answers = [
        ("INTERNAL", f"{FULL}\nInternalServerException.()", ()),
        ("RESOURCE_EXHAUSTED", "more requests than this client may send", (("retry-after", "2"),)),
        ("OK", "", ()),
    ]
    with GrpcClient(grpc_server.address) as client:
        client.predict("amun", BODY)
    assert [int(wait >= least) for wait, least in zip(waits, (1, 4), strict=True)] == [1, 1]


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_a_worker_that_died_twice_under_a_request_gets_it_no_third_time(
    http: Any, answer: type, grpc_server: Any, waits: list[float], wire: str
) -> None:
    http.answers = [answer(500, b'{"message": "Worker died."}')]
    grpc_server.answers = [("INTERNAL", f"Worker died.\n{JAVA}", ())]
    with (
        RestClient(http.url) if wire == "rest" else GrpcClient(grpc_server.address) as client,
        pytest.raises(Unavailable, match="Worker died"),
    ):
        client.predict("amun", BODY)
    assert len(http.seen if wire == "rest" else grpc_server.seen) == 2


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_without_retries_there_is_one_attempt(http: Any, answer: type, grpc_server: Any, wire: str) -> None:
    http.answers = [answer(503, b"", (("retry-after", "0"),))]
    grpc_server.answers = [("UNAVAILABLE", "full", (("retry-after", "0"),))]
    with (
        RestClient(http.url, retries=0) if wire == "rest" else GrpcClient(grpc_server.address, retries=0) as client,
        pytest.raises(Unavailable),
    ):
        client.predict("amun", BODY)
    assert len(http.seen if wire == "rest" else grpc_server.seen) == 1


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_a_server_that_comes_up_meanwhile_answers_the_call(wire: str) -> None:
    """The listener is there from the third attempt on; it breaks off, which shows that it was reached."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    reached = threading.Event()

    def listen() -> None:
        time.sleep(0.25)
        with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))) as server:
            server.settimeout(5)
            server.accept()[0].close()
            reached.set()

    thread = threading.Thread(target=listen)
    thread.start()
    with (
        RestClient(f"http://{address}") if wire == "rest" else GrpcClient(address) as client,
        pytest.raises(Unavailable),
    ):
        client.predict("amun", BODY, timeout_s=3)
    thread.join()
    assert reached.is_set()


def test_attempts_share_one_deadline(http: Any, answer: type) -> None:
    http.answers = [answer(503, b"", (("retry-after", "0"),))]
    with RestClient(http.url, retries=1000) as client:
        start = time.monotonic()
        with pytest.raises(Unavailable):
            client.predict("amun", BODY, timeout_s=1.0)
        assert time.monotonic() - start < 1.5
    gaps = [2**number * 0.1 for number in range(20)]
    assert len(http.seen) <= 1 + sum(total < 1.0 for total in itertools.accumulate(gaps))
