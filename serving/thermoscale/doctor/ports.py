"""Checks of the ports: free, or held by whom."""

import errno
import os
import socket
from pathlib import Path

from thermoscale.doctor.finding import FAIL, OK, Finding

_LISTEN = "0A"  # state of a socket in /proc/net/tcp


def check_port(use: str, port: int, host: str = "127.0.0.1") -> Finding:
    """``port`` of ``host`` can be listened on."""
    name = f"port {port} ({use})"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed one does not count
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return Finding(name, FAIL, f"{error.strerror}", f"choose another with --{use}-port")
            return Finding(name, FAIL, f"taken by {holder(port)}", f"stop that, or choose another with --{use}-port")
    return Finding(name, OK, "free")


def holder(port: int) -> str:
    """Process id and command line of whoever listens on ``port``, as far as we may know."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(descriptor) in sockets for descriptor in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                return f"process {process.name}: {command[:80]}"
        except OSError:  # another user's, or it has just ended
            continue
    return "a process of another user"


def _listening(port: int) -> list[str]:
    """Inodes of the sockets that listen on ``port``. Format: proc_pid_net(5)."""
    inodes = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        lines = Path(table).read_text("ascii").splitlines()[1:] if Path(table).exists() else []
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.append(fields[9])
    return inodes
