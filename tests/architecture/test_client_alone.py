"""A machine that only asks needs numpy; for gRPC also grpcio and protobuf, and what grpcio itself needs."""

import importlib.metadata
import re
import subprocess
import sys
import venv
from pathlib import Path

SERVING = Path(__file__).parents[2] / "serving"
_NAMESPACES = ("google",)  # folders that distributions share

REST = """
from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import Unavailable
try:
    RestClient("http://127.0.0.1:9", retries=0).predict("amun", {"coarse": [[290.0]]})
except Unavailable as error:
    print(error)
try:
    GrpcClient("127.0.0.1:9")
except Unavailable as error:
    print(error)
"""
GRPC = """
from thermoscale.client import GrpcClient
from thermoscale.errors import Unavailable
with GrpcClient("127.0.0.1:9", retries=0) as client:
    try:
        client.predict("amun", {"coarse": [[290.0]]})
    except Unavailable as error:
        print(error)
"""


def needs_of(name: str) -> set[str]:
    """The distribution and all that it needs without an extra."""
    needs = {name}
    for line in importlib.metadata.requires(name) or []:
        if "extra ==" not in line:
            needs |= needs_of(re.split(r"[ ;<>=!~(\[]", line)[0])
    return needs


def make_python(folder: Path, *names: str) -> Path:
    """An environment with thermoscale and the distributions ``names``, linked from this one, and nothing else."""
    venv.create(folder, with_pip=False, symlinks=True)
    site_packages = folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    for name in names:
        installed = importlib.metadata.distribution(name)
        files = [Path(file).parts for file in installed.files or [] if ".." not in Path(file).parts]
        for parts in {file[:2] if file[0] in _NAMESPACES else file[:1] for file in files}:
            place = site_packages.joinpath(*parts)
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(installed.locate_file(Path(*parts)))
    (site_packages / "thermoscale").symlink_to(SERVING / "thermoscale")
    return folder / "bin/python"


def said(python: Path, script: str) -> list[str]:
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_rest_needs_numpy_alone_and_grpc_says_what_it_needs(tmp_path: Path) -> None:
    first, second = said(make_python(tmp_path, "numpy"), REST)
    assert first.startswith("no answer from http://127.0.0.1:9/predictions/amun")
    assert "thermoscale[client]" in second


def test_grpc_needs_what_the_extra_names(tmp_path: Path) -> None:
    named = importlib.metadata.requires("thermoscale") or []
    extra = sorted(re.split(r"[<>=; ]", line)[0] for line in named if re.search(r"extra == .client", line))
    assert extra == ["grpcio", "protobuf"]
    python = make_python(tmp_path, "numpy", *set().union(*map(needs_of, extra)))
    (line,) = said(python, GRPC)
    assert "127.0.0.1:9" in line
