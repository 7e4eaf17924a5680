"""thermoscale serves without torch: the third guard, after ruff and import-linter, is a Python that has none."""

import importlib.metadata
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from thermoscale.testing.bundles import write_tiny_amun, write_tiny_iustfm

SERVING = Path(__file__).parents[2] / "serving"
EDGE_PACKAGES = ("numpy", "onnxruntime")

PREDICT = """
import importlib.util, sys
assert importlib.util.find_spec("torch") is None, "this environment was meant to have no torch"
from thermoscale import open_bundle
for folder in sys.argv[1:]:
    service = open_bundle(folder)
    print(service.manifest.pipeline, "ready")
"""


def link_distribution(name: str, site_packages: Path) -> None:
    """Make the installed distribution ``name`` importable from ``site_packages``."""
    installed = importlib.metadata.distribution(name)
    for top in {Path(file).parts[0] for file in installed.files or [] if ".." not in Path(file).parts}:
        if not top.endswith(".dist-info") and top != "__pycache__":
            (site_packages / top).symlink_to(installed.locate_file(top))


@pytest.fixture(scope="module")
def edge_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with numpy, onnxruntime and thermoscale, and nothing else."""
    folder = tmp_path_factory.mktemp("edge")
    venv.create(folder, with_pip=False, symlinks=True)
    site_packages = folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    for name in EDGE_PACKAGES:
        link_distribution(name, site_packages)
    (site_packages / "thermoscale").symlink_to(SERVING / "thermoscale")
    return folder / "bin/python"


def test_both_pipelines_open_and_pass_their_golden_sample_without_torch(edge_python: Path, tmp_path: Path) -> None:
    folders = [write_tiny_amun(tmp_path / "amun"), write_tiny_iustfm(tmp_path / "iustfm")]
    done = subprocess.run([edge_python, "-c", PREDICT, *map(str, folders)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["amun ready", "iustfm ready"]


def test_no_file_of_the_serving_side_names_torch_in_an_import() -> None:
    guilty = [
        path
        for path in SERVING.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import torch", "from torch"))
    ]
    assert guilty == []


def test_the_command_line_needs_the_extra_serve_for_serve_alone(edge_python: Path, tmp_path: Path) -> None:
    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [edge_python, "-m", "thermoscale.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)

    verified = run("verify", write_tiny_amun(tmp_path / "amun"))
    assert verified.returncode == 0, verified.stderr
    served = run("serve", "none.mar")
    assert served.returncode == 1
    assert "pip install 'thermoscale[serve]'" in served.stderr
