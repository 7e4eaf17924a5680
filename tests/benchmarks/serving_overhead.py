"""What a request costs beyond its handler: client time minus handler time, beside an echo of the same sizes.

Client time runs from having the request's bytes to having the reply's bytes; making and reading those bytes is measured
apart. Echo and model take turns, so that whatever disturbs the machine disturbs both.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from echo_handler import REPLY_HEAD, REQUEST_HEAD
from measuring import say
from serving_archives import ECHO
from serving_machine import BenchServer, cpu_s, percentiles
from serving_requests import Request

from thermoscale.client import GrpcClient, RestClient, decode_reply
from thermoscale.wire.npz import encode_npz

GOAL_RATIO = 1.15
Clients = Mapping[str, RestClient | GrpcClient]


class Sample(NamedTuple):
    """One exchange: seconds of the client and of the handler, and processor time by process."""

    client_s: float
    handler_s: float
    cpu_s: dict[str, float]


def exchange(
    client: RestClient | GrpcClient,
    model: str,
    body: bytes,
    handler_s: Callable[[bytes], float],
    pids: Mapping[str, int],
) -> tuple[Sample, bytes]:
    """Send ``body`` once."""
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    start = time.perf_counter()
    reply = client.predict_bytes(model, {"body": body})
    took = time.perf_counter() - start
    spent = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    return Sample(took, handler_s(reply), spent), reply


def of_echo(reply: bytes) -> float:
    """Seconds in the handler."""
    return float(REPLY_HEAD.unpack_from(reply)[0])


def of_model(reply: bytes) -> float:
    """Seconds in the handler, from ``meta``."""
    return float(decode_reply(reply)["meta"]["handler_ms"]["total_ms"]) / 1000


def echo_body(n_request: int, n_reply: int, busy_s: float) -> bytes:
    """A request to the echo."""
    return REQUEST_HEAD.pack(n_reply, busy_s) + bytes(n_request - REQUEST_HEAD.size)


def overhead(
    server: BenchServer,
    clients: Clients,
    pids: Mapping[str, int],
    requests: Mapping[str, Request],
    rounds: Mapping[str, int],
) -> dict[str, Any]:
    """Every wire and case; ``pids``: client and jvm."""
    found: dict[str, Any] = {}
    for name, request in requests.items():
        body, (worker,) = encode_npz(request.arrays), server.worker_pids(request.model)
        (echo_worker,) = server.worker_pids(ECHO)
        of = {"model": {**pids, "worker": worker}, "echo": {**pids, "worker": echo_worker}}
        for wire, client in clients.items():
            say(f"overhead {wire} {name}")
            found[f"{wire} {name}"] = _pair(client, request, body, of, rounds[name])
    return found


def _pair(
    client: RestClient | GrpcClient, request: Request, body: bytes, pids: Mapping[str, Mapping[str, int]], rounds: int
) -> dict[str, Any]:
    """Turn by turn; who comes first changes."""
    kept: dict[str, list[Sample]] = {"model": [], "echo": [], "busy": []}
    for _ in range(3):
        sample, reply = exchange(client, request.model, body, of_model, pids["model"])
    quick = echo_body(len(body), len(reply), 0.0)
    busy = echo_body(len(body), len(reply), sample.handler_s)
    kinds = [("model", request.model, body, of_model), ("echo", ECHO, quick, of_echo), ("busy", ECHO, busy, of_echo)]
    for turn in range(rounds):
        for kind, model, sent, handler_s in kinds[turn % 3 :] + kinds[: turn % 3]:
            found, reply = exchange(client, model, sent, handler_s, pids["model" if kind == "model" else "echo"])
            kept[kind].append(found)
    over = {kind: np.array([1e3 * (s.client_s - s.handler_s) for s in samples]) for kind, samples in kept.items()}
    return {
        "request_bytes": len(body),
        "reply_bytes": len(reply),
        "rounds": rounds,
        "handler_ms": float(np.median([1e3 * s.handler_s for s in kept["model"]])),
        **{kind: {**percentiles(over[kind]), **_cpu(samples)} for kind, samples in kept.items()},
        "ratio": float(np.median(over["model"]) / np.median(over["echo"])),
        "ratio_busy": float(np.median(over["model"]) / np.median(over["busy"])),
    }


def _cpu(samples: list[Sample]) -> dict[str, Any]:
    """Processor time for each request by process."""
    return {"cpu_ms": {who: 1e3 * float(np.mean([s.cpu_s[who] for s in samples])) for who in samples[0].cpu_s}}
