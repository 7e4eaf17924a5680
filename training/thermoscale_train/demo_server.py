"""The same request in process, by REST and by gRPC: are the answers the same, and how long do they take?"""

import statistics
import time as clock
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from thermoscale.arrays import QUANTITIES
from thermoscale.bundle.golden import compare_golden
from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import BundleError
from thermoscale.server.launcher import TorchServe
from thermoscale.service import Service

REPEATS = 5
TOLERANCE_K = 1e-3

Requests = Mapping[str, Mapping[str, Any]]
"""Pipeline -> one request."""


def ask_in_process(services: Mapping[str, Service], requests: Requests) -> dict[str, dict[str, Any]]:
    """``latency_ms`` of every pipeline, in process only."""
    return {
        name: {"latency_ms": {"in_process": _median_ms(partial(service.predict, requests[name]))[1]}}
        for name, service in services.items()
    }


def ask_torchserve(
    archives: Sequence[Path], services: Mapping[str, Service], requests: Requests, logs: Path
) -> dict[str, dict[str, Any]]:
    """Start TorchServe with ``archives``, ask every model over both wires, stop it.

    Returns:
        pipeline -> ``latency_ms`` (medians of 5 requests, one at a time) and ``max_difference`` of each wire from the
        answer in process, over all result layers.

    Raises:
        Unavailable: the server does not start or does not become ready.
        BundleError: a wire answers something else than the bundle in process.
    """
    found = ask_in_process(services, requests)
    with TorchServe(archives, log_folder=logs) as server:
        server.wait_ready()
        with GrpcClient(server.grpc_address) as grpc:
            clients = {"rest": RestClient(server.rest_url), "grpc": grpc}
            for wire, client in clients.items():
                for name, service in services.items():
                    answer, found[name]["latency_ms"][wire] = _median_ms(partial(client.predict, name, requests[name]))
                    differences = found[name].setdefault("max_difference", {})
                    differences[wire] = require_same_answer(wire, service, requests[name], answer)
    return found


def require_same_answer(wire: str, service: Service, request: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Largest difference of ``answer`` from that of ``service``, at most 1e-3 K.

    Raises:
        BundleError: more than that, another NaN pattern, or other flags.
    """
    expected = {name: layer for name, layer in service.predict(request).items() if name != "meta"}
    tolerance = TOLERANCE_K * QUANTITIES[service.manifest.quantity].kelvin
    try:
        return compare_golden(expected, answer, tolerance)
    except BundleError as error:
        raise BundleError(f"{service.pipeline} over {wire} and in process do not answer the same: {error}") from error


def _median_ms(predict: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """The last answer, and the median time in milliseconds."""
    times = []
    for _ in range(REPEATS):
        start = clock.perf_counter()
        answer = predict()
        times.append(1000.0 * (clock.perf_counter() - start))
    return answer, statistics.median(times)
