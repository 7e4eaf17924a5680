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

from thermoscale.arrays import FloatArray
from thermoscale.client import GrpcClient, RestClient, decode_reply
from thermoscale.wire.npz import encode_npz

GOAL_RATIO = 1.15
FIRST, RESAMPLES = 3, 1000
Clients = Mapping[str, RestClient | GrpcClient]


class Kind(NamedTuple):
    """What is sent, to which model, how its reply tells the seconds in the handler, and the processes at work."""

    model: str
    body: bytes
    handler_s: Callable[[bytes], float]
    pids: Mapping[str, int]


class Sample(NamedTuple):
    """One exchange: seconds of the client and of the handler, processor time by process, size of the reply."""

    client_s: float
    handler_s: float
    cpu_s: dict[str, float]
    reply_bytes: int


def exchange(client: RestClient | GrpcClient, kind: Kind) -> Sample:
    """Send the body once."""
    before = {name: cpu_s(pid) for name, pid in kind.pids.items()}
    start = time.perf_counter()
    reply = client.predict_bytes(kind.model, {"body": kind.body})
    took = time.perf_counter() - start
    spent = {name: cpu_s(pid) - before[name] for name, pid in kind.pids.items()}
    return Sample(took, kind.handler_s(reply), spent, len(reply))


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
    warm_up: int,
) -> dict[str, Any]:
    """Every wire and request, after ``warm_up`` turns in which the JVM compiles itself; ``pids``: client and jvm."""
    found: dict[str, Any] = {}
    (echo_worker,) = server.worker_pids(ECHO)
    _warm_up(clients, next(iter(requests.values())), warm_up)
    for name, request in requests.items():
        (worker,) = server.worker_pids(request.model)
        model = Kind(request.model, encode_npz(request.arrays), of_model, {**pids, "worker": worker})
        for wire, client in clients.items():
            say(f"overhead {wire} {name}")
            sample = [exchange(client, model) for _ in range(FIRST)][-1]
            echo, busy = (
                Kind(
                    ECHO,
                    echo_body(len(model.body), sample.reply_bytes, busy_s),
                    of_echo,
                    {**pids, "worker": echo_worker},
                )
                for busy_s in (0.0, sample.handler_s)
            )
            found[f"{wire} {name}"] = _compare(client, {"model": model, "echo": echo, "busy": busy}, rounds[name])
    return found


def _warm_up(clients: Clients, request: Request, turns: int) -> None:
    body = encode_npz(request.arrays)
    for _ in range(turns):
        for client in clients.values():
            reply = client.predict_bytes(request.model, {"body": body})
            client.predict_bytes(ECHO, {"body": echo_body(len(body), len(reply), 0.0)})


def _compare(client: RestClient | GrpcClient, kinds: Mapping[str, Kind], rounds: int) -> dict[str, Any]:
    """Turn by turn; who comes first changes."""
    kept: dict[str, list[Sample]] = {name: [] for name in kinds}
    names = list(kinds)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            kept[name].append(exchange(client, kinds[name]))
    over = {name: np.array([1e3 * (s.client_s - s.handler_s) for s in samples]) for name, samples in kept.items()}
    return {
        "request_bytes": len(kinds["model"].body),
        "rounds": rounds,
        "handler_ms": float(np.median([1e3 * s.handler_s for s in kept["model"]])),
        **{name: {**percentiles(over[name]), **_cost(samples)} for name, samples in kept.items()},
        "ratio": float(np.median(over["model"]) / np.median(over["echo"])),
        "ratio_95": _interval(over["model"], over["echo"]),
        "ratio_p10": float(np.percentile(over["model"], 10) / np.percentile(over["echo"], 10)),
        "ratio_busy": float(np.median(over["model"]) / np.median(over["busy"])),
    }


def _cost(samples: list[Sample]) -> dict[str, Any]:
    """Mean processor time for each request by process; size of a reply."""
    spent = {who: 1e3 * float(np.mean([s.cpu_s[who] for s in samples])) for who in samples[0].cpu_s}
    return {"cpu_ms": spent, "reply_bytes": samples[-1].reply_bytes}


def _interval(model: FloatArray, echo: FloatArray) -> list[float]:
    """Between which values 95 of 100 ratios of medians lie when the turns are drawn anew."""
    drawn = np.random.default_rng(0).integers(0, len(model), (RESAMPLES, len(model)))
    ratios = np.median(model[drawn], axis=1) / np.median(echo[drawn], axis=1)
    return [float(value) for value in np.percentile(ratios, (2.5, 97.5))]
