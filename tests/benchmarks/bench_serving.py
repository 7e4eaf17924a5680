"""What serving costs: overhead beside an echo, stages of a request, rates borne, memory, and other servers.

    .venv/bin/python tests/benchmarks/bench_serving.py [--parts overhead stages load memory peers] [--quick]

One JSON object on standard output, progress on standard error. A real TorchServe on loopback, started as ``thermoscale
serve`` starts it; bundles of real sizes with random weights, because time does not depend on what they learnt; the
clients of thermoscale.client in this process. Ratios are of one run, in which the compared take turns.

- ``overhead``: client time minus handler time (``meta``), beside a handler that only echoes bytes of the same sizes;
  ``iustfm`` sends a small coarse image and gets a window of that size, ``amun`` (networks that compute next to nothing)
  sends and gets scenes of that size. ``busy`` is the echo staying busy as long as the model's handler; ``ratio_p10``
  compares the tenth percentiles, which a disturbed machine moves less than the medians.
- ``stages``: milliseconds by stage, the network's share of the whole. ``iustfm scene`` brings a new target image with
  every request, the window is of a known one.
- ``load``: the highest rate of I-USTFM windows at random moments with p99 at most 50 ms above p99 without load.
- ``memory``: of worker and JVM after 1,000 and 10,000 I-USTFM windows, of the JVM also after whole scenes.
- ``peers``: networks alone, tensors in and out, in TorchServe, MLServer and LitServe, and in this process: one AMUN
  tile (megabytes, much to compute) and DyNet's ratios of eight clips (a tenth of that, next to nothing to compute).
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import say
from serving_archives import pack_echo, pack_iustfm, pack_light_amun, write_amun
from serving_load import highest_rate
from serving_machine import BenchServer, jvm_pid, memory_mb
from serving_memory import GOAL_GROWTH, growth
from serving_overhead import GOAL_RATIO, overhead
from serving_peers import example, peers
from serving_requests import WINDOW_PX, amun_request, iustfm_request, other_target
from serving_stages import stages

from thermoscale.arrays import FloatArray
from thermoscale.client import GrpcClient, RestClient
from thermoscale.release.mar import pack
from thermoscale.server.setup import JVM_MB
from thermoscale.wire.npz import encode_npz

PARTS = ("overhead", "stages", "memory", "load", "peers")
NEW_TARGET_EVERY = 20
WORKERS = (1, 2)
N_CLIPS = 8


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        side: fine pixels of the I-USTFM scene's side.
        windows: size -> side of the I-USTFM window whose reply has about that size.
        scenes: size -> side of the AMUN scene whose request and reply have about that size.
        rounds: size -> turns of echo and model.
        warm_up: turns of echo and model before that.
        amun_px: sides of the AMUN tile and scene of the stages.
    """

    side: int
    windows: dict[str, int]
    scenes: dict[str, int]
    rounds: dict[str, int]
    warm_up: int
    amun_px: tuple[int, int]
    repeat: int
    load_requests: int
    memory_requests: tuple[int, int]


FULL = Extent(
    side=1434,
    windows={"16 kB": 34, "256 kB": 137, "2 MB": 387, "8 MB": 775},
    scenes={"16 kB": 44, "256 kB": 172, "2 MB": 496, "8 MB": 992},
    rounds={"16 kB": 300, "256 kB": 200, "2 MB": 100, "8 MB": 40},
    warm_up=400,
    amun_px=(256, 512),
    repeat=9,
    load_requests=400,
    memory_requests=(1000, 10_000),
)
QUICK = Extent(
    side=310,
    windows={"16 kB": 34},
    scenes={"16 kB": 44},
    rounds={"16 kB": 6},
    warm_up=1,
    amun_px=(64, 96),
    repeat=2,
    load_requests=10,
    memory_requests=(10, 20),
)


@dataclass(frozen=True, eq=False)
class Place:
    """A folder for archives, that of the I-USTFM scene, its DyNet alone, and a target image."""

    store: Path
    iustfm: Path
    dynet: Path
    coarse: FloatArray

    @classmethod
    def make(cls, folder: Path, side: int) -> "Place":
        """A scene of ``side`` x ``side`` fine pixels."""
        say("bundle of I-USTFM")
        store, cells = folder / "store", max(1, round(side / 31))
        store.mkdir()
        coarse = np.random.default_rng(0).normal(290, 5, (cells, cells)).astype(np.float32)
        return cls(store, pack_iustfm(folder, store, side), folder / "iustfm" / "dynet.onnx", coarse)


@dataclass(frozen=True)
class Running:
    """A ready server and its clients by wire."""

    server: BenchServer
    clients: Mapping[str, RestClient | GrpcClient]


@contextmanager
def serve(archives: list[Path], workers: int = 1) -> Iterator[Running]:
    """Start, wait until ready, stop."""
    with BenchServer(archives, workers=workers) as server:
        say("server starts")
        server.wait_all_ready()
        with GrpcClient(server.grpc_address) as grpc_client:
            yield Running(server, {"rest": RestClient(server.rest_url), "grpc": grpc_client})


