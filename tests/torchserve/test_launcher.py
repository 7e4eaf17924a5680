"""A server ends when it should, says why when it should not have, and leaves nothing behind."""

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from processes import of_group

from thermoscale.errors import BundleError, Unavailable
from thermoscale.server.launcher import TorchServe
from thermoscale.server.readiness import read_golden_of
from thermoscale.server.setup import PORTS, free_ports

pytestmark = pytest.mark.server


def group_with_a_worker(server: TorchServe) -> int:
    """The server's process group, once there is a worker to leave behind."""
    assert server._process is not None
    while len(of_group(server._process.pid)) < 2:
        server._require_alive()
        time.sleep(0.05)
    return server._process.pid


def test_an_exception_inside_leaves_no_process_and_no_folder(archives: Mapping[str, Path]) -> None:
    with contextlib.suppress(KeyboardInterrupt), TorchServe([archives["amun"]]) as server:
        group, temp = group_with_a_worker(server), server.folder
        raise KeyboardInterrupt
    assert of_group(group) == []
    assert not temp.exists()


def test_a_killed_java_is_noticed_and_its_workers_end_with_it(archives: Mapping[str, Path]) -> None:
    with TorchServe([archives["amun"]]) as server:
        group = group_with_a_worker(server)
        os.kill(group, signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(Unavailable, match="ended with code -9"):
            server.wait_ready()
        assert time.monotonic() - start < 5
    assert of_group(group) == []


def test_a_java_that_cannot_start_is_reported_with_its_own_words(archives: Mapping[str, Path], tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"(?s)ended with code 1.*heap"):  # noqa: SIM117
        with TorchServe([archives["amun"]], heap_mb=1, log_folder=tmp_path) as server:
            server.wait_ready()
    assert time.monotonic() - start < 10
    assert (tmp_path / "jvm.log").exists()


def test_two_archives_of_one_model_are_refused(archives: Mapping[str, Path]) -> None:
    with pytest.raises(BundleError, match="both hold amun"):
        TorchServe([archives["amun"], archives["amun"]])


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.mar").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(BundleError, match=r"some\.mar is no archive"):
        TorchServe([tmp_path / "some.mar"])


def test_the_golden_sample_of_an_archive_is_that_of_its_bundle(
    archives: Mapping[str, Path], bundles: Mapping[str, Path]
) -> None:
    packed, folder = read_golden_of(archives["iustfm"]), read_golden_of(bundles["iustfm"])
    assert (packed.model, packed.version) == (folder.model, folder.version) == ("iustfm", "0.0.1")
    assert packed.inputs.keys() == folder.inputs.keys()


def test_free_ports_are_distinct_and_given_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    few = PORTS[4000:4020]
    monkeypatch.setattr("thermoscale.server.setup.PORTS", few)
    ports = free_ports(rest=few[0])
    others = {ports.grpc, ports.management, ports.grpc_management, ports.metrics, ports.worker}
    assert ports.rest == few[0]
    assert len(others - {few[0]}) == 5
    assert all(port in few for port in others)
