"""Start one TorchServe on loopback, know when it is really ready, and leave nothing behind.

The Java process is our own child in a process group of its own with its own temporary folder, which takes its settings,
sockets and unpacked archives: two servers on one machine never meet, and all that lives in the folder ends with it.
"""

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import BundleError, Unavailable
from thermoscale.in_work import LOCKS_NAME
from thermoscale.server.drain import drain
from thermoscale.server.guard import end_processes
from thermoscale.server.own_folder import InOwnFolder, OwnFolder
from thermoscale.server.readiness import Golden, Worker, all_ready, read_golden_of, read_workers, require_golden
from thermoscale.server.restarts import Restarts
from thermoscale.server.setup import (
    DRAIN_TIMEOUT_S,
    HEAP_MB,
    START_TIMEOUT_S,
    WORKERS,
    Ports,
    free_ports,
    java_command,
    write_config,
    write_stand_in,
)
from thermoscale.torchserve import NEVER_READY

STOP_TIMEOUT_S = 10.0
_POLL_S = 0.1
_ASK_S = 5.0
_SILENT_S = 60.0
_TAIL_LINES = 40


class TorchServe(InOwnFolder):
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
        workers: int = WORKERS,
        ports: Ports | None = None,
        log_folder: Path | None = None,
        heap_mb: int = HEAP_MB,
    ) -> None:
        super().__init__(log_folder)
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
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; :meth:`wait_ready` then waits for it.

        Raises:
            Unavailable: TorchServe or Java is not installed.
        """
        self._own = OwnFolder()
        try:
            config = write_config(self.folder, self._archives, self._ports, self._workers)
            self._command = java_command(self.folder, config, self._heap_mb)
            self._python_path = write_stand_in(self.folder)
            (self.folder / LOCKS_NAME).mkdir()
            self._logs.mkdir(parents=True, exist_ok=True)
            (self._logs / "jvm.log").write_bytes(b"")
            self._launch()
        except BaseException:
            self.stop()
            raise

    def keep_running(self, timeout_s: float = START_TIMEOUT_S, say: Callable[[str], None] = lambda _: None) -> None:
        """Return never: watch over the server, start it again should it end.

        Args:
            timeout_s: for it to become ready again.
            say: told of each end and of each return.

        Raises:
            BundleError: a worker refused its bundle at a later start.
            Unavailable: the server ends again and again; with the end of its log.
        """
        restarts = Restarts()
        while True:
            try:
                self._require_alive()
                self._require_answering()
                self._own_folder.keep_guarded()
                time.sleep(_POLL_S)
            except Unavailable as error:
                pause_s = restarts.pause_s(time.monotonic() - self._started)
                if pause_s is None:
                    raise Unavailable(f"again and again soon after its start: {error}") from None
                say(f"{str(error).splitlines()[0]}; starting it again")
                self._end_process()
                time.sleep(pause_s)
                self._restart(timeout_s, say)

    def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> bool:
        """Refuse new requests as unavailable, wait until those in work are answered; :meth:`stop` is to follow.

        Returns:
            Whether all were answered in time.
        """
        return drain(self.folder, (self._ports.rest, self._ports.grpc), timeout_s)

    def stop(self) -> None:
        """Ask the server to end, then end what it left and remove its temporary folder; safe to repeat."""
        process, self._process = self._process, None
        own, self._own = self._own, None
        try:
            if process is not None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_TIMEOUT_S)
        finally:
            if own is not None:
                own.remove()
            if process is not None:
                process.wait()

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S, models: Sequence[str] | None = None) -> None:
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

    def _launch(self) -> None:
        with (self._logs / "jvm.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env=self._environment(), start_new_session=True,
            )  # fmt: skip
        self._started = self._asked = self._answered = time.monotonic()

    def _restart(self, timeout_s: float, say: Callable[[str], None]) -> None:
        """Start again, from the archives; a server that does not become ready has ended."""
        shutil.rmtree(self.folder / "models", ignore_errors=True)  # what the last one unpacked
        self._launch()
        try:
            self.wait_ready(timeout_s)
        except Unavailable as error:
            say(str(error))
            self._end_process()
        else:
            say("the server is ready again")

    def _end_process(self) -> None:
        """End the server and its workers at once."""
        assert self._process is not None
        end_processes(self.folder)
        self._process.wait()

    def _add_archive(self, path: Path) -> None:
        golden = read_golden_of(path)
        if golden.model in self._archives:
            raise BundleError(f"{path} and {self._archives[golden.model]} both hold {golden.model}: give one of them")
        self.goldens[golden.model], self._archives[golden.model] = golden, path

    def _environment(self) -> dict[str, str]:
        """Ours, without what would overrule TorchServe's settings file, or put other code before the archive's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TS_", "PYTHONPATH"))}
        own = {"LOG_LOCATION": str(self._logs), "TEMP": str(self.folder), "TMPDIR": str(self.folder)}
        own["PYTHONPATH"] = str(self._python_path)
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
            return all_ready(self.workers(golden.model))
        except Unavailable:
            return False

    def _require_alive(self) -> None:
        if self._process is None:
            raise Unavailable("the server was not started, or was stopped")
        code = self._process.poll()
        if code is not None:
            raise Unavailable(f"TorchServe ended with code {code}\n{self.log_tail()}")

    def _require_answering(self) -> None:
        """Ask from time to time: a process that lives may still be of no use."""
        now = time.monotonic()
        if now - self._asked < _ASK_S:
            return
        self._asked = now
        try:
            for model in self.goldens:
                self.workers(model)
            self._answered = now
        except Unavailable:
            if now - self._answered > _SILENT_S:
                raise Unavailable(f"TorchServe does not answer since {_SILENT_S:g} s") from None

    def _require_no_refusal(self, golden: Golden) -> None:
        """Look for the line of :mod:`thermoscale.torchserve`; the folder tells it from lines of an earlier server."""
        line = rf"{re.escape(f'{NEVER_READY} {golden.model} {self.folder}')}\S* (.*)"
        refusal = re.search(line, _read_log(self._logs / "torchserve.log"))
        if refusal:
            raise BundleError(f"{self._archives[golden.model].name} is never ready: {refusal[1]}")


def _read_log(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
