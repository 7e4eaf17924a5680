"""Callers that do not wait for their answer."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator

from drills.access import Access
from drills.engine import seconds_until_ready
from drills.load import steady_load
from drills.oracle import Case, slow_case
from drills.sockets import post_head, raw_predictions, serialized
from drills.stage import Row, Stage, watched_workers

_SEED = 21
_AT_ONCE = 8


def hangups(stage: Stage) -> Row:
    """REST connections closed in the middle of the body, or while the answer is computed; others must not notice."""
    row, engine, case = stage.row(f"{stage.sizes.hangups} REST hang-ups"), stage.engine(), slow_case(40)
    with (
        watched_workers(engine, row),
        engine.access.clients() as clients,
        steady_load(clients, stage.oracle, row.tally),
    ):
        rng = np.random.default_rng(_SEED)
        for number in range(stage.sizes.hangups):
            _hang_up(engine.access, case, rng, in_body=number % 2 == 0)
        row.back_s["load"] = seconds_until_ready(engine, time.monotonic(), patience_s=60.0)
    return _judge(row)


def cancels(stage: Stage) -> Row:
    """gRPC calls cancelled at random moments, most of them about when the answer is ready."""
    row, engine = stage.row(f"{stage.sizes.cancels} gRPC cancels"), stage.engine()
    with (
        watched_workers(engine, row),
        engine.access.clients() as clients,
        steady_load(clients, stage.oracle, row.tally),
    ):
        requests = [serialized(case.model, case.body) for case in stage.oracle.cases]
        with engine.access.channel() as channel, ThreadPoolExecutor(_AT_ONCE) as pool:
            call = partial(_cancel, raw_predictions(channel), engine.access.credentials, requests)
            list(pool.map(call, range(stage.sizes.cancels)))
        row.back_s["load"] = seconds_until_ready(engine, time.monotonic(), patience_s=60.0)
    return _judge(row)


def _hang_up(access: Access, case: Case, rng: Generator, *, in_body: bool) -> None:
    with access.connection() as connection:
        connection.sendall(post_head(access, case.model, len(case.body)))
        connection.sendall(case.body[: int(rng.integers(len(case.body)))] if in_body else case.body)
        time.sleep(float(rng.uniform(0.0, 0.1)))


def _cancel(call: Any, credentials: Mapping[str, str], requests: list[bytes], number: int) -> None:
    rng = np.random.default_rng([_SEED, number])
    future = call.future(requests[number % len(requests)], timeout=20.0, metadata=tuple(credentials.items()))
    time.sleep(float(rng.uniform(0.0, 0.1)))
    future.cancel()


def _judge(row: Row) -> Row:
    """Deaths are reported, and no failure as long as nobody else notices: see docs/operations.md."""
    if row.worker_deaths:
        row.note = f"{row.worker_deaths} workers ended and came back"
    return row
