"""The first guard: ruff refuses imports that would break the arrows."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("serving/thermoscale/example.py", "import torch"),
        ("serving/thermoscale/example.py", "from thermoscale_train import config"),
        ("training/thermoscale_train/example.py", "import serving"),
        ("training/thermoscale_train/example.py", "import training"),
    ],
)
def test_a_banned_import_is_refused(path: str, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", path, "--select", "TID251", "-"],
        input=f'"""Doc."""\n\n{line}\n', capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "TID251" in done.stdout


def test_training_may_import_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--stdin-filename", "training/thermoscale_train/example.py",
         "--select", "TID251", "-"],
        input="import torch\n", capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
