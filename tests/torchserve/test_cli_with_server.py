"""The verbs that need a server: serve, ready, and predict over both wires."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from thermoscale import Service
from thermoscale.cli import main
from thermoscale.server.launcher import TorchServe
from thermoscale.testing.bundles import tiny_amun_config, tiny_amun_request, write_tiny_amun
from thermoscale.wire.npz import encode_npz

pytestmark = pytest.mark.server


@pytest.mark.parametrize("wire", ["--url", "--grpc"])
def test_predict_over_a_wire_writes_what_the_bundle_would(
    server: TorchServe, services: Mapping[str, Service], tmp_path: Path, wire: str
) -> None:
    request = tiny_amun_request(tiny_amun_config())
    (tmp_path / "request.npz").write_bytes(encode_npz(request))
    address = server.rest_url if wire == "--url" else server.grpc_address
    out = tmp_path / "reply.npz"
    assert (
        main(["predict", wire, address, "--model", "amun", "--in", f"{tmp_path}/request.npz", "--out", str(out)]) == 0
    )
    with np.load(out) as reply:
        np.testing.assert_array_equal(reply["lst"], services["amun"].predict(request)["lst"])


def test_ready_asks_workers_and_both_wires(
    server: TorchServe, bundles: Mapping[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--url", server.rest_url, "--grpc", server.grpc_address, "--management", server.management_url]
    assert main(["ready", *map(str, bundles.values()), *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["largest_difference_k"].keys() == {"amun", "iustfm"}


def test_ready_fails_for_a_bundle_that_gives_another_answer(
    server: TorchServe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_tiny_amun(tmp_path / "other", version="7.0.0")
    assert main(["ready", str(other), "--url", server.rest_url, "--management", server.management_url]) == 1
    assert "7.0.0" in capsys.readouterr().err


def test_serve_answers_until_sigterm_and_leaves_nothing(archives: Mapping[str, Path], tmp_path: Path) -> None:
    ports = [f"--{name}-port=0" for name in ("rest", "grpc", "management", "metrics")]
    command = [sys.executable, "-m", "thermoscale.cli", "serve", str(archives["amun"]), *ports, "--json"]
    logs = ["--log-folder", str(tmp_path / "logs")]
    with subprocess.Popen([*command, *logs], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        addresses: dict[str, Any] = json.loads("".join(serving.stdout.readline() for _ in range(6)))
        assert main(["ready", str(archives["amun"]), "--url", addresses["rest"], "--grpc", addresses["grpc"]]) == 0
        children = psutil.Process(serving.pid).children(recursive=True)
        os.kill(serving.pid, signal.SIGTERM)
        assert serving.wait(20) == 0
    assert len(children) >= 2
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert (tmp_path / "logs" / "torchserve.log").stat().st_size > 0
