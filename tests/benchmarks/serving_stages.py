"""Where the time of a request goes: the stages of the handler from ``meta``, and the wire, which is all the rest."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from measuring import say
from serving_requests import Request, other_target

from thermoscale.client import GrpcClient, RestClient, decode_reply
from thermoscale.wire.npz import encode_npz

TIMEOUT_S = 115.0
"""A little less than the server's own patience: a scene is long work for a busy machine."""

STAGES = ("decode_ms", "network_ms", "assemble_ms", "encode_ms")


def stages(
    clients: Mapping[str, RestClient | GrpcClient], requests: Mapping[str, Request], new_targets: set[str], repeat: int
) -> dict[str, Any]:
    """Medians over ``repeat`` requests; those in ``new_targets`` bring another target image each time."""
    found = {}
    for name, request in requests.items():
        for wire, client in clients.items():
            say(f"stages {wire} {name}")
            rows = [
                _one(client, other_target(request, number) if name in new_targets else request)
                for number in range(-1, repeat)
            ]
            found[f"{wire} {name}"] = {key: float(np.median([row[key] for row in rows[1:]])) for key in rows[0]}
    return found


def _one(client: RestClient | GrpcClient, request: Request) -> dict[str, float]:
    """One request: milliseconds by stage; ``total_ms`` is from the first array to the last."""
    start = time.perf_counter()
    body = encode_npz(request.arrays)
    sent = time.perf_counter()
    reply = client.predict_bytes(request.model, {"body": body}, timeout_s=TIMEOUT_S)
    received = time.perf_counter()
    meta = decode_reply(reply)["meta"]["handler_ms"]
    end = time.perf_counter()
    total_ms = 1e3 * (end - start)
    return {
        "request_bytes": len(body),
        "reply_bytes": len(reply),
        "client_encode_ms": 1e3 * (sent - start),
        **{stage: meta[stage] for stage in STAGES},
        "wire_ms": 1e3 * (received - sent) - meta["total_ms"],
        "client_decode_ms": 1e3 * (end - received),
        "total_ms": total_ms,
        "network_share": meta["network_ms"] / total_ms,
    }
