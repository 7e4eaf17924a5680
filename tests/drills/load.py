"""The load generator: send requests, judge what comes back, count."""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from drills.oracle import Case, Oracle
from thermoscale.errors import InvalidInput, ThermoscaleError, Unavailable

_PAUSE_S = 0.1

_REASONS = {
    "worker died": "worker died",
    "no worker to serve": "queue full",
    "refused": "no connection",
    "failed to connect": "no connection",
    "reset": "connection broke",
    "closed": "connection broke",
    "disconnected": "connection broke",
    "without response": "connection broke",
}
"""Words of an error -> what happened."""


class Client(Protocol):
    """Either client of :mod:`thermoscale.client`."""

    def predict_bytes(self, model: str, parts: Mapping[str, bytes], *, timeout_s: float) -> bytes:
        """Send one request."""


class Tally:
    """What became of all requests of one drill; threads may share it.

    Args:
        deadline_s: a request without an answer after that is lost.

    Attributes:
        sent, right, wrong, lost: numbers of requests.
        errors: class and reason of a right error -> how many.
        unexpected: the same of errors that the request did not deserve.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.sent = self.right = self.wrong = self.lost = 0
        self.errors: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count_answer(self, is_right: bool) -> None:
        with self._lock:
            self.sent += 1
            self.right += is_right
            self.wrong += not is_right

    def count_error(self, label: str, is_right: bool) -> None:
        with self._lock:
            self.sent += 1
            (self.errors if is_right else self.unexpected)[label] += 1

    def count_lost(self) -> None:
        with self._lock:
            self.sent += 1
            self.lost += 1


def send(client: Client, case: Case, oracle: Oracle, tally: Tally) -> None:
    """Send one request and count what came back: Unavailable is right while something is broken, and nothing else."""
    deserved, since = oracle.expected_error(case), time.monotonic()
    try:
        reply = client.predict_bytes(case.model, case.parts, timeout_s=tally.deadline_s)
    except ThermoscaleError as error:
        if time.monotonic() - since >= tally.deadline_s:
            tally.count_lost()
        else:
            tally.count_error(label_of(error), type(error) in (deserved, Unavailable))
        return
    try:
        tally.count_answer(oracle.is_right(case, reply))
    except InvalidInput:  # no reply of ours, such as an error text with the status of success
        tally.count_answer(False)


def label_of(error: BaseException) -> str:
    """The class of ``error`` and, of what TorchServe and the network answer themselves, the reason."""
    reasons = [reason for words, reason in _REASONS.items() if words in str(error).lower()]
    return f"{type(error).__name__} ({reasons[0]})" if reasons else type(error).__name__


@contextlib.contextmanager
def steady_load(clients: Mapping[str, Client], oracle: Oracle, tally: Tally) -> Iterator[None]:
    """Send good requests all the while: one thread for each wire and model, ten requests a second at most."""
    ended = threading.Event()

    def run(client: Client, cases: Sequence[Case]) -> None:
        for case in itertools.cycle(cases):
            if ended.wait(_PAUSE_S):
                return
            send(client, case, oracle, tally)

    by_model = {model: [case for case in oracle.cases if case.model == model] for model in ("amun", "iustfm")}
    pairs = itertools.product(clients.values(), by_model.values())
    with _running([threading.Thread(target=run, args=pair) for pair in pairs]):
        try:
            yield
        finally:
            ended.set()


@contextlib.contextmanager
def in_flight(clients: Mapping[str, Client], case: Case, oracle: Oracle, tally: Tally) -> Iterator[None]:
    """While the block runs, ``case`` is being computed for a caller on each wire."""
    oracle.expected_error(case)  # computed before, not while the server computes it
    calls = [threading.Thread(target=send, args=(client, case, oracle, tally)) for client in clients.values()]
    with _running(calls):
        time.sleep(0.2)
        yield


@contextlib.contextmanager
def _running(threads: Sequence[threading.Thread]) -> Iterator[None]:
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
