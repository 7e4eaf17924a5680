"""``thermoscale serve`` as an operator meets it: things die, files go, requests are in work when the end comes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from torchserve.slow import begun, sleep_in_work, slow, wait_until

from thermoscale.cli import main
from thermoscale.client import RestClient
from thermoscale.errors import Unavailable
from thermoscale.server import restarts
from thermoscale.server.launcher import TorchServe
from thermoscale.server.readiness import read_golden_of, read_workers

pytestmark = pytest.mark.server

BACK_S = 60.0
"""Patience on a machine with other work; what was measured on a quiet one is in docs/operations.md."""


@dataclass
class Serving:
    """One ``thermoscale serve``, with a temporary folder that nobody else uses."""

    process: subprocess.Popen[str]
    temp: Path
    logs: Path
    archive: Path
    addresses: Mapping[str, str]

    def is_ready(self) -> bool:
        """What ``thermoscale ready`` says."""
        where = ["--url", self.addresses["rest"], "--grpc", self.addresses["grpc"]]
        return main(["ready", str(self.archive), *where, "--management", self.addresses["management"]]) == 0

    def workers(self) -> list[int]:
        """Process ids of the workers that are READY."""
        workers = read_workers(RestClient(self.addresses["management"]), "amun", "0.0.1")
        return [worker.pid for worker in workers if worker.status == "READY"]

    def java(self) -> psutil.Process:
        """The Java process."""
        (java,) = [child for child in psutil.Process(self.process.pid).children() if child.name() == "java"]
        return java

    def processes(self) -> list[psutil.Process]:
        """All that the launcher has started, itself or through others."""
        return psutil.Process(self.process.pid).children(recursive=True)


def start(archive: Path, folder: Path) -> Serving:
    """Start it; the addresses are not there yet."""
    (folder / "temp").mkdir(parents=True)
    ports = [f"--{name}-port=0" for name in ("rest", "grpc", "management", "metrics")]
    command = [sys.executable, "-m", "thermoscale.cli", "serve", str(archive), *ports, "--json"]
    process = subprocess.Popen(
        [*command, "--log-folder", str(folder / "logs")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder / "temp")},
    )
    return Serving(process, folder / "temp", folder / "logs", archive, {})


def lives(process: psutil.Process) -> bool:
    """Whether it runs and is not a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def serving(archives: Mapping[str, Path], tmp_path: Path) -> Iterator[Serving]:
    """A slow AMUN, served and ready."""
    store = tmp_path / "store"
    store.mkdir()
    kept, served = slow(archives["amun"], tmp_path / "kept.mar"), store / "amun.mar"
    served.write_bytes(kept.read_bytes())
    running = start(served, tmp_path)
    with running.process:
        assert running.process.stdout is not None
        try:
            running.addresses = json.loads("".join(running.process.stdout.readline() for _ in range(6)))
            running.archive = kept
            yield running
        finally:
            running.process.terminate()


def test_kills_and_a_lost_store_are_survived_and_the_end_answers_what_is_in_work(serving: Serving) -> None:
    assert serving.is_ready()
    before = serving.workers()
    assert len(before) == 2, "the default"

    psutil.Process(before[0]).kill()
    wait_until(lambda: not serving.is_ready(), 5)
    golden = read_golden_of(serving.archive)
    RestClient(serving.addresses["rest"]).predict("amun", golden.inputs, version=None, timeout_s=30)  # by the other
    wait_until(serving.is_ready, BACK_S)
    assert before[0] not in serving.workers()

    (store,) = (serving.archive.parent / "store").iterdir()
    store.unlink()
    killed = serving.java()
    killed.kill()
    wait_until(lambda: not serving.is_ready(), 5)
    wait_until(serving.is_ready, BACK_S)
    assert serving.java() != killed

    sleep_in_work(serving.logs, 3)
    replies: list[str] = []

    def ask() -> None:
        try:
            with RestClient(serving.addresses["rest"], retries=0) as client:
                client.predict("amun", golden.inputs, version=None, timeout_s=30)
            replies.append("answered")
        except Unavailable as error:
            replies.append(str(error))

    in_work = [threading.Thread(target=ask) for _ in range(2)]
    for thread in in_work:
        thread.start()
    wait_until(lambda: begun(serving.logs) == 2, 10)
    waits_in_the_queue = threading.Thread(target=ask)
    waits_in_the_queue.start()
    time.sleep(0.3)
    processes = serving.processes()
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(30) == 0
    for thread in (*in_work, waits_in_the_queue):
        thread.join()
    assert replies.count("answered") == begun(serving.logs) == 2
    assert len([reply for reply in replies if "about to end" in reply]) == 1
    assert not any(map(lives, processes))
    assert list(serving.temp.iterdir()) == []


def test_a_killed_launcher_leaves_no_process_and_no_file(archives: Mapping[str, Path], tmp_path: Path) -> None:
    starting = start(archives["amun"], tmp_path)
    with starting.process:
        wait_until(lambda: len(starting.processes()) >= 4, BACK_S)  # guard, Java, two workers, still loading
        processes = starting.processes()
        starting.process.kill()
    wait_until(lambda: not any(map(lives, processes)), 10)
    wait_until(lambda: list(starting.temp.iterdir()) == [], 10)


def test_a_server_that_dies_again_and_again_is_given_up_with_its_own_words(
    archives: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "PAUSES_S", (0.0, 0.1))
    said: list[str] = []
    given_up = pytest.raises(Unavailable, match=r"(?s)again and again.*ended with code 1.*heap")
    with TorchServe([archives["amun"]], heap_mb=1) as server, given_up:
        server.keep_running(say=said.append)
    assert len([line for line in said if "starting it again" in line]) == 2