def run(extent: Extent, parts: set[str], folder: Path) -> dict[str, Any]:
    """Everything, as one JSON object; each part on a fresh server, so that none meets what another left."""
    place = Place.make(folder, extent.side)
    found: dict[str, Any] = {}
    if "overhead" in parts:
        with serve([place.iustfm, pack_light_amun(folder, place.store), pack_echo(place.store)]) as running:
            found["overhead"] = run_overhead(running, place.coarse, extent)
    if parts & {"stages", "peers"}:
        say("bundle of AMUN")
        amun = write_amun(folder)
    if "stages" in parts:
        with serve([place.iustfm, pack(amun, folder / "amun-store")]) as running:
            found["stages"] = run_stages(running, place.coarse, extent)
    if "peers" in parts:
        networks = {"tile": example(amun / "amun.onnx", 1), "ratios": example(place.dynet, N_CLIPS)}
        found["peers"] = peers(networks, extent.repeat, folder)
    if "memory" in parts:
        with serve([place.iustfm]) as running:
            found["memory"] = run_memory(running, place.coarse, extent)
    if "load" in parts:
        found["load"] = []
        for workers in WORKERS:
            with serve([place.iustfm], workers) as running:
                found["load"].append(run_load(running, place.coarse, extent, workers))
    return found


def run_quick(extent: Extent, folder: Path) -> dict[str, Any]:
    """Every part once, on one server."""
    place = Place.make(folder, extent.side)
    with serve([place.iustfm, pack_light_amun(folder, place.store), pack_echo(place.store)]) as running:
        return {
            "overhead": run_overhead(running, place.coarse, extent),
            "stages": run_stages(running, place.coarse, extent),
            "memory": run_memory(running, place.coarse, extent),
            "load": [run_load(running, place.coarse, extent, workers=1)],
        }


def run_overhead(running: Running, coarse: FloatArray, extent: Extent) -> dict[str, Any]:
    """Small requests with replies of each size, then requests and replies of each size."""
    requests = {f"iustfm {size}": iustfm_request(coarse, px) for size, px in extent.windows.items()}
    requests |= {f"amun {size}": amun_request(px) for size, px in extent.scenes.items()}
    rounds = {name: extent.rounds[name.split(" ", 1)[1]] for name in requests}
    pids = {"client": os.getpid(), "jvm": jvm_pid()}
    return overhead(running.server, running.clients, pids, requests, rounds, extent.warm_up)


def run_stages(running: Running, coarse: FloatArray, extent: Extent) -> dict[str, Any]:
    """Two requests of either pipeline."""
    tile_px, scene_px = extent.amun_px
    requests = {
        "iustfm scene": iustfm_request(coarse, None),
        "iustfm window": iustfm_request(coarse, WINDOW_PX),
        "amun tile": amun_request(tile_px),
        "amun scene": amun_request(scene_px),
    }
    return stages(running.clients, requests, {"iustfm scene"}, extent.repeat)


def run_load(running: Running, coarse: FloatArray, extent: Extent, workers: int) -> dict[str, Any]:
    """Windows over REST."""
    return highest_rate(sender(running.clients["rest"], coarse), workers, extent.load_requests)


def run_memory(running: Running, coarse: FloatArray, extent: Extent) -> dict[str, Any]:
    """One worker, the wires in turn; whole scenes at last, for the JVM, which holds a body several times over."""
    (worker,) = running.server.worker_pids("iustfm")
    senders = [sender(client, coarse) for client in running.clients.values()]
    pids = {"worker": worker, "jvm": jvm_pid()}
    found = growth(lambda number: senders[number % len(senders)](number), pids, *extent.memory_requests)
    scene = {"body": encode_npz(iustfm_request(coarse, None).arrays)}
    for client in running.clients.values():
        for _ in range(extent.repeat):
            client.predict_bytes("iustfm", scene)
    return {**found, "jvm_after_scenes": memory_mb(pids["jvm"]), "jvm_bound_mib": JVM_MB}


def sender(client: RestClient | GrpcClient, coarse: FloatArray) -> Any:
    """Sends windows anywhere in the scene; now and then of a new target image."""

    def send(number: int) -> bytes:
        request = other_target(iustfm_request(coarse, WINDOW_PX, seed=number), number // NEW_TARGET_EVERY)
        return client.predict_bytes(request.model, {"body": encode_npz(request.arrays)})

    return send


def goals(found: Mapping[str, Any]) -> dict[str, Any]:
    """What serving is to reach, and whether this run reached it."""
    reached: dict[str, Any] = {}
    if "overhead" in found:
        for name, entry in found["overhead"].items():
            reached[f"overhead {name}"] = {
                "goal": GOAL_RATIO,
                "ratio": entry["ratio"],
                "reached": entry["ratio"] <= GOAL_RATIO,
            }
    if "memory" in found:
        for kind in ("rss", "uss"):
            grown = found["memory"]["worker"][f"growth_{kind}"]
            reached[f"memory {kind}"] = {"goal": GOAL_GROWTH, "growth": grown, "reached": grown <= GOAL_GROWTH}
        most = max(found["memory"]["jvm"]["after_many"]["rss_mb"], found["memory"]["jvm_after_scenes"]["rss_mb"])
        bound_mb = JVM_MB * 2**20 / 1e6
        reached["memory jvm"] = {"goal_mb": bound_mb, "mb": most, "reached": most <= bound_mb}
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="a few requests of every part: to see that it runs")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended on the way out
    with tempfile.TemporaryDirectory() as folder:
        found = run_quick(QUICK, Path(folder)) if args.quick else run(FULL, set(args.parts), Path(folder))
    say("")
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg(), "numpy": np.__version__}
    print(json.dumps({"schema_version": 1, "machine": machine, **found, "goals": goals(found)}, indent=2))


if __name__ == "__main__":
    main()
