"""nginx starts checked, drains when it should end, comes back when it should not have, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import of_group

from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.server import front_setup
from thermoscale.server.front import Front, roll_log
from thermoscale.server.front_setup import NEEDS_NGINX, Tls, find_nginx, worker_user
from thermoscale.server.setup import free_ports

NOWHERE = dict.fromkeys(("rest", "grpc", "management"), "127.0.0.1:1")


def test_an_open_request_is_answered_before_the_end_and_nothing_is_left(start_front: Any, keys: Path) -> None:
    answers = []
    with start_front(keys) as public:
        group, temp = public.front.pid, public.front.folder
        ask = threading.Thread(target=lambda: answers.append(public.ask("POST", "/predictions/slow", b"late")))
        ask.start()
        time.sleep(0.2)
    ask.join()
    assert [answer.body for answer in answers] == [b"late"]
    assert of_group(group) == []
    assert not temp.exists()


LAUNCHER = """
import sys, time
from pathlib import Path
from thermoscale.server.front import Front
from thermoscale.server.front_setup import Tls
cert, key, keys, port = sys.argv[1:]
nowhere = dict.fromkeys(("rest", "grpc", "management"), "127.0.0.1:1")
with Front(tls=Tls(Path(cert), Path(key)), keys=Path(keys), host="127.0.0.1", port=int(port), **nowhere) as front:
    print(front.pid, front.folder, flush=True)
    time.sleep(60)
"""


def test_nothing_outlives_a_killed_launcher(tls: Tls, keys: Path) -> None:
    arguments = [str(tls.certificate), str(tls.key), str(keys), str(free_ports().rest)]
    with subprocess.Popen([sys.executable, "-c", LAUNCHER, *arguments], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        group, folder = launcher.stdout.readline().split()
        assert len(of_group(int(group))) >= 2
        launcher.kill()
    deadline = time.monotonic() + 10
    while (of_group(int(group)) or Path(folder).exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert of_group(int(group)) == []
    assert not Path(folder).exists()


def test_an_end_waits_no_longer_than_it_was_told(start_front: Any, keys: Path) -> None:
    with start_front(keys, drain_s=0.2) as public:
        group = public.front.pid
        connection = public.connection()
        connection.request("POST", "/predictions/stuck", b"x", {"Authorization": "Bearer correct-horse"})
        time.sleep(0.1)
        start = time.monotonic()
    connection.close()
    assert of_group(group) == []
    assert time.monotonic() - start < 8  # it would be stuck for 10 s


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_a_killed_nginx_comes_back_by_itself(start_front: Any, keys: Path, victim: str) -> None:
    with start_front(keys) as public:
        workers = [process.pid for process in of_group(public.front.pid) if process.pid != public.front.pid]
        os.kill(public.front.pid if victim == "master" else workers[0], signal.SIGKILL)
        deadline, status = time.monotonic() + 10, 0
        time.sleep(0.3)
        while status != 200 and time.monotonic() < deadline:
            try:
                status = public.ask("POST", "/predictions/echo", b"x").status
            except OSError:
                time.sleep(0.1)
        assert status == 200


def test_workers_are_never_root(start_front: Any, keys: Path) -> None:
    with start_front(keys) as public:
        owners = {process.username() for process in of_group(public.front.pid) if process.pid != public.front.pid}
    assert owners == {worker_user() or psutil.Process().username()}
    assert "root" not in owners


def test_a_configuration_that_nginx_refuses_is_told_in_its_words(start_front: Any, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    wrong = Tls(tmp_path / "cert.pem", tmp_path / "cert.pem")
    with pytest.raises(Unavailable, match=r"(?s)nginx refuses its configuration: .*cert\.pem"):
        Front(tls=wrong, keys=keys, host="127.0.0.1", port=1, **NOWHERE).start()


def test_a_port_that_is_taken_is_told(start_front: Any, keys: Path) -> None:
    with start_front(keys) as public:
        port = int(public.host.split(":")[1])
        second = Front(tls=public.tls, keys=keys, host="127.0.0.1", port=port, **NOWHERE)
        with pytest.raises(Unavailable, match="bind"):
            second.start()
        assert public.ask("POST", "/predictions/echo", b"x").status == 200


def test_plain_http_stays_on_loopback(start_front: Any, keys: Path) -> None:
    with start_front(keys, secure=False) as public:
        assert public.ask("POST", "/predictions/echo", b"x").body == b"x"
        assert public.ask("POST", "/predictions/echo", b"x", key=None).status == 401
    with pytest.raises(InvalidInput, match=r"listen on 0\.0\.0\.0 without TLS"):
        Front(tls=None, keys=keys, port=1, **NOWHERE)


def test_a_log_beyond_its_size_is_rolled_and_few_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "front.log"
    for number in range(5):
        log.write_text(f"{number}" * 20)
        roll_log(log, most_bytes=10, kept=2)
    assert {path.name: path.read_text()[:1] for path in tmp_path.iterdir()} == {
        "front.log": "", "front.log.1": "4", "front.log.2": "3",
    }  # fmt: skip
    log.write_text("short")
    roll_log(log, most_bytes=10, kept=2)
    assert log.read_text() == "short"


def test_where_nginx_is_missing_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(front_setup, "_SYSTEM_FOLDERS", ())
    with pytest.raises(Unavailable, match="apt-get install nginx libnginx-mod-http-js"):
        find_nginx()
    bare = tmp_path / "nginx"
    bare.write_text("#!/bin/sh\necho 'configure arguments: --modules-path=/nowhere' >&2\n")
    bare.chmod(0o755)
    with pytest.raises(Unavailable, match=f"has no njs: {NEEDS_NGINX}"):
        find_nginx()


@pytest.mark.parametrize("path", ['a"b', "a$b", "a\\b", "a\nb"])
def test_a_path_that_would_change_the_configuration_is_refused(tls: Tls, keys: Path, tmp_path: Path, path: str) -> None:
    odd = tmp_path / path
    odd.write_text(keys.read_text())
    with pytest.raises(InvalidInput, match="a path of the front must not hold"):
        Front(tls=tls, keys=odd, host="127.0.0.1", port=1, **NOWHERE).start()
