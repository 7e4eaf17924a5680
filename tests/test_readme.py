"""Every command of the README runs: the make targets are its plain lines, the others work on what a demo made."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from thermoscale_train.demo import Places

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)]
MAKE, PLAIN, OFFLINE, SERVE, ONLINE = BLOCKS
(PYTHON,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def words(command: str) -> list[str]:
    return shlex.split(command.replace(".venv/bin/", ""))


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        words(command), cwd=folder, env=environment(), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def demo_folder(summary: Mapping[str, Any], places: Places) -> Path:
    """Where a quick demo has run: the same files as after `make demo`."""
    return places.exported.parent


@pytest.fixture(scope="module")
def server(demo_folder: Path) -> Iterator[Path]:
    """The README's own server line, running."""
    (command,) = SERVE
    run(OFFLINE[2], demo_folder)
    process = subprocess.Popen(words(command), cwd=demo_folder, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("rest"), "the server did not become ready"
    yield demo_folder
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_plain_lines_are_what_make_does() -> None:
    assert MAKE == ["make demo", "make test"]
    planned = subprocess.run(
        ["make", "--no-print-directory", "-n", "-B", "demo", "test", "PYTHON=python3"],
        cwd=ROOT, env={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": "0"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    lines = [line for line in planned.stdout.splitlines() if not line.startswith("touch")]
    assert lines == PLAIN


@pytest.mark.parametrize("command", OFFLINE)
def test_a_command_runs_on_what_the_demo_made(command: str, demo_folder: Path) -> None:
    run(command, demo_folder)


def test_the_python_lines_run(demo_folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PYTHON], cwd=demo_folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(60, 60)")


@pytest.mark.server
@pytest.mark.parametrize("command", ONLINE)
def test_a_command_reaches_the_server(command: str, server: Path) -> None:
    if shutil.which(words(command)[0]) is None and command.startswith("curl"):
        pytest.skip("curl is not installed")
    run(command, server)


@pytest.mark.server
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_without_its_header_is_told_the_header(server: Path) -> None:
    (command,) = [line for line in ONLINE if line.startswith("curl")]
    header = "Content-Type: application/octet-stream"
    bare = [word for word in words(command.replace("-sSf", "-s")) if word not in ("-H", header)]
    subprocess.run(bare, cwd=server, timeout=60, check=True)
    answer = json.loads((server / "build" / "reply.npz").read_bytes())
    assert answer["code"] == 400
    assert header in answer["message"]
