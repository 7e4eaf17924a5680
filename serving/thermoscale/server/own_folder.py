"""A temporary folder of one launcher, with the promise that it, and what runs in it, does not outlive the launcher.

Three things keep the promise: :meth:`OwnFolder.remove`; a guard process for a launcher that is killed; and the next
launcher, which removes folders whose lock nobody holds any more, for a launcher that is killed together with its guard.
"""

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from thermoscale.server import guard

PREFIX = "thermoscale-"
LOCK_NAME = "lock"
_PATIENCE_S = 15.0


class OwnFolder:
    """A new temporary folder; processes that are to end with it work in it or have it as their ``TMPDIR``.

    Attributes:
        path: the folder, with all symbolic links resolved.
    """

    def __init__(self) -> None:
        remove_stale()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        self._lock = _lock_new(self.path)
        self._guard = _start_guard(self.path)

    def keep_guarded(self) -> None:
        """Start the guard, again should it have ended; to be called from time to time."""
        if self._guard.poll() is not None:
            _close_pipe(self._guard)
            self._guard = _start_guard(self.path)

    def remove(self) -> None:
        """End what runs in the folder and remove it; safe to repeat."""
        _close_pipe(self._guard)  # its sign to do its work
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(_PATIENCE_S)
        guard.clear(self.path)
        self._lock.close()


class InOwnFolder(ABC):
    """A program of ours that works in an :class:`OwnFolder` from :meth:`start` to :meth:`stop`.

    Args:
        log_folder: where its logs go; default the temporary folder, gone at the end.
    """

    def __init__(self, log_folder: Path | None) -> None:
        self._log_folder = log_folder.resolve() if log_folder else None
        self._own: OwnFolder | None = None

    @abstractmethod
    def start(self) -> None:
        """Make the folder and start the program."""

    @abstractmethod
    def stop(self) -> None:
        """End the program and remove the folder; safe to repeat."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """The temporary folder of the running program."""
        return self._own_folder.path

    @property
    def _own_folder(self) -> OwnFolder:
        assert self._own is not None, "start() comes first"
        return self._own

    @property
    def _logs(self) -> Path:
        return self._log_folder or self.folder


def remove_stale() -> None:
    """Clear the folders of launchers that are no more."""
    for folder in Path(tempfile.gettempdir()).resolve().glob(f"{PREFIX}*"):
        if _is_abandoned(folder):
            guard.clear(folder)


def _start_guard(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", guard.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def _lock_new(folder: Path) -> IO[bytes]:
    """Lock a file, then give it its name: nobody sees it unlocked while we live."""
    stream = (folder / f"new-{LOCK_NAME}").open("wb")
    fcntl.flock(stream, fcntl.LOCK_EX)
    os.rename(stream.name, folder / LOCK_NAME)
    return stream


def _is_abandoned(folder: Path) -> bool:
    """Whether it is ours and has a lock that nobody holds; one without is something else, or just being made."""
    try:
        if folder.stat().st_uid != os.getuid():
            return False
        with (folder / LOCK_NAME).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
