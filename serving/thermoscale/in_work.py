"""Which workers have a request in work, and the mark of a server that is about to end.

TorchServe 0.12 cannot be told to take no more requests, nor does it say which of them are being computed. So each
worker holds a lock while it computes, and refuses what is not begun once the launcher has left its mark
(:mod:`thermoscale.server.drain`). Workers find both in their temporary folder, which is their launcher's; without that
folder, in a server that another launcher started, there is nothing to hold and nothing to look for.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from thermoscale.errors import Unavailable

LOCKS_NAME = "in_work"
MARK_NAME = "draining"


@contextmanager
def in_work() -> Iterator[None]:
    """Hold this process's lock; the kernel frees it should the process die.

    Raises:
        Unavailable: the launcher is about to end.
    """
    folder = tempfile.gettempdir()
    lock = _lock_in(folder)
    if lock is None:
        yield
        return
    fcntl.flock(lock, fcntl.LOCK_EX)  # before the look: whoever leaves the mark then sees the lock
    try:
        if os.access(f"{folder}/{MARK_NAME}", os.F_OK):
            raise Unavailable("the server is about to end and computed nothing; try again later")
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


@cache
def _lock_in(folder: str) -> int | None:
    locks = Path(folder, LOCKS_NAME)
    return os.open(locks / str(os.getpid()), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC) if locks.is_dir() else None
