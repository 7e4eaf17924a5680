"""A launcher's folder and what runs in it end with the launcher, however that ends."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from thermoscale.server.own_folder import OwnFolder

SLEEP = [sys.executable, "-I", "-c", "import time; time.sleep(60)"]
LAUNCHER = """
import subprocess, sys, time
from thermoscale.server.own_folder import OwnFolder
own = OwnFolder()
told = subprocess.Popen(sys.argv[1:], env={"TMPDIR": str(own.path)}, start_new_session=True)
inside = subprocess.Popen(sys.argv[1:], cwd=own.path, start_new_session=True)
print(own.path, own._guard.pid, told.pid, inside.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A temporary folder for this test alone, for this process and its children."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert list(tmp_path.glob("*/lock")) == []


def wait_until(happened: Callable[[], bool]) -> None:
    """Fail after 10 s."""
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether it runs and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ignores(pid: int, number: signal.Signals) -> bool:
    """Whether the process ignores that signal."""
    (mask,) = re.findall(r"SigIgn:\s+([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


def start_launcher() -> tuple[subprocess.Popen[str], Path, int, list[int]]:
    """A launcher with two processes in its folder, the folder, its guard, the two."""
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, *SLEEP], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    path, guard, *inside = launcher.stdout.readline().split()
    return launcher, Path(path), int(guard), [int(pid) for pid in inside]


def kill(launcher: subprocess.Popen[str]) -> None:
    """SIGKILL."""
    with launcher:
        launcher.kill()


def test_a_killed_launcher_leaves_no_process_and_no_folder() -> None:
    launcher, path, guard, inside = start_launcher()
    assert path.is_dir()
    kill(launcher)
    wait_until(lambda: not path.exists() and not any(map(lives, [guard, *inside])))


def test_what_a_launcher_killed_with_its_guard_left_ends_with_the_next_start() -> None:
    launcher, path, guard, inside = start_launcher()
    os.kill(guard, signal.SIGKILL)
    kill(launcher)
    assert path.is_dir()
    assert all(map(lives, inside))
    OwnFolder().remove()
    assert not path.exists()
    wait_until(lambda: not any(map(lives, inside)))


def test_the_folder_of_a_living_launcher_is_left_alone() -> None:
    mine, other = OwnFolder(), OwnFolder()
    assert mine.path.is_dir()
    mine.remove()
    assert other.path.is_dir()
    other.remove()


def test_a_folder_without_a_lock_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thermoscale-of-somebody").mkdir()
    OwnFolder().remove()
    assert (tmp_path / "thermoscale-of-somebody").is_dir()


def test_removing_ends_what_runs_inside_and_the_guard_and_may_be_repeated() -> None:
    own = OwnFolder()
    with subprocess.Popen(SLEEP, cwd=own.path, start_new_session=True) as inside:
        guard = own._guard.pid
        own.remove()
        assert inside.wait(5) == -signal.SIGKILL
    assert not own.path.exists()
    assert not lives(guard)
    own.remove()


def test_a_killed_guard_is_replaced() -> None:
    own = OwnFolder()
    first = own._guard
    first.kill()
    first.wait()
    own.keep_guarded()
    assert lives(own._guard.pid)
    own.remove()


def test_a_guard_outlives_the_signals_that_end_a_whole_service() -> None:
    own = OwnFolder()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    wait_until(lambda: all(ignores(own._guard.pid, number) for number in numbers))
    for number in numbers:
        own._guard.send_signal(number)
    time.sleep(0.1)
    assert own._guard.poll() is None
    own.remove()
