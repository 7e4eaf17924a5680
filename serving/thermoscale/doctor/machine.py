"""Checks of the machine: Python, clock, memory, folders."""

import contextlib
import ctypes
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

from thermoscale.doctor.finding import FAIL, OK, WARN, Finding
from thermoscale.server.setup import JVM_MB

OLDEST_PYTHON, LOCKED_PYTHON = (3, 11), (3, 11)
JVM_REST_MB, WORKER_MB = 280, 130
"""At rest, measured: docs/operations.md."""

ROOM_MB = 512
"""Unpacked archives, and logs, which roll."""

_UNSYNCHRONIZED = 5  # TIME_ERROR of adjtimex(2)
_CGROUP = Path("/sys/fs/cgroup")


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The version that runs this."""
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Finding("python", FAIL, f"{text}, needed 3.11 or later", "install Python 3.11 and thermoscale there")
    if version[:2] != LOCKED_PYTHON:
        return Finding("python", WARN, f"{text}; constraints.txt was tried on 3.11", "run the tests, or use 3.11")
    return Finding("python", OK, f"{text}, {platform.machine()}")


def check_clock(now: float | None = None) -> Finding:
    """Requests say until when they are waited for: clocks of clients and servers have to agree."""
    step = "set the clock and keep it set: timedatectl set-ntp true, or chrony"
    now = time.time() if now is None else now
    built = Path(__file__).stat().st_mtime
    if now < built - 86400:
        return Finding("clock", FAIL, f"{_utc(now)}, before this file was installed ({_utc(built)})", step)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "adjtimex") and libc.adjtimex(ctypes.create_string_buffer(1024)) == _UNSYNCHRONIZED:
        return Finding("clock", WARN, f"{_utc(now)}, which the kernel does not know to be synchronized", step)
    return Finding("clock", OK, f"{_utc(now)}, synchronized")


def check_memory(workers: int, available_mb: int) -> Finding:
    """For ``workers`` processes and the JVM."""
    rest_mb, most_mb = JVM_REST_MB + workers * WORKER_MB, JVM_MB + workers * WORKER_MB
    text = f"{available_mb} MB free; {workers} workers and the JVM take {rest_mb} MB at rest"
    if available_mb < rest_mb:
        return Finding("memory", FAIL, text, "free some, or start fewer workers (--workers)")
    if available_mb < most_mb:
        return Finding(
            "memory",
            WARN,
            f"{text}, {most_mb} MB when the JVM is full",
            "free some, start fewer workers, or let the front take only smaller requests",
        )
    return Finding("memory", OK, text)


def available_memory_mb() -> int:
    """What is free, of the machine or of the control group that limits us."""
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) // 1024
    with contextlib.suppress(OSError, ValueError):  # no such limit: no file, or "max"
        limit = int((_CGROUP / "memory.max").read_text("ascii"))
        free = min(free, (limit - int((_CGROUP / "memory.current").read_text("ascii"))) >> 20)
    return free


def check_folder(name: str, folder: Path, room_mb: int = ROOM_MB) -> Finding:
    """A folder that is written to, or will be made."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(bytes(1 << 16))
            probe.flush()
    except OSError as error:
        return Finding(
            name, FAIL, f"{folder}: {error.strerror}", f"choose another, or make room and rights in {nearest}"
        )
    free_mb = shutil.disk_usage(nearest).free >> 20
    text = f"{folder}: {free_mb} MB free, needed {room_mb}"
    return Finding(name, OK, text) if free_mb >= room_mb else Finding(name, FAIL, text, f"make room in {nearest}")


def check_sockets(folder: Path) -> Finding:
    """Workers listen on sockets in the temporary folder; a long path is too long for the name of one."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="thermoscale-", dir=folder) as own,
            socket.socket(socket.AF_UNIX) as probe,
        ):
            probe.bind(os.path.join(own, ".ts.sock.65535"))
    except OSError as error:
        return Finding(
            "worker sockets", FAIL, f"{folder}: {error.strerror or error}", "set TMPDIR to a short path on a local disk"
        )
    return Finding("worker sockets", OK, f"can be made in {folder}")


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
