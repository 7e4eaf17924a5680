"""What one further worker of an I-USTFM bundle costs in memory: its library is mapped, and shared with the first.

``python tests/benchmarks/bench_worker_memory.py [--side 1434]`` prints one JSON object. Each worker is a process that
opens the bundle and answers a window and the whole scene; memory is read from /proc while all are idle.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from serving_archives import pack_iustfm

_WORKER = """
import sys
import numpy as np
from thermoscale import open_bundle

service = open_bundle(sys.argv[1])
golden = service.predict_bytes({"body": service.golden_request()})
whole = {name: value for name, value in service._golden_inputs.items() if name != "window"}
service.predict(whole)
service.predict_bytes({"body": service.golden_request(), "reply": b"geotiff"})
print("ready", flush=True)
sys.stdin.read()
"""


def start(bundle: Path) -> subprocess.Popen[str]:
    """A worker that has answered and waits."""
    command = [sys.executable, "-c", _WORKER, str(bundle)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    if worker.stdout.readline() != "ready\n":
        raise RuntimeError("a worker did not become ready; see above")
    return worker


def memory_mb(pid: int) -> dict[str, float]:
    """Of one process: all pages, its share of them, those that nobody else has, and of these the mapped region's."""
    sums = dict.fromkeys(("rss", "pss", "private", "region_private", "region_rss"), 0)
    in_region = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):
            in_region = line.rstrip().endswith(".npy")
        elif key in ("Rss:", "Pss:", "Private_Clean:", "Private_Dirty:"):
            kind, kib = key[:-1].split("_")[0].lower(), int(rest[0])
            sums[kind] += kib
            if in_region and kind != "pss":
                sums[f"region_{kind}"] += kib
    return {name: round(kib / 1024, 1) for name, kib in sums.items()}


def run(side: int, folder: Path) -> dict[str, Any]:
    """The first worker alone, then beside a second and a third."""
    (folder / "store").mkdir()
    pack_iustfm(folder, folder / "store", side)
    bundle = folder / "iustfm-bundle"
    workers: list[subprocess.Popen[str]] = []
    found: list[list[dict[str, float]]] = []
    try:
        for _ in range(3):
            workers.append(start(bundle))
            found.append([memory_mb(worker.pid) for worker in workers])
    finally:
        for worker in workers:
            worker.communicate("")
    region = sum(path.stat().st_size for path in (bundle / "region").iterdir()) / 2**20
    return {
        "schema_version": 1,
        "setting": {"side_px": side, "region_mb": round(region, 1)},
        "alone_mb": found[0][0],
        "second_mb": found[1][1],
        "third_mb": found[2][2],
        "pss_of_all_mb": [round(sum(worker["pss"] for worker in each), 1) for each in found],
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1434, help="fine pixels of a side (default %(default)s)")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(parser.parse_args().side, Path(folder)), indent=2))


if __name__ == "__main__":
    main()
