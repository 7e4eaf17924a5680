"""A request to I-USTFM understood: which triples, which ratios. All that precedes the pixels, small enough to keep."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import canonical_time
from thermoscale.numerics.triples import Triple, TripleOrder, enumerate_triples
from thermoscale.pipelines.iustfm_config import IustfmConfig
from thermoscale.pipelines.iustfm_weighting import Weighting
from thermoscale.pipelines.library import Library


@dataclass(frozen=True, eq=False)
class Plan:
    """What the pixel loop needs.

    Attributes:
        alpha_hcr: ``[n_triples, n_hcr]``, NaN = none.
        cell_flags: ``[n_cells + 1]`` uint8 flag bits 0 and 1 of a coarse cell; the last: of pixels without a cell.
        weighting: how a triple's scenes and ratios become a value; None where RatioNet itself is asked.
        facts: what the reply tells about the coarse scenes (:mod:`thermoscale.pipelines.iustfm_coarse`).
    """

    library: Library
    triples: list[Triple]
    mode: str
    alpha_hcr: FloatArray
    cell_flags: Array
    weighting: Weighting | None
    facts: dict[str, Any] = field(default_factory=dict)


Made = TypeVar("Made")


class Memory(Generic[Made]):
    """The last things made for the stored library: what all windows of a target image share is done once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: OrderedDict[Hashable, Made] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is remembered under ``key``, else what ``make`` gives; the least recently used one is forgotten."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = make()
        with self._lock:
            self._made[key] = made
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        return made


def plan_key(target: FloatArray, *choices: Hashable) -> Hashable:
    """Equal for equal coarse images and equal choices."""
    return hashlib.sha256(np.ascontiguousarray(target).tobytes()).digest(), *choices


def choose_triples(
    library: Library, time: str, pairs: Sequence[Sequence[str]] | None, order: TripleOrder | None
) -> list[Triple]:
    """The triples of a request, sorted by time, each the earlier date first.

    Args:
        order: None: ``ordered``, or whatever ``pairs`` are.

    Raises:
        InvalidInput: ``pairs`` names something else than two library times, or a triple that is not of ``order``.
        Undetermined: the library has no triple of this order.
    """
    others = sorted(other for other in library.times if other != time)
    of_order = enumerate_triples(others, time, order or "ordered")
    if pairs is not None:
        named = sorted({_require_pair(others, time, pair) for pair in pairs})
        strangers = [(triple.pre, triple.post) for triple in named if order is not None and triple not in of_order]
        if strangers:
            raise InvalidInput(f"triples name {strangers} and order is {order}, which they are not for {time}")
        return named
    if not of_order:
        raise Undetermined(
            f"no {order or 'ordered'} triple around {time}: the library has {others}; {_hint(others, time)}"
        )
    return of_order


def _hint(others: Sequence[str], time: str) -> str:
    """What could be asked instead."""
    if len(others) < 2:
        return "needed two other library dates"
    earlier = sum(other < time for other in others)
    return "ask for unordered" + (" or past_only" if earlier >= 2 else "") + ", or bring scenes on both sides"


def require_baseline(config: IustfmConfig, library: Library, triples: list[Triple]) -> list[Triple]:
    """The triples whose fine scenes are far enough apart.

    Raises:
        Undetermined: none is.
    """
    needed = config.guards.scaled(config.physical).min_baseline_k
    baselines = {triple: library.baseline_of(triple.pre, triple.post) for triple in triples}
    far = [triple for triple, baseline in baselines.items() if baseline >= needed]
    if not far:
        listed = ", ".join(f"{t.pre} and {t.post}: {b:.3g}" for t, b in list(baselines.items())[:6])
        raise Undetermined(
            f"no triple has a baseline of {needed:g} {config.physical.unit} ({listed}); "
            "needed two library dates with scenes further apart"
        )
    return far


def _require_pair(others: list[str], time: str, pair: Sequence[str]) -> Triple:
    if len(pair) != 2:
        raise InvalidInput(f"triples hold {list(pair)}, needed pairs of library times (pre, post)")
    pre, post = (canonical_time(text) for text in pair)
    unknown = sorted({pre, post} - set(others))
    if unknown or pre == post:
        raise InvalidInput(
            f"triples name ({pre}, {post}); needed two different library times other than {time}: {sorted(others)}"
        )
    return Triple(min(pre, post), time, max(pre, post))
