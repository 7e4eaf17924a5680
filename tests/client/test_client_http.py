"""Kept connections, deadlines that hold against a dripping server, replies that break off."""

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from thermoscale.client import RestClient
from thermoscale.errors import InvalidInput, Unavailable

BODY = {"coarse": np.ones((1, 1), np.float32)}


@contextlib.contextmanager
def scripted(*pieces: bytes, pause_s: float = 0.0, read: bool = True) -> Iterator[str]:
    """A server that sends ``pieces`` one by one to its first caller, and then closes."""

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as caller:
            if read:
                caller.recv(1 << 16)
            for piece in pieces:
                caller.sendall(piece)
                time.sleep(pause_s)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_calls_one_after_the_other_share_a_connection(http: Any) -> None:
    with RestClient(http.url) as client:
        for _ in range(3):
            client.predict("amun", BODY)
    assert len({seen.port for seen in http.seen}) == 1


def test_threads_never_share_a_connection_at_a_time(http: Any) -> None:
    """Each thread gets the answer to its own question."""
    barrier = threading.Barrier(6)

    def ask(number: int) -> bool:
        barrier.wait()
        path = f"/v1/{number}"
        return all(client.request("GET", path)[0] == 200 for _ in range(10))

    with RestClient(http.url) as client, ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, range(6)))
    assert len(http.seen) == 60
    assert len({seen.port for seen in http.seen}) <= 6


def test_a_connection_that_the_server_closes_is_not_used_again(http: Any, answer: type) -> None:
    good = http.answers[0]
    http.answers = [answer(close=True), answer(headers=(("Connection", "close"),)), good]
    with RestClient(http.url, retries=0) as client:
        client.predict("amun", BODY)
        time.sleep(0.1)  # until the end of the connection has arrived
        client.predict("amun", BODY)
        client.predict("amun", BODY)
    assert len({seen.port for seen in http.seen}) == 3


def test_an_old_connection_is_not_used_again(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thermoscale.client.http.MAX_IDLE_S", 0.0)
    with RestClient(http.url) as client:
        client.predict("amun", BODY)
        client.predict("amun", BODY)
    assert len({seen.port for seen in http.seen}) == 2


def test_a_client_that_nobody_holds_leaves_no_connection_open(http: Any) -> None:
    RestClient(http.url).predict("amun", BODY)
    gc.collect()  # an open socket would warn here, and warnings are errors


@pytest.mark.parametrize(
    "pieces", [[b"H"] * 40, [b"HTTP/1.1 200 OK\r\n", *[b"a: b\r\n"] * 40], [b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 40]]
)
def test_a_server_that_drips_is_left_at_the_deadline(pieces: list[bytes]) -> None:
    with scripted(*pieces, pause_s=0.05) as url, RestClient(url) as client:
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"within 0\.5 s"):
            client.predict("amun", BODY, timeout_s=0.5)
        assert time.monotonic() - start < 1.0


def test_a_server_that_reads_nothing_is_left_at_the_deadline() -> None:
    with scripted(b"", pause_s=1.0, read=False) as url, RestClient(url) as client:
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"within 0\.5 s"):
            client.predict_bytes("amun", {"body": bytes(30_000_000)}, timeout_s=0.5)
        assert time.monotonic() - start < 0.9


def test_a_refusal_that_comes_before_the_body_was_sent_is_read() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with scripted(refusal, pause_s=0.2) as url, RestClient(url, retries=0) as client, pytest.raises(InvalidInput):
        client.predict_bytes("amun", {"body": bytes(30_000_000)})


def test_a_reply_that_breaks_off_is_no_reply(http: Any) -> None:
    http.answers[0].length = len(http.answers[0].body) + 1
    with RestClient(http.url, retries=0) as client, pytest.raises(Unavailable, match="IncompleteRead"):
        client.predict("amun", BODY)


def test_a_reply_of_unknown_length_is_bounded_too() -> None:
    with (
        scripted(b"HTTP/1.1 200 OK\r\n\r\n", bytes(5000)) as url,
        RestClient(url, max_reply_bytes=1000) as client,
        pytest.raises(InvalidInput, match="more than 1000 bytes"),
    ):
        client.predict("amun", BODY)


def test_what_is_no_http_is_unavailable() -> None:
    with scripted(b"SSH-2.0-OpenSSH\r\n") as url, RestClient(url) as client, pytest.raises(Unavailable, match="SSH"):
        client.predict("amun", BODY)


def test_a_connection_that_breaks_is_tried_once_more(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept, and closed by the server in the moment between the look at it and its use."""
    monkeypatch.setattr("thermoscale.client.http._has_news", lambda _: False)
    http.answers[0].close = True
    with RestClient(http.url) as client:
        client.predict("amun", BODY)
        time.sleep(0.1)
        client.predict("amun", BODY)
    assert len(http.seen) == 2
    http.answers[0].close = True
    with RestClient(http.url, retries=0) as client:
        client.predict("amun", BODY)
        time.sleep(0.1)
        with pytest.raises(Unavailable):
            client.predict("amun", BODY)
