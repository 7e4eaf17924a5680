"""Where drills take place: a running server, what its answers should be, how hard to try; and their result, a row."""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drills.engine import START_S, Engine, TorchServeEngine, seconds_until_ready
from drills.front_engine import FrontEngine
from drills.load import Tally, in_flight, steady_load
from drills.oracle import Oracle
from thermoscale import open_bundle
from thermoscale.errors import Unavailable
from thermoscale.release.mar import pack
from thermoscale.testing.bundles import write_tiny_amun, write_tiny_iustfm

_PATIENCE_S = 120.0
_AFTERWARDS_S = 1.0

ENGINES: dict[str, type[TorchServeEngine]] = {"torchserve": TorchServeEngine, "front": FrontEngine}


@dataclass(frozen=True)
class Sizes:
    """How hard to try.

    Attributes:
        bodies: malformed requests on each wire.
        clients: callers at once.
        cancels: gRPC calls cancelled by their caller.
        hangups: REST connections closed by their caller, half of them in the middle of the body.
        loads: with which load a fault is tried.
        goal_idle_s, goal_load_s: seconds within which all is to be ready again.
        deadline_s: a request without an answer after that is lost.
    """

    bodies: int = 1000
    clients: int = 200
    cancels: int = 1000
    hangups: int = 200
    loads: tuple[str, ...] = ("idle", "load")
    goal_idle_s: float = 10.0
    goal_load_s: float = 20.0
    deadline_s: float = 20.0


SHORT = Sizes(
    bodies=40, clients=40, cancels=60, hangups=20, loads=("load",), goal_idle_s=90.0, goal_load_s=90.0, deadline_s=90.0
)
"""For tests, which share their machine with whatever else runs there: back by itself, however slowly."""


@dataclass
class Row:
    """The result of one drill.

    Attributes:
        back_s: load (idle, load) -> seconds until all was ready again by itself, None if never.
        worker_deaths: workers that ended without being killed by the drill; None where it was not watched.
        defects: what was not as it should be, besides what the numbers say.
        note: what the numbers do not say.
        skipped: why it did not take place.
    """

    drill: str
    engine: str
    sizes: Sizes
    tally: Tally
    back_s: dict[str, float | None] = field(default_factory=dict)
    worker_deaths: int | None = None
    defects: list[str] = field(default_factory=list)
    note: str = ""
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """No wrong, lost or undeserved answer, back in time, and nothing else amiss."""
        tally = self.tally
        slow = [load for load, seconds in self.back_s.items() if seconds is None or seconds > self._goal_s(load)]
        return not (tally.wrong or tally.lost or tally.unexpected or slow or self.defects)

    def _goal_s(self, load: str) -> float:
        return {"idle": self.sizes.goal_idle_s, "load": self.sizes.goal_load_s}[load]

    def to_json(self) -> dict[str, Any]:
        """Plain values; seconds rounded to 0.1."""
        tally = self.tally
        rounded = {load: None if seconds is None else round(seconds, 1) for load, seconds in self.back_s.items()}
        counts = {"sent": tally.sent, "right": tally.right, "errors": dict(tally.errors), "wrong": tally.wrong}
        return {
            "drill": self.drill,
            "engine": self.engine,
            **counts,
            "undeserved_errors": dict(tally.unexpected),
            "lost": tally.lost,
            "back_s": rounded,
            "worker_deaths": self.worker_deaths,
            "defects": self.defects,
            "note": self.note,
            "skipped": self.skipped,
            "passed": self.passed,
        }


