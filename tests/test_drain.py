"""A server about to end finishes what it has begun and begins nothing more."""

import os
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from thermoscale.errors import Unavailable
from thermoscale.in_work import LOCKS_NAME, in_work
from thermoscale.server.drain import drain


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of a launcher, for this process as its worker."""
    (tmp_path / LOCKS_NAME).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_an_idle_server_is_drained_at_once(folder: Path) -> None:
    with in_work():
        pass
    start = time.monotonic()
    assert drain(folder, [], 5.0)
    assert time.monotonic() - start < 1


def test_it_waits_for_the_request_in_work_and_refuses_the_next(folder: Path) -> None:
    with in_work():
        waiting = threading.Thread(target=drain, args=(folder, [], 10.0))
        waiting.start()
        time.sleep(0.5)
        assert waiting.is_alive()
    with pytest.raises(Unavailable, match="about to end"), in_work():
        pass
    waiting.join(5)
    assert not waiting.is_alive()


def test_it_says_when_the_time_was_too_short(folder: Path) -> None:
    with in_work():
        assert not drain(folder, [], 0.2)


def test_a_request_that_failed_is_no_longer_in_work(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), in_work():
        _ = 1 / 0
    assert drain(folder, [], 1.0)


def test_it_waits_until_a_slow_client_has_taken_its_answer(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, listening.accept()[0] as serving:
            serving.setblocking(False)
            sent = 0
            while True:
                try:
                    sent += serving.send(b"x" * 65536)
                except BlockingIOError:
                    break
            assert not drain(folder, [port], 0.6)
            while sent:
                sent -= len(client.recv(sent))
            assert drain(folder, [port], 5.0)


def test_without_a_launcher_of_ours_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with in_work():
        assert os.listdir(tmp_path) == []
