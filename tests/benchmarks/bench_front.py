"""What the front adds to a request: client time through nginx (TLS, key, limits) beside the client time without it.

An echo behind TorchServe, the same client and connection reuse on both ways, turn by turn; REST over HTTP/1.1 and gRPC.
The processor time of nginx's workers for one request hardly depends on what else the machine does.

    python tests/benchmarks/bench_front.py --json front.json
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from serving_archives import ECHO, pack_echo
from serving_machine import BenchServer, cpu_s
from serving_overhead import echo_body

from thermoscale.client import GrpcClient, RestClient
from thermoscale.server.front import Front
from thermoscale.server.front_setup import FrontLimits, Tls
from thermoscale.server.setup import free_ports

KEY = "benchmark"
SIZES = {"16 kB": (16_000, 300), "8 MB": (8_000_000, 40)}
WARM_UP = 10
UNLIMITED = FrontLimits(rate_per_s=100_000, burst=100_000)


def open_front(folder: Path, server: BenchServer) -> tuple[Front, Path]:
    """A front before ``server``, not started, and its certificate."""
    folder.chmod(0o755)  # nginx's workers are another user
    keys, tls = folder / "keys", Tls(folder / "cert.pem", folder / "key.pem")
    keys.write_text(f"{hashlib.sha256(KEY.encode()).hexdigest()}  benchmark\n")
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(tls.key), "-out", str(tls.certificate)]
    subprocess.run(["openssl", "req", *kind, *names, *files], check=True, capture_output=True, timeout=30)
    front = Front(
        rest=urlsplit(server.rest_url).netloc,
        grpc=server.grpc_address,
        management=urlsplit(server.management_url).netloc,
        keys=keys,
        tls=tls,
        host="127.0.0.1",
        port=free_ports().rest,
        limits=UNLIMITED,
    )
    return front, tls.certificate


def compare(
    clients: Mapping[str, RestClient | GrpcClient], nginx: Sequence[int], body: bytes, rounds: int
) -> dict[str, Any]:
    """Milliseconds of each client, turn by turn; who comes first changes. ``nginx``: its workers."""
    times: dict[str, list[float]] = {name: [] for name in clients}
    names = list(clients)
    before_s = sum(map(cpu_s, nginx))
    for turn in range(-WARM_UP, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            reply = clients[name].predict_bytes(ECHO, {"body": body})
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
            assert len(reply) == len(body)
    found: dict[str, Any] = {
        name: {f"p{share}_ms": round(float(np.percentile(values, share)), 2) for share in (50, 95)}
        for name, values in times.items()
    }
    found["nginx_cpu_ms"] = round(1e3 * (sum(map(cpu_s, nginx)) - before_s) / (WARM_UP + rounds), 3)
    found["added_p50_ms"] = round(found["front"]["p50_ms"] - found["direct"]["p50_ms"], 2)
    return {"rounds": rounds, **found}


def measure(folder: Path) -> dict[str, Any]:
    """Both wires, every size."""
    with BenchServer([pack_echo(folder)], workers=1) as server:
        server.wait_all_ready()
        front, ca = open_front(folder, server)
        address = urlsplit(front.url).netloc
        with (
            front,
            GrpcClient(server.grpc_address) as grpc_direct,
            GrpcClient(address, key=KEY, ca=ca) as grpc_front,
        ):
            wires = {
                "rest": {"direct": RestClient(server.rest_url), "front": RestClient(front.url, key=KEY, ca=ca)},
                "grpc": {"direct": grpc_direct, "front": grpc_front},
            }
            nginx = [worker.pid for worker in psutil.Process(front.pid).children()]
            return {
                f"{wire} {name}": compare(clients, nginx, echo_body(n_bytes, n_bytes, 0.0), rounds)
                for wire, clients in wires.items()
                for name, (n_bytes, rounds) in SIZES.items()
            }


def main() -> None:
    """Print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        found = measure(Path(temp))
    for name, row in found.items():
        direct, through, added = row["direct"]["p50_ms"], row["front"]["p50_ms"], row["added_p50_ms"]
        print(
            f"{name:11} p50 direct {direct:8.2f}, front {through:8.2f}, added {added:7.2f} ms; "
            f"nginx cpu {row['nginx_cpu_ms']:6.2f} ms"
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
