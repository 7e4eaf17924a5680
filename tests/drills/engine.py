"""What a drill may ask of a server, whatever its protocol, and TorchServe behind that."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from drills.access import Access
from thermoscale.client import RestClient
from thermoscale.errors import Unavailable
from thermoscale.server.readiness import Golden, Worker, read_golden_of, read_workers, require_golden
from thermoscale.server.setup import free_ports

START_S = 300.0
_POLL_S = 0.2


class Engine(Protocol):
    """One server with a launcher, workers and two wires.

    Attributes:
        name: of the kind of server.
        goldens: model name -> golden sample.
        access: to predictions.
    """

    name: str
    goldens: Mapping[str, Golden]
    access: Access

    def start(self) -> None:
        """Start without waiting; a second start has the same addresses."""

    def stop(self) -> int:
        """Ask it to end, and remove by force what it leaves; the launcher's exit code. Safe to repeat."""

    def workers(self, model: str) -> list[Worker]:
        """Worker processes of ``model``; raises Unavailable while the server does not know."""

    def launcher(self) -> psutil.Process:
        """The process that an operator started; raises Unavailable once it has ended."""

    def server(self) -> psutil.Process:
        """The process that takes the requests; raises Unavailable while there is none."""

    def log(self) -> str:
        """All that launcher and server have written."""

    def unpacked(self) -> list[Path]:
        """Files that a clean end removes."""


class TorchServeEngine:
    """``thermoscale serve`` as an operator starts it.

    Args:
        archives: one for each model.
        folder: of this server alone, for its logs and its temporary files; kept short, because sockets live in it.
        output: file for what the launcher prints.
        workers: processes for each model.
    """

    name = "torchserve"

    def __init__(self, archives: Sequence[Path], folder: Path, output: Path, *, workers: int = 2) -> None:
        self.goldens: Mapping[str, Golden] = {golden.model: golden for golden in map(read_golden_of, archives)}
        self._archives, self._workers = archives, workers
        self._temp, self._logs, self._output = folder / "temp", folder / "logs", output
        ports = free_ports()
        self.access = Access(f"http://127.0.0.1:{ports.rest}", f"127.0.0.1:{ports.grpc}")
        self._management = RestClient(f"http://127.0.0.1:{ports.management}")
        self._ports = {"rest": ports.rest, "grpc": ports.grpc, "management": ports.management, "metrics": ports.metrics}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for folder in (self._temp, self._logs):
            folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "thermoscale.cli", "serve", *map(str, self._archives), *self.options()]
        with self._output.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(self._temp)}
            )

    def options(self) -> list[str]:
        """Of ``thermoscale serve``."""
        ports = [f"--{name}-port={port}" for name, port in self._ports.items()]
        return [*ports, f"--workers={self._workers}", f"--log-folder={self._logs}", f"--timeout={START_S}"]

    def stop(self) -> int:
        assert self._process is not None, "start() comes first"
        tree = processes_under(self.launcher()) if self._process.poll() is None else []
        if tree:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(40)
        for process in living([*tree, *_told_to_use(self._temp)]):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self._temp, ignore_errors=True)
        return self._process.wait()

    def workers(self, model: str) -> list[Worker]:
        return read_workers(self._management, model, self.goldens[model].version)

    def launcher(self) -> psutil.Process:
        if self._process is None or self._process.poll() is not None:
            raise Unavailable(f"the launcher has ended\n{self.log()[-2000:]}")
        return psutil.Process(self._process.pid)

    def server(self) -> psutil.Process:
        for process in processes_under(self.launcher()):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == "java":
                    return process
        raise Unavailable("no Java process")

    def log(self) -> str:
        paths = [self._output, *sorted(self._logs.rglob("*.log"))]
        return "\n".join(path.read_text("utf-8", "replace") for path in paths if path.exists())

    def unpacked(self) -> list[Path]:
        return list(self._temp.iterdir()) if self._temp.exists() else []


def free_port() -> int:
    """A port that is free now."""
    return free_ports().rest


def processes_under(process: psutil.Process) -> list[psutil.Process]:
    """``process`` and all that came from it."""
    return [process, *process.children(recursive=True)]


def _told_to_use(temp: Path) -> list[psutil.Process]:
    """Processes that were told to keep their files in ``temp``: those that no longer have a parent, too."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR", "").startswith(str(temp)):
                found.append(process)
    return found


def living(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    found = []
    for process in set(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_running(engine: Engine) -> bool:
    """Whether its launcher has not ended."""
    try:
        engine.launcher()
    except Unavailable:
        return False
    return True


def is_ready(engine: Engine, models: Sequence[str] | None = None, gone: frozenset[int] = frozenset()) -> bool:
    """Whether every worker is READY, none of them is ``gone``, and both wires give the golden answers."""
    try:
        for model in models or engine.goldens:
            workers = engine.workers(model)
            if not workers or any(worker.status != "READY" or worker.pid in gone for worker in workers):
                return False
        with engine.access.clients() as clients:
            for client in clients.values():
                for model in models or engine.goldens:
                    require_golden(client, engine.goldens[model], timeout_s=5.0)
    except Unavailable:
        return False
    return True


def seconds_until_ready(
    engine: Engine, since: float, *, patience_s: float, gone: frozenset[int] = frozenset()
) -> float | None:
    """Seconds from ``since`` (monotonic) until :func:`is_ready`; None: not within ``patience_s``, or it has ended."""
    while time.monotonic() - since < patience_s and is_running(engine):
        if is_ready(engine, gone=gone):
            return time.monotonic() - since
        time.sleep(_POLL_S)
    return None
