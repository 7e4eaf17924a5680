"""More callers than a server likes."""

import contextlib
import threading
from collections.abc import Sequence

from drills.engine import Engine
from drills.load import Tally, send
from drills.oracle import Case, Oracle, slow_case
from drills.stage import Row, Stage, watched_workers

_QUEUE_FULL_S = 120.0
"""Patience of a caller who knows that there are many."""


def many_clients(stage: Stage) -> Row:
    """All at once, each with a connection of its own, half of them on each wire; three requests after one another."""
    row, engine = stage.row(f"{stage.sizes.clients} clients at once", deadline_s=_QUEUE_FULL_S), stage.engine()
    with watched_workers(engine, row):
        _call_at_once(engine, stage.oracle, row.tally, [stage.oracle.cases[:3]] * stage.sizes.clients)
    if not row.tally.right:
        row.defects.append("nobody was answered")
    return row


def full_queue(stage: Stage) -> Row:
    """Twice as many at once as the queue of a model takes (100): the rest is turned away."""
    row, engine, case = stage.row("full queue", deadline_s=_QUEUE_FULL_S), stage.engine(), slow_case(40)
    with watched_workers(engine, row):
        _call_at_once(engine, stage.oracle, row.tally, [[case]] * 240)
    turned_away = sum(count for label, count in row.tally.errors.items() if label.startswith("Unavailable"))
    if not turned_away:
        row.defects.append("nobody was turned away")
    return row


def _call_at_once(engine: Engine, oracle: Oracle, tally: Tally, plans: Sequence[Sequence[Case]]) -> None:
    """One thread with its own clients for every plan; all begin together."""
    begin = threading.Barrier(len(plans))
    for case in {case for plan in plans for case in plan}:
        oracle.expected_error(case)  # computed before, not while the server needs the processor

    def run(wire: str, plan: Sequence[Case]) -> None:
        with engine.access.clients() as clients:
            begin.wait(_QUEUE_FULL_S)
            for case in plan:
                send(clients[wire], case, oracle, tally)

    with contextlib.ExitStack() as stack:
        for number, plan in enumerate(plans):
            thread = threading.Thread(target=run, args=(("rest", "grpc")[number % 2], plan))
            thread.start()
            stack.callback(thread.join)
