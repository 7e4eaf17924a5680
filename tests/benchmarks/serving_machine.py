"""The server of the benchmark, and what its processes cost."""

import time
from pathlib import Path

import psutil
from serving_archives import ECHO, VERSION

from thermoscale.client import RestClient
from thermoscale.launcher import TorchServe
from thermoscale.readiness import Golden, read_workers


class BenchServer(TorchServe):
    """TorchServe as ``thermoscale serve`` starts it, which also takes the echo's archive."""

    def _add_archive(self, path: Path) -> None:
        if path.stem != ECHO:
            return super()._add_archive(path)
        self.goldens[ECHO], self._archives[ECHO] = Golden(ECHO, VERSION, {}, {}), path
        return None

    def wait_all_ready(self) -> None:
        """Golden answers of the models; the echo has none, its worker must be there."""
        self.wait_ready(models=[model for model in self.goldens if model != ECHO])
        while ECHO in self.goldens and not self._has_ready_workers(self.goldens[ECHO]):
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
