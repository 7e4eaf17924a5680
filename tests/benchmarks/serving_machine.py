"""The server of the benchmark, what its processes cost, and percentiles."""

import time
from pathlib import Path

import numpy as np
import psutil
from serving_archives import VERSION

from thermoscale.arrays import Array
from thermoscale.client import RestClient
from thermoscale.errors import Unavailable
from thermoscale.server.launcher import TorchServe
from thermoscale.server.readiness import Golden, read_workers

START_S = 300.0


class BenchServer(TorchServe):
    """TorchServe as ``thermoscale serve`` starts it, which also takes archives without a bundle, ``<model>.mar``."""

    def _add_archive(self, path: Path) -> None:
        if "-" in path.stem:  # <pipeline>-<version>.mar
            return super()._add_archive(path)
        self.goldens[path.stem], self._archives[path.stem] = Golden(path.stem, VERSION, {}, {}), path
        return None

    def wait_all_ready(self) -> None:
        """Golden answers of the bundles; what has no bundle needs its worker.

        Raises:
            Unavailable: not in time.
        """
        deadline = time.monotonic() + START_S
        bundles = [model for model, golden in self.goldens.items() if golden.outputs]
        if bundles:
            self.wait_ready(START_S, bundles)
        while not all(self._has_ready_workers(golden) for golden in self.goldens.values()):
            if time.monotonic() > deadline:
                raise Unavailable(self.log_tail())
            time.sleep(0.1)

    def worker_pids(self, model: str) -> list[int]:
        """The Python processes of ``model``."""
        return [worker.pid for worker in read_workers(RestClient(self.management_url), model, VERSION)]


def jvm_pid() -> int:
    """The one Java process below this one."""
    (pid,) = [child.pid for child in psutil.Process().children(recursive=True) if child.name() == "java"]
    return pid


def cpu_s(pid: int) -> float:
    """Processor time of all threads of a process so far, with the resolution of the scheduler.

    The clock of another process: https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html
    """
    return time.clock_gettime((~pid) << 3 | 2)


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory, and the part that no other process shares."""
    found = psutil.Process(pid).memory_full_info()
    return {"rss_mb": found.rss / 1e6, "uss_mb": found.uss / 1e6}


def percentiles(values: Array) -> dict[str, float]:
    """p50, p95 and p99."""
    return {f"p{share}_ms": float(np.percentile(values, share)) for share in (50, 95, 99)}
