"""What metrics and logs cost one request: none, ours, and TorchServe's own ``context.metrics``, in turn on one server.

``python tests/benchmarks/bench_report.py [--rounds 30]`` prints one JSON object: REST round trip and processor time of
the worker and of Java for each request.
"""

import argparse
import http.client
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from thermoscale.release.mar import pack
from thermoscale.server.launcher import TorchServe
from thermoscale.testing.archives import altered
from thermoscale.testing.bundles import tiny_amun_config, tiny_amun_request, write_tiny_amun
from thermoscale.wire.npz import encode_npz

BLOCK = 20
WAYS = ("none", "ours", "context")
HANDLER = '''
import logging
import re
import types

from thermoscale.torchserve import BundleHandler
from thermoscale.torchserve_report import Report


class MeasuredHandler(BundleHandler):
    """Reports a request in the way that its header names."""

    pipeline = "amun"

    def initialize(self, context):
        from ts.metrics.metric_type_enum import MetricTypes

        super().initialize(context)
        logging.getLogger("ts.metrics.caching_metric").setLevel(logging.INFO)
        none = types.SimpleNamespace(answered=lambda *_: None)
        one_by_one = Report("amun", "0.0.1")
        line = re.compile(r"\\[METRICS\\](\\w+)\\.\\w+:([^|]+)\\|#([^|]+)\\|#type:(\\w+)")

        def write(lines):
            for name, value, labels, kind in line.findall(lines):
                metric = context.metrics.get_metric(name, MetricTypes[kind])
                metric.add_or_update(float(value), [label.split(":")[1] for label in labels.split(",")])

        one_by_one._write = write
        self._ways = {"none": none, "ours": self._report, "context": one_by_one}

    def handle(self, data, context):
        way = context.get_all_request_header(0).get("way", "ours")
        self._report = self._ways[way]
        return super().handle(data, context)
'''


def pack_measured(folder: Path) -> Path:
    """A tiny AMUN archive with that handler."""
    archive = pack(write_tiny_amun(folder / "bundle"), folder / "store")
    return altered(archive, folder / "amun.mar", {"amun_handler.py": HANDLER})


def cpu_ms(process: int) -> float:
    """Processor time of all threads of a process, to the nanosecond."""
    tasks = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6


def measure(server: TorchServe, rounds: int) -> dict[str, dict[str, float]]:
    """Blocks of requests, one way after the other, round by round; the first round is not counted."""
    worker = server.workers("amun")[0].pid
    processes = {"worker_cpu_ms": worker, "java_cpu_ms": psutil.Process(worker).ppid()}
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=60)
    body = encode_npz(tiny_amun_request(tiny_amun_config()))
    walls: dict[str, list[float]] = {way: [] for way in WAYS}
    cpus: dict[str, dict[str, float]] = {way: dict.fromkeys(processes, 0.0) for way in WAYS}
    for turn in range(rounds + 1):
        for way in WAYS:
            before = {name: cpu_ms(process) for name, process in processes.items()}
            for _ in range(BLOCK):
                start = time.perf_counter()
                connection.request("POST", "/predictions/amun", body, {"way": way})
                answer = connection.getresponse()
                if answer.status != 200 or not answer.read():
                    raise RuntimeError(f"status {answer.status}")
                if turn:
                    walls[way].append(1000.0 * (time.perf_counter() - start))
            if turn:
                for name, process in processes.items():
                    cpus[way][name] += (cpu_ms(process) - before[name]) / (BLOCK * rounds)
    return {way: {"p50_ms": float(np.median(walls[way])), **cpus[way]} for way in WAYS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help=f"of {BLOCK} requests each, default %(default)s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, TorchServe([pack_measured(Path(folder))], workers=1) as server:
        server.wait_ready()
        rows = measure(server, args.rounds)
    print(json.dumps({way: {name: round(value, 3) for name, value in row.items()} for way, row in rows.items()}))


if __name__ == "__main__":
    main()
