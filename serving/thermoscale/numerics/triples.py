"""Which triples a library of dates offers, and how their answers are combined."""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import InvalidInput
from thermoscale.times import canonical_time

TripleOrder = Literal["ordered", "unordered", "past_only"]
ORDERS: tuple[TripleOrder, ...] = ("ordered", "unordered", "past_only")

_BLOCK_VALUES = 1 << 20  # values sorted at once: 4 MB of float32


class Triple(NamedTuple):
    """Three canonical times; coarse scenes exist on all, fine scenes on ``pre`` and ``post``."""

    pre: str
    target: str
    post: str


def enumerate_triples(library_times: Iterable[str], target: str, order: TripleOrder = "ordered") -> list[Triple]:
    """All triples around ``target``, sorted by time, whatever the order of ``library_times``.

    Args:
        library_times: dates with a fine scene; the target is not one of them.
        order: ``ordered`` is pre < target < post; ``past_only`` is pre < post < target; ``unordered`` is any
            two library dates, pre < post (exchanging them changes nothing: beta becomes 1 - beta).

    Raises:
        InvalidInput: a time occurs twice, the target is in the library, or another order.
    """
    if order not in ORDERS:
        raise InvalidInput(f"order is {order!r}, needed one of {list(ORDERS)}")
    library, target = sorted(map(canonical_time, library_times)), canonical_time(target)
    if len(set(library)) < len(library):
        raise InvalidInput(f"library_times name a time twice: {library}")
    if target in library:
        raise InvalidInput(f"the target {target} is in the library; leave it out, it takes part in nothing")
    triples = [Triple(pre, target, post) for pre, post in combinations(library, 2)]
    if order == "ordered":
        return [triple for triple in triples if triple.pre < target < triple.post]
    if order == "past_only":
        return [triple for triple in triples if triple.post < target]
    return triples


def median_over_triples(stack: Array) -> tuple[FloatArray, FloatArray, Array]:
    """Per-pixel median of ``stack [n, H, W]``, its interquartile range, and how many values it rests on.

    NaN takes no part; a pixel without a value is NaN in both layers. Quartiles are interpolated linearly
    between order statistics, as ``np.nanpercentile`` does. Rows are sorted block by block, so memory
    beyond the answer stays bounded.

    Returns:
        median ``[H, W]`` float32, interquartile range ``[H, W]`` float32, count ``[H, W]`` uint8 (255 = 255 or more).
    """
    shape = stack.shape[1:]
    median, iqr = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    count = np.zeros(shape, np.uint8)
    for rows in _row_blocks(stack):
        ordered, n_valid = _sort_valid_first(stack[:, rows])
        median[rows] = _quantile(ordered, n_valid, 0.5)
        iqr[rows] = _quantile(ordered, n_valid, 0.75) - _quantile(ordered, n_valid, 0.25)
        count[rows] = np.minimum(n_valid, 255)
    return median, iqr, count


def median_over_clips(alpha_hcr: Array) -> FloatArray:
    """Per-HCR median of ``alpha_hcr [n_clips, n_hcr]`` over the clips that hold the HCR: ``[n_hcr]``."""
    return _quantile(*_sort_valid_first(alpha_hcr), 0.5).astype(np.float32)


def _row_blocks(stack: Array) -> Iterator[slice]:
    values_per_row = max(1, stack.size // max(1, stack.shape[1]))
    step = max(1, _BLOCK_VALUES // values_per_row)
    for start in range(0, stack.shape[1], step):
        yield slice(start, start + step)


def _sort_valid_first(stack: Array) -> tuple[Array, Array]:
    """Axis 0 in ascending order (numpy sorts NaN last), and the number of values before the NaN."""
    return np.sort(stack, axis=0), np.count_nonzero(~np.isnan(stack), axis=0)


def _quantile(ordered: Array, n_valid: Array, share: float) -> Array:
    """Order statistic at ``share`` of the way from the first to the last valid value, float64."""
    if len(ordered) == 0:
        return np.full(ordered.shape[1:], np.nan)
    last = np.maximum(n_valid - 1, 0)
    if last.size and last.min() == last.max():
        last = last.flat[:1]  # one rank for all pixels, as there are no gaps: much faster
    position = share * last
    below = position.astype(np.intp)
    low = _pick(ordered, below).astype(np.float64)
    high = _pick(ordered, np.minimum(below + 1, last))
    quantile: Array = low + (position - below) * (high - low)
    return quantile


def _pick(ordered: Array, rank: Array) -> Array:
    """``ordered[rank]`` along axis 0, with one rank for each pixel or a single one for all."""
    picked: Array = ordered[rank.item()] if rank.size == 1 else np.take_along_axis(ordered, rank[np.newaxis], axis=0)[0]
    return picked
