"""Networks that tell how long they take, and that stop a request whose time is over."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from thermoscale.arrays import Array, Network
from thermoscale.errors import Unavailable


class Stopwatch:
    """Of one request.

    Attributes:
        network_s: seconds spent in networks.
    """

    def __init__(self, patience_s: float) -> None:
        self._start = time.monotonic()
        self._patience_s = patience_s
        self.network_s = 0.0

    def require_time(self) -> None:
        """Check that the request's time is not over.

        Raises:
            Unavailable: it is.
        """
        elapsed_s = time.monotonic() - self._start
        if elapsed_s > self._patience_s:
            raise Unavailable(
                f"stopped after {elapsed_s:.1f} s of work: the time for this request is over; ask for a window, "
                "or try again with more time"
            )


_WATCH: ContextVar[Stopwatch | None] = ContextVar("watch", default=None)


@contextmanager
def stopwatch(patience_s: float) -> Iterator[Stopwatch]:
    """Watch the networks that are called inside, on this thread, for at most ``patience_s``."""
    watch = Stopwatch(patience_s)
    token = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(token)


class TimedNetwork:
    """``network``, under the watch of the request.

    Attributes:
        fastest_s: seconds of its fastest call; 0 before the first.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.fastest_s = 0.0

    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Ask the network.

        Raises:
            Unavailable: the time for the request is over; the network was not asked.
        """
        watch = _WATCH.get()
        if watch is not None:
            watch.require_time()
        start = time.perf_counter()
        answer = self._network(arrays)
        took_s = time.perf_counter() - start
        self.fastest_s = min(self.fastest_s or took_s, took_s)
        if watch is not None:
            watch.network_s += took_s
        return answer
