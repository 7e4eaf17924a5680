"""Wait until a server that begins no new work has answered what it had begun.

Measured with TorchServe 0.12: told to end, it lets gRPC calls finish, those in its queue too, but cuts REST requests.
"""

import fcntl
import time
from collections.abc import Iterable
from pathlib import Path

from thermoscale.in_work import LOCKS_NAME, MARK_NAME

_POLL_S = 0.05
_SETTLE_S = 0.3
"""For TorchServe to take an answer from its worker and to write it to the client."""

_ESTABLISHED = "01"


def drain(folder: Path, ports: Iterable[int], timeout_s: float) -> bool:
    """Have the workers refuse new work; wait until earlier work is done and its answers have left our buffers.

    Args:
        folder: temporary folder of the workers.
        ports: on which the answers leave.

    Returns:
        Whether that was reached in time.
    """
    (folder / MARK_NAME).touch()
    deadline = time.monotonic() + timeout_s
    busy = list((folder / LOCKS_NAME).iterdir())
    while busy := [lock for lock in busy if _is_held(lock)]:  # free once: what follows is refused
        if not _sleep(_POLL_S, deadline):
            return False
    _sleep(_SETTLE_S, deadline)
    while _has_unsent(ports):
        if not _sleep(_POLL_S, deadline):
            return False
    return True


def _sleep(seconds: float, deadline: float) -> bool:
    """Whether there was time."""
    time.sleep(max(0.0, min(seconds, deadline - time.monotonic())))
    return time.monotonic() < deadline


def _is_held(lock: Path) -> bool:
    with lock.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _has_unsent(ports: Iterable[int]) -> bool:
    """Whether the kernel still holds bytes that a client has not taken."""
    ours = {f"{port:04X}" for port in ports}
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if local.rpartition(":")[2] in ours and state == _ESTABLISHED and int(queues.partition(":")[0], 16):
            return True
    return False
