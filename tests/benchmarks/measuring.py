"""Seconds and megabytes of some calls."""

import ctypes
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def measure(tasks: dict[str, Callable[[], Any]], repeat: int) -> dict[str, dict[str, float]]:
    """Each task in every round; the best and the middle round."""
    walls: dict[str, list[float]] = {name: [] for name in tasks}
    cpus: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeat + 1):
        for name, task in tasks.items():
            say(f"{name} {turn}/{repeat}")
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            task()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if turn:
                walls[name].append(wall)
                cpus[name].append(cpu)
    return {
        name: {"s": min(walls[name]), "median_s": float(np.median(walls[name])), "cpu_s": min(cpus[name])}
        for name in tasks
    }


def extra_mb(task: Callable[[], Any]) -> float:
    """Peak of numpy's memory during one call, beyond what there was before; results included."""
    task()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    task()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - before) / 1e6


def extra_rss_mb(task: Callable[[], Any]) -> float | None:
    """Peak of the process's resident memory during one call, beyond what there was before; None without glibc."""
    task()
    try:
        _give_back()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    except OSError:
        return None
    before = _status_mb("VmRSS")
    task()
    return _status_mb("VmHWM") - before


def anonymous_mb() -> float | None:
    """Resident memory of the process that is no mapped file; None without glibc."""
    try:
        _give_back()
        return _status_mb("RssAnon")
    except OSError:
        return None


def peak_mb() -> float:
    """Peak of this process's resident memory; unlike ``ru_maxrss`` it knows nothing of the process that started it."""
    return _status_mb("VmHWM")


def _give_back() -> None:
    """What is free goes back to the system, so that using it again is seen."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status_mb(name: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e6


def with_ratios(timings: dict[str, dict[str, float]], best_floor: float | None) -> dict[str, dict[str, float]]:
    """Every timing beside the floor."""
    best = timings["floor"]["s"] if best_floor is None else best_floor
    return {name: {**timing, "ratio_to_floor": timing["s"] / best} for name, timing in timings.items()}


def say(text: str) -> None:
    """Progress, where somebody is watching."""
    if sys.stderr.isatty():
        print(f"\r{text:60}", end="", file=sys.stderr, flush=True)
