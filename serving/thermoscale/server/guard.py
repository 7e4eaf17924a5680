"""Ends what a launcher has left behind, even one that was killed: a process of its own that waits for its end.

Run as a script, with the launcher's temporary folder as its argument: it reads standard input, a pipe that only the
launcher can write to, and the end of that file is the end of the launcher. Imports nothing of ours, to be small.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

_PATIENCE_S = 10.0
_POLL_S = 0.02


def clear(folder: Path) -> None:
    """End every process that lives in ``folder``, then remove it; safe to repeat.

    A process lives there if it was told to keep its temporary files there (``TMPDIR``), as TorchServe and its workers
    are, or if it works there without a terminal, as nginx does, which overwrites its environment.
    """
    end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)


def end_processes(folder: Path) -> None:
    """End every process that lives in ``folder``."""
    deadline = time.monotonic() + _PATIENCE_S
    while (found := processes_in(folder)) and time.monotonic() < deadline:  # again: one may have started another
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(_POLL_S)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Living processes that live in ``folder``, without this one."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _lives_in(folder, process)]


def _lives_in(folder: Path, process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error, OSError):  # ended meanwhile, or another user's
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        told = process.environ().get("TMPDIR") == str(folder)
        return told or (process.cwd() == str(folder) and process.terminal() is None)
    return False


def main() -> None:
    """Wait for the end of standard input, then clear the folder; whoever ends all of us must not end this first."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    clear(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