class Stage:
    """Both tiny bundles behind one server, which later drills share as long as it comes back by itself.

    Args:
        engine: name of the kind of server.
    """

    def __init__(self, engine: str, folder: Path, sizes: Sizes) -> None:
        self._engine, self.folder, self.sizes = ENGINES[engine], folder, sizes
        self.bundles = {
            "amun": write_tiny_amun(folder / "amun" / "0.0.1"),
            "iustfm": write_tiny_iustfm(folder / "iustfm" / "0.0.1"),
        }
        self.archives = [pack(bundle, folder / "store") for bundle in self.bundles.values()]
        self.oracle = Oracle({(model, "0.0.1"): open_bundle(bundle) for model, bundle in self.bundles.items()})
        self._shared: Engine | None = None

    @property
    def name(self) -> str:
        """The engine's, for people."""
        return self._engine.name

    def row(self, drill: str, *, deadline_s: float | None = None, **fields: Any) -> Row:
        """An empty result; the deadline is that of the sizes unless another is given."""
        return Row(drill, self.name, self.sizes, Tally(deadline_s or self.sizes.deadline_s), **fields)

    def engine(self) -> Engine:
        """The shared server, ready; a new one if the last did not come back.

        Raises:
            Unavailable: not even a new one gets ready.
        """
        if self._shared is not None:
            if seconds_until_ready(self._shared, time.monotonic(), patience_s=_PATIENCE_S) is not None:
                return self._shared
            self.close()
        self._shared = self.new_engine()
        start_and_wait(self._shared)
        return self._shared

    def new_engine(
        self, archives: Sequence[Path] | None = None, folder: Path | None = None, workers: int = 2
    ) -> Engine:
        """A server that nothing else uses, not started."""
        folder = folder or Path(tempfile.mkdtemp(prefix="e", dir=self.folder))
        output = self.folder / f"{folder.name}.txt"
        return self._engine(archives or self.archives, folder, output, workers=workers)

    @contextlib.contextmanager
    def own_engine(self, folder: Path | None = None, workers: int = 2) -> Iterator[Engine]:
        """A server that nothing else uses, ready; ended with the block."""
        engine = self.new_engine(folder=folder, workers=workers)
        try:
            start_and_wait(engine)
            yield engine
        finally:
            engine.stop()

    def close(self) -> None:
        """End the shared server."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.stop()

    def fault(self, name: str, strike: Callable[[Engine], frozenset[int]], engine: Engine | None = None) -> Row:
        """Strike while a request is computed on each wire, once for each load, and wait until all is well again.

        Args:
            strike: breaks something and returns the process ids of workers that are gone for good.
        """
        row = self.row(name)
        for load in self.sizes.loads:
            target = engine or self.engine()
            with target.access.clients() as clients, contextlib.ExitStack() as stack:
                if load == "load":
                    stack.enter_context(steady_load(clients, self.oracle, row.tally))
                    time.sleep(_AFTERWARDS_S)
                with in_flight(clients, self.oracle.slow_case, self.oracle, row.tally):
                    since = time.monotonic()
                    gone = strike(target)
                    row.back_s[load] = seconds_until_ready(target, since, patience_s=_PATIENCE_S, gone=gone)
                time.sleep(_AFTERWARDS_S)
        return row


def start_and_wait(engine: Engine) -> None:
    """Start ``engine`` and wait for it.

    Raises:
        Unavailable: it does not get ready.
    """
    engine.start()
    if seconds_until_ready(engine, time.monotonic(), patience_s=START_S) is None:
        log = engine.log()
        engine.stop()
        raise Unavailable(f"the server does not get ready\n{log[-4000:]}")


@contextlib.contextmanager
def watched_workers(engine: Engine, row: Row) -> Iterator[None]:
    """Count into ``row`` the workers that end while the block runs."""
    seen: dict[int, str] = {}
    ended = threading.Event()

    def look() -> None:
        with contextlib.suppress(Unavailable):
            seen.update({worker.pid: model for model in engine.goldens for worker in engine.workers(model)})

    def run() -> None:
        while not ended.wait(0.2):
            look()

    look()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()
        alive = {worker.pid for model in engine.goldens for worker in engine.workers(model)}
        row.worker_deaths = len(seen.keys() - alive)


def json_rows(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """For machines."""
    return [row.to_json() for row in rows]
