"""kill -9: of a worker, of the server, of the launcher."""

import contextlib
import time

import psutil

from drills.engine import Engine, living, processes_under
from drills.load import in_flight, steady_load
from drills.stage import Row, Stage, start_and_wait

_PATIENCE_S = 60.0


def worker_killed(stage: Stage) -> Row:
    """One of two workers of the model whose requests are being computed."""

    def strike(engine: Engine) -> frozenset[int]:
        pid = engine.workers("amun")[0].pid
        psutil.Process(pid).kill()
        return frozenset([pid])

    return stage.fault("worker killed in mid-request", strike)


def all_workers_killed(stage: Stage) -> Row:
    """Every worker of both models at once."""

    def strike(engine: Engine) -> frozenset[int]:
        pids = frozenset(worker.pid for model in engine.goldens for worker in engine.workers(model))
        for pid in pids:
            psutil.Process(pid).kill()
        return pids

    return stage.fault("all workers killed", strike)


def server_killed(stage: Stage) -> Row:
    """The process that takes the requests: the JVM of TorchServe."""

    def strike(engine: Engine) -> frozenset[int]:
        pids = frozenset(worker.pid for model in engine.goldens for worker in engine.workers(model))
        engine.server().kill()
        return pids

    return stage.fault("server (JVM) killed in mid-request", strike)


def launcher_killed(stage: Stage) -> Row:
    """Nobody restarts the launcher here, so the seconds are those until nothing of it is left; then it starts again."""
    row = stage.row("launcher killed in mid-request", note="seconds until no process and no file is left")
    engine = stage.engine()
    for load in stage.sizes.loads:
        with contextlib.ExitStack() as stack:
            clients = stack.enter_context(engine.access.clients())
            if load == "load":
                stack.enter_context(steady_load(clients, stage.oracle, row.tally))
            stack.enter_context(in_flight(clients, stage.oracle.slow_case, stage.oracle, row.tally))
            processes = processes_under(engine.launcher())
            since = time.monotonic()
            engine.launcher().kill()
            row.back_s[load] = _seconds_until_clean(engine, processes, since)
        left = [process.name() for process in living(processes)] + [path.name for path in engine.unpacked()]
        if left:
            row.defects.append(f"left behind: {', '.join(sorted(set(left)))}")
        engine.stop()  # by hand, what the launcher has left
        start_and_wait(engine)
    return row


def _seconds_until_clean(engine: Engine, processes: list[psutil.Process], since: float) -> float | None:
    while time.monotonic() - since < _PATIENCE_S:
        if not living(processes) and not engine.unpacked():
            return time.monotonic() - since
        time.sleep(0.05)
    return None
