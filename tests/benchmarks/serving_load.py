"""Open-loop load: requests come when they are due, whether or not earlier ones were answered.

A latency counts from the moment the request was due, so that a slow server cannot slow the clients down and hide it
(coordinated omission).
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measuring import say
from serving_machine import percentiles

from thermoscale.errors import ThermoscaleError

PATIENCE_MS = 50.0
"""A rate is borne while p99 is at most this much above its value without load."""

SENDERS = 24
STEPS = 7


def open_loop(send: Callable[[int], Any], rate: float, n: int, seed: int) -> dict[str, Any]:
    """Send ``n`` requests at Poisson arrivals with ``rate`` a second; percentiles, ms, of those that were answered."""
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))
    latencies, turn, lock = np.full(n, np.nan), iter(range(n)), threading.Lock()
    errors: list[str] = []
    start = time.perf_counter() + 0.1

    def sender() -> None:
        while True:
            with lock:
                number = next(turn, None)
            if number is None:
                return
            time.sleep(max(0.0, start + due[number] - time.perf_counter()))
            try:
                send(number)
            except ThermoscaleError as error:
                errors.append(str(error))
                continue
            latencies[number] = time.perf_counter() - start - due[number]

    threads = [threading.Thread(target=sender) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answered = 1e3 * latencies[np.isfinite(latencies)]
    found = percentiles(answered) if len(answered) else {}
    return {"rate": rate, "n": n, "errors": len(errors), "first_error": errors[0] if errors else None, **found}


def idle(send: Callable[[int], Any], n: int) -> dict[str, float]:
    """One request after another: percentiles of the latencies, ms, and requests a second."""
    took = []
    for number in range(n):
        start = time.perf_counter()
        send(number)
        took.append(1e3 * (time.perf_counter() - start))
    return {**percentiles(np.array(took)), "per_s": 1e3 * n / sum(took)}


def highest_rate(send: Callable[[int], Any], workers: int, n: int) -> dict[str, Any]:
    """Bisection between no load and one and a half times what the workers could do one after another."""
    idle(send, 10)
    alone = idle(send, n)
    allowed_ms = alone["p99_ms"] + PATIENCE_MS
    low, high, steps = 0.0, 1.5 * workers * alone["per_s"], []
    for number in range(STEPS):
        rate = (low + high) / 2
        say(f"open loop, {workers} workers, {rate:.1f}/s")
        step = open_loop(send, rate, n, seed=number)
        steps.append(step)
        borne = not step["errors"] and step["p99_ms"] <= allowed_ms
        low, high = (rate, high) if borne else (low, rate)
    return {"workers": workers, "idle": alone, "allowed_p99_ms": allowed_ms, "highest_rate_per_s": low, "steps": steps}
