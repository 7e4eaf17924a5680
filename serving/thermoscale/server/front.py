"""The public port: one nginx of our own before a TorchServe on loopback, gone when we are.

nginx checks keys and limits and speaks TLS; ``config/nginx.conf`` says what reaches TorchServe. Its master process is
our child in a process group of its own, works in a folder that nothing outlives, and is started again should it end.
"""

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.server.front_setup import (
    PATIENCE_S,
    FrontLimits,
    Nginx,
    Tls,
    find_nginx,
    require_keys,
    worker_user,
    write_front_config,
)
from thermoscale.server.own_folder import InOwnFolder, OwnFolder

LOG_BYTES = 20 * 2**20
LOGS_KEPT = 5
_LOG_NAMES = ("front.log", "front-error.log")
_START_TIMEOUT_S = 10.0
_POLL_S = 0.1
_WATCH_S = 0.5


class Front(InOwnFolder):
    """One running nginx; use it in a ``with`` statement, inside that of its TorchServe.

    Args:
        rest, grpc, management: host:port of TorchServe's three wires.
        keys: file of lines ``<sha256 hex of a key>  <name>``, read again for every request.
        tls: certificate and private key; None: plain HTTP/1.1, REST only, on loopback only.
        host, port: where to listen.
        log_folder: where ``front.log`` (one JSON object a request) and ``front-error.log`` go; default the temporary
            folder, gone at the end.
        drain_s: how long :meth:`stop` lets requests finish.

    Attributes:
        url: the public address.

    Raises:
        InvalidInput: the keys file has a bad line, or plain HTTP is asked for beyond loopback.
        Unavailable: nginx or njs is not installed.
    """

    def __init__(
        self,
        *,
        rest: str,
        grpc: str,
        management: str,
        keys: Path,
        tls: Tls | None,
        port: int,
        host: str = "0.0.0.0",
        log_folder: Path | None = None,
        limits: FrontLimits | None = None,
        drain_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(log_folder)
        if tls is None and host != "127.0.0.1":
            raise InvalidInput(f"the front is to listen on {host} without TLS, needed a certificate or 127.0.0.1")
        require_keys(keys)
        self._nginx: Nginx = find_nginx()
        self._upstreams = {"rest": rest, "grpc": grpc, "management": management}
        self._keys, self._tls, self._limits = keys, tls, limits or FrontLimits()
        self._host, self._port, self._drain_s = host, port, drain_s
        self.url = f"{'https' if tls else 'http'}://{self._local_host}:{port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="front", daemon=True)

    def start(self) -> None:
        """Check the configuration, start nginx and wait for its first answer.

        Raises:
            Unavailable: nginx refuses it, in its own words; or does not start; or cannot read the keys file.
        """
        self._own = OwnFolder()
        try:
            if worker_user():
                self.folder.chmod(0o711)  # its folders of bodies belong to another user
            self._logs.mkdir(parents=True, exist_ok=True)
            config = write_front_config(
                self.folder, self._nginx, listen=f"{self._host}:{self._port}", tls=self._tls, keys=self._keys,
                logs=self._logs, limits=self._limits, **self._upstreams,
            )  # fmt: skip
            self._command = [str(self._nginx.program), "-p", str(self.folder), "-c", str(config), "-e", "stderr"]
            self._require_accepted()
            self._spawn()
            self._wait_answer()
        except BaseException:
            self.stop()
            raise
        self._watcher.start()

    def stop(self) -> None:
        """Take no new requests, let the open ones finish, end the process group; safe to repeat."""
        self._ending.set()
        if self._watcher.is_alive():
            self._watcher.join()
        process, self._process = self._process, None
        own, self._own = self._own, None
        try:
            if process is not None:
                process.send_signal(signal.SIGQUIT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self._drain_s)
        finally:
            if process is not None:
                _end_group(process)
            if own is not None:
                own.remove()

    @property
    def pid(self) -> int:
        """nginx's master process, which leads the process group."""
        assert self._process is not None, "start() comes first"
        return self._process.pid

    @property
    def _local_host(self) -> str:
        return "127.0.0.1" if self._host == "0.0.0.0" else self._host

    def _require_accepted(self) -> None:
        checked = subprocess.run([*self._command, "-t"], capture_output=True, text=True, timeout=30)
        if checked.returncode != 0:
            raise Unavailable(f"nginx refuses its configuration: {checked.stderr.strip()}")

    def _spawn(self) -> None:
        with (self._logs / "front-error.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )

    def _wait_answer(self) -> None:
        """A request without a key is refused for that reason only where the keys file can be read."""
        assert self._process is not None
        deadline, status = time.monotonic() + _START_TIMEOUT_S, None
        while status is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"nginx does not answer on port {self._port}: {self._last_error()}")
            time.sleep(_POLL_S)
            if self._holds_port():
                status = self._ask()
        if status != 401:
            who = worker_user() or "nginx"
            raise Unavailable(f"{who} cannot read {self._keys}, needed read permission: {self._last_error()}")

    def _holds_port(self) -> bool:
        """nginx writes its process id once it has the port; until then another server may answer there."""
        file = self.folder / "nginx.pid"
        return file.exists() and file.read_text("ascii").strip() == str(self.pid)

    def _ask(self) -> int | None:
        """Status of a request without a key; None while there is no answer."""
        connection = self._connection()
        try:
            connection.request("GET", "/v1/models")
            with connection.getresponse() as response:
                return response.status
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self._local_host, self._port, timeout=5)
        own = ssl.create_default_context()  # our own child: whatever name its certificate has
        own.check_hostname, own.verify_mode = False, ssl.CERT_NONE
        return HTTPSConnection(self._local_host, self._port, timeout=5, context=own)

    def _last_error(self) -> str:
        lines = (self._logs / "front-error.log").read_text("utf-8", "replace").splitlines()
        return "; ".join(lines[-3:]) or "its log is empty"

    def _watch(self) -> None:
        """Until :meth:`stop`: start nginx and its guard again should they end, keep the logs small."""
        while not self._ending.wait(_WATCH_S):
            assert self._process is not None
            self._own_folder.keep_guarded()
            if self._process.poll() is not None:
                _end_group(self._process)  # its workers would keep the port
                self._spawn()
            for name in _LOG_NAMES:
                roll_log(self._logs / name)


def roll_log(path: Path, *, most_bytes: int = LOG_BYTES, kept: int = LOGS_KEPT) -> None:
    """Copy a log beyond ``most_bytes`` to ``path.1`` (older ones to ``.2`` ...) and empty it.

    Emptied and not renamed: nginx's workers may lack the right to open it again. A line written in between is lost.
    """
    if not path.exists() or path.stat().st_size <= most_bytes:
        return
    for number in range(kept, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
