"""The examples of bundle-format.md and wire-format.md run as they stand, the wire's against a real TorchServe."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from thermoscale.release.mar import pack
from thermoscale.server.launcher import TorchServe
from thermoscale.testing.bundles import write_tiny_iustfm

DOCS = Path(__file__).parents[2] / "serving" / "docs"


def run_examples(name: str, address: str = "") -> dict:
    """Run every python and bash block of a document in order, in the current folder; the names they define."""
    text = (DOCS / name).read_text().replace("http://127.0.0.1:8080", address)
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert {language for language, _ in blocks} == {"python", "bash"}
    names: dict = {}
    for language, block in blocks:
        if language == "python":
            exec(compile(block, name, "exec"), names)
        elif shutil.which("curl") is not None:
            subprocess.run(["bash", "-euc", block], check=True, capture_output=True)
    return names


def test_the_examples_of_the_bundle_format_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_examples("bundle-format.md")["service"].pipeline == "iustfm"


@pytest.mark.server
def test_the_examples_of_the_wire_format_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = pack(write_tiny_iustfm(tmp_path / "exported" / "iustfm" / "0.0.1"), tmp_path / "model_store")
    with TorchServe([archive], log_folder=tmp_path / "logs") as server:
        server.wait_ready(120)
        names = run_examples("wire-format.md", server.rest_url)
    np.testing.assert_equal(names["reply"]["lst"].shape, (48, 64))
    assert names["reply"]["meta"]["georeferenced"] is True
