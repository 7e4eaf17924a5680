"""Start one TorchServe on loopback, know when it is really ready, and leave nothing behind.

The Java process is our own child in a process group of its own with its own temporary folder, which takes its settings,
sockets and unpacked archives: two servers on one machine never meet, and killing the group ends every worker.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import BundleError, Unavailable
from thermoscale.readiness import Golden, Worker, read_golden_of, read_workers, require_golden
from thermoscale.torchserve import NEVER_READY
from thermoscale.torchserve_setup import HEAP_MB, Ports, free_ports, java_command, write_config

STOP_TIMEOUT_S = 10.0
_POLL_S = 0.1
_TAIL_LINES = 40


class TorchServe:
    """One running TorchServe with the given archives; use it in a ``with`` statement.

    Args:
        archives: ``.mar`` files made by :func:`thermoscale.release.mar.pack`, one for each model.
        workers: Python processes for each archive.
        ports: default free ones.
        log_folder: where ``torchserve.log`` and ``jvm.log`` go; default the temporary folder, gone at the end.
        heap_mb: bound of the Java heap.

    Attributes:
        goldens: model name -> golden sample.
        rest_url, grpc_address, management_url, metrics_url: where it listens.

    Raises:
        BundleError: an archive is unreadable, or two hold the same model.
    """

    def __init__(
        self,
        archives: Sequence[Path],
        *,
        workers: int = 1,
        ports: Ports | None = None,
        log_folder: Path | None = None,
        heap_mb: int = HEAP_MB,
    ) -> None:
        self.goldens: dict[str, Golden] = {}
        self._archives: dict[str, Path] = {}
        for path in archives:
            self._add_archive(path.resolve())
        self._ports = ports or free_ports()
        self.rest_url = f"http://127.0.0.1:{self._ports.rest}"
        self.grpc_address = f"127.0.0.1:{self._ports.grpc}"
        self.management_url = f"http://127.0.0.1:{self._ports.management}"
        self.metrics_url = f"http://127.0.0.1:{self._ports.metrics}/metrics"
        self._workers, self._heap_mb = workers, heap_mb
        self._log_folder = log_folder.resolve() if log_folder else None
        self._temp: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process; :meth:`wait_ready` then waits for it.

        Raises:
            Unavailable: TorchServe or Java is not installed.
        """
        self._temp = Path(tempfile.mkdtemp(prefix="thermoscale-"))
        try:
            config = write_config(self._temp, self._archives, self._ports, self._workers)
            command = java_command(self._temp, config, self._heap_mb)
            self._logs.mkdir(parents=True, exist_ok=True)
            with (self._logs / "jvm.log").open("wb") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._temp,
                    env=self._environment(), start_new_session=True,
                )  # fmt: skip
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ask the server to end, then end its process group and remove its temporary folder; safe to repeat."""
        process, self._process = self._process, None
        try:
            if process is not None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_TIMEOUT_S)
        finally:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):  # whatever the server has left running
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if self._temp is not None:
                shutil.rmtree(self._temp, ignore_errors=True)

    def wait_ready(self, timeout_s: float = 120.0, models: Sequence[str] | None = None) -> None:
        """Wait until every worker is READY and the golden sample gives the golden answer over both wires.

        Args:
            models: default all.

        Raises:
            BundleError: a worker refused its bundle, or the golden answer is another.
            Unavailable: the server ended, or is not ready in time; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        wanted = [self.goldens[model] for model in models or self.goldens]
        for golden in wanted:
            self._wait_for_workers(golden, deadline)
        with GrpcClient(self.grpc_address) as grpc_client:
            for client in (RestClient(self.rest_url), grpc_client):
                for golden in wanted:
                    require_golden(client, golden, max(1.0, deadline - time.monotonic()))

    def wait(self) -> None:
        """Return never while the server lives.

        Raises:
            Unavailable: it ended; with the end of its log.
        """
        while True:
            self._require_alive()
            time.sleep(_POLL_S)

    def workers(self, model: str) -> list[Worker]:
        """The worker processes of ``model``.

        Raises:
            Unavailable: the server does not answer.
        """
        return read_workers(RestClient(self.management_url), model, self.goldens[model].version)

    def log_tail(self) -> str:
        """The last lines of both logs."""
        texts = [(self._logs / name, _read_log(self._logs / name)) for name in ("jvm.log", "torchserve.log")]
        return "\n".join(f"--- {path.name}\n" + "\n".join(text.splitlines()[-_TAIL_LINES:]) for path, text in texts)

    @property
    def _logs(self) -> Path:
        assert self._temp is not None, "start() comes first"
        return self._log_folder or self._temp

    def _add_archive(self, path: Path) -> None:
        golden = read_golden_of(path)
        if golden.model in self._archives:
            raise BundleError(f"{path} and {self._archives[golden.model]} both hold {golden.model}: give one of them")
        self.goldens[golden.model], self._archives[golden.model] = golden, path

    def _environment(self) -> dict[str, str]:
        """Ours, without what would overrule TorchServe's settings file, or put other code before the archive's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TS_", "PYTHONPATH"))}
        own = {"LOG_LOCATION": str(self._logs), "TEMP": str(self._temp), "TMPDIR": str(self._temp)}
        return {"OMP_NUM_THREADS": "1", **kept, **own}

    def _wait_for_workers(self, golden: Golden, deadline: float) -> None:
        while not self._has_ready_workers(golden):
            self._require_alive()
            self._require_no_refusal(golden)
            if time.monotonic() > deadline:
                raise Unavailable(f"{golden.model} is not ready in time\n{self.log_tail()}")
            time.sleep(_POLL_S)

    def _has_ready_workers(self, golden: Golden) -> bool:
        try:
            workers = self.workers(golden.model)
        except Unavailable:
            return False
        return bool(workers) and all(worker.status == "READY" for worker in workers)

    def _require_alive(self) -> None:
        if self._process is None:
            raise Unavailable("the server was not started, or was stopped")
        code = self._process.poll()
        if code is not None:
            raise Unavailable(f"TorchServe ended with code {code}\n{self.log_tail()}")

    def _require_no_refusal(self, golden: Golden) -> None:
        """Look for the line of :mod:`thermoscale.torchserve`; the folder tells it from lines of an earlier server."""
        line = rf"{re.escape(f'{NEVER_READY} {golden.model} {self._temp}')}\S* (.*)"
        refusal = re.search(line, _read_log(self._logs / "torchserve.log"))
        if refusal:
            raise BundleError(f"{self._archives[golden.model].name} is never ready: {refusal[1]}")


def _read_log(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
