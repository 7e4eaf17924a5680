"""Malformed requests: nobody but their sender may notice them."""

import time
from collections import Counter
from itertools import cycle, islice

import numpy as np

from drills.access import Access
from drills.engine import seconds_until_ready
from drills.load import Tally, send
from drills.malformed import malformed_cases
from drills.oracle import Case
from drills.sockets import dribble, grpc_outcome, http_outcome, post_head, raw_predictions, serialized
from drills.stage import Row, Stage, watched_workers

_SEED = 20
_RAW_SHARE = 10
"""One in so many is broken below the body: in the heads of HTTP, or in the message of gRPC."""

_HTTP_REFUSALS = ("400", "404", "405", "408", "411", "413", "414", "415", "431", "501", "closed", "silent")
"""``silent``: TorchServe alone waits on for a body of negative length, or shorter than it says: docs/operations.md."""

_GRPC_REFUSALS = (
    "INVALID_ARGUMENT",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "CANCELLED",
    "UNKNOWN",
    "UNAVAILABLE",
)
"""UNAVAILABLE: a connection whose metadata are too large is closed."""


def malformed_rest(stage: Stage) -> Row:
    """Over REST."""
    return _malformed(stage, "rest")


def malformed_grpc(stage: Stage) -> Row:
    """Over gRPC."""
    return _malformed(stage, "grpc")


def _malformed(stage: Stage, wire: str) -> Row:
    count = stage.sizes.bodies
    raw = count // _RAW_SHARE
    row, engine = stage.row(f"{count} malformed requests, {wire}"), stage.engine()
    with watched_workers(engine, row):
        with engine.access.clients() as clients:
            for case in malformed_cases(stage.oracle.cases, count - raw, _SEED):
                send(clients[wire], case, stage.oracle, row.tally)
        {"rest": _raw_http, "grpc": _raw_grpc}[wire](engine.access, stage.oracle.cases[0], raw, row.tally)
        row.back_s["idle"] = seconds_until_ready(engine, time.monotonic(), patience_s=30.0)
    if row.worker_deaths:
        row.defects.append(f"{row.worker_deaths} workers died")
    return row


def _raw_http(access: Access, good: Case, count: int, tally: Tally) -> None:
    """Heads that are huge, wrong or never end."""
    model, body = good.model, good.body
    requests = {
        "a header of 100 kB": post_head(access, model, len(body), "X-Long: " + "a" * 100_000) + body,
        "10,000 headers": post_head(access, model, len(body), *(f"X-{number}: b" for number in range(10_000))) + body,
        "a path of 100 kB": b"POST /predictions/" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        "a length that is no number": post_head(access, model, "many") + body,
        "a length of 9 EB": post_head(access, model, 9 * 10**18) + body,
        "no HTTP": np.random.default_rng(_SEED).bytes(500) + b"\r\n\r\n",
        "a broken chunk": post_head(access, model, 0, "Transfer-Encoding: chunked") + b"zz\r\n" + body,
        "a form without end": post_head(access, model, 9, "Content-Type: multipart/form-data; boundary=b")
        + b"--b\r\nabc",
        "a negative length": post_head(access, model, -5) + body,
    }
    for name, request in islice(cycle(requests.items()), count):
        outcome = http_outcome(access, request)
        tally.count_error(outcome if outcome in _HTTP_REFUSALS else f"{outcome} for {name}", outcome in _HTTP_REFUSALS)
    slow = http_outcome(access, dribble(post_head(access, model, len(body)) + body, 40))
    tally.count_error(f"{slow} for a slow body", False) if slow != "200" else tally.count_answer(True)


def _raw_grpc(access: Access, good: Case, count: int, tally: Tally) -> None:
    """Messages that are none, and metadata that are too many."""
    rng, whole = np.random.default_rng(_SEED), serialized(good.model, good.body)
    outcomes: Counter[str] = Counter()
    with access.channel() as channel:
        call = raw_predictions(channel)
        for number in range(count):
            message, long = whole, {"x-long": "a" * 100_000}
            if number % 3:
                cut, other = whole[: int(rng.integers(1, len(whole)))], rng.bytes(int(rng.integers(1, 5000)))
                message, long = (cut if number % 3 == 1 else other), {}
            outcome = grpc_outcome(call, message, {**access.credentials, **long})
            outcomes[outcome] += 1
    for outcome, number in outcomes.items():
        for _ in range(number):
            tally.count_error(outcome, outcome in _GRPC_REFUSALS)
