"""Wait until a server that takes no new work has answered what it had begun.

Measured with TorchServe 0.12: told to end, it lets gRPC calls finish, those in its queue too, but cuts REST requests.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from thermoscale.draining import MARK_NAME

_SAMPLE_S = 0.1
_QUIET_SAMPLES = 3
"""A worker never computes for so long without using the processor, and waits for a request without using it at all."""

_ESTABLISHED = "01"


def drain(folder: Path, workers: Sequence[int], ports: Iterable[int], timeout_s: float) -> bool:
    """Have the workers refuse new work; wait until earlier work is done and its answers have left our buffers.

    Args:
        folder: temporary folder of the workers.
        workers: process ids.
        ports: on which the answers leave.

    Returns:
        Whether that was reached in time.
    """
    mark = folder / MARK_NAME
    mark.touch()
    deadline = time.monotonic() + timeout_s
    quiet = dict.fromkeys(workers, 0)
    before = {pid: _work_of(pid) for pid in workers}
    while quiet or _has_unsent(ports):
        if time.monotonic() > deadline:
            return False
        time.sleep(_SAMPLE_S)
        for pid in list(quiet):
            now = _work_of(pid)
            quiet[pid] = quiet[pid] + 1 if now is not None and now == before[pid] else 0
            before[pid] = now
            if quiet[pid] >= _QUIET_SAMPLES or Path(f"{mark}-{pid}").exists() or not psutil.pid_exists(pid):
                del quiet[pid]  # whatever it does from now on, it refuses
    return True


def _work_of(pid: int) -> float | None:
    """Processor seconds of a sleeping process; None: it is running, waits for the disk, or has ended."""
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_SLEEPING:
            return None
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return None
    return times.user + times.system


def _has_unsent(ports: Iterable[int]) -> bool:
    """Whether the kernel still holds bytes that a client has not taken."""
    ours = {f"{port:04X}" for port in ports}
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if local.rpartition(":")[2] in ours and state == _ESTABLISHED and int(queues.partition(":")[0], 16):
            return True
    return False
