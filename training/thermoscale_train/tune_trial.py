"""A trial in its own process, and the folder through which it talks to the tuning that started it.

    settings.toml   what it fits with                 written by the tuning
    scores.jsonl    [step, best RMSE so far]          a line at every evaluation
    stop            an empty file                     written by the tuning: end at the next evaluation
    *.pt            state of the unfinished fit       from which a killed trial goes on
    result.json     written once, at the end

Files, not queues, because both sides may be killed at any moment and what was said must not be lost.
"""

import json
import multiprocessing
import os
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import torch

from thermoscale.errors import Unavailable
from thermoscale_train.tune_problem import Problem

SETTINGS, SCORES, STOP, RESULT = "settings.toml", "scores.jsonl", "stop", "result.json"


@dataclass(frozen=True)
class Result:
    """How a trial ended.

    Attributes:
        status: "completed", "stopped" or "failed". reason: why it failed, else empty.
        rmse: on what was held out, unit of the data. latency_ms: see ``Problem.score``. seconds: of the last process.
    """

    status: str
    seconds: float
    rmse: float | None = None
    latency_ms: float | None = None
    reason: str = ""


def start_worker() -> None:
    """Prepare a process that runs trials: one thread, and never alive longer than the tuning that started it."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def run_trial(problem: Problem, folder: Path) -> None:
    """Fit with the settings in ``folder`` and leave a result there; a trial that has one is not run again."""
    with locked(folder / "lock", wait=True):  # a process of a tuning that was killed may still be ending
        if (folder / RESULT).exists():
            return
        begun = time.perf_counter()
        try:
            score = problem.score(folder / SETTINGS, folder, lambda step, best: _tell(folder, step, best))
            status = "stopped" if _ended_before_its_steps(folder) else "completed"
            result = Result(status, time.perf_counter() - begun, score["rmse"], score["latency_ms"])
        except Exception as error:  # whatever breaks one trial must not end the others
            result = Result("failed", time.perf_counter() - begun, reason=f"{type(error).__name__}: {error}")
        write_atomically(folder / RESULT, json.dumps(asdict(result)))
        for state in folder.glob("*.pt"):
            state.unlink()


def read_scores(folder: Path) -> list[tuple[int, float]]:
    """(step, best RMSE so far), ascending."""
    if not (folder / SCORES).exists():
        return []
    lines = (folder / SCORES).read_text(encoding="utf-8").splitlines()
    return sorted({int(step): float(best) for step, best in map(json.loads, lines)}.items())


def read_result(folder: Path) -> Result | None:
    """How the trial ended; None if it has not."""
    if not (folder / RESULT).exists():
        return None
    return Result(**json.loads((folder / RESULT).read_text(encoding="utf-8")))


def write_atomically(path: Path, text: str) -> None:
    """The old file or the new one is there, never half of one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold ``path`` for this process; the system frees it when the process ends, however it ends.

    Raises:
        Unavailable: another process holds it and ``wait`` is false.
    """
    with path.open("w") as stream:
        try:
            flock(stream, LOCK_EX if wait else LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"another tuning is at work in {path.parent}") from None
        yield


def _ended_before_its_steps(folder: Path) -> bool:
    """Was it stopped? One that was told so at its last evaluation is as good as the others."""
    steps = tomllib.loads((folder / SETTINGS).read_text(encoding="utf-8"))["training"]["steps"]
    return (folder / STOP).exists() and read_scores(folder)[-1][0] < steps


def _tell(folder: Path, step: int, best: float) -> bool:
    said = read_scores(folder)
    lines = [json.dumps(score) for score in [*said, (step, best)]]
    write_atomically(folder / SCORES, "\n".join(lines) + "\n")
    return (folder / STOP).exists()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
