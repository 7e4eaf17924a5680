"""Which triples a library of dates offers, and how their answers are combined."""

from collections.abc import Iterable
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import InvalidInput
from thermoscale.numerics.rank_network import sort_rows
from thermoscale.times import canonical_time

TripleOrder = Literal["ordered", "unordered", "past_only"]
ORDERS: tuple[TripleOrder, ...] = ("ordered", "unordered", "past_only")

_BLOCK_VALUES = 1 << 18  # values ranked at once: 1 MB of float32 stays in the cache


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
    between order statistics, as ``np.nanpercentile`` does. Pixels are ranked block by block, so memory
    beyond the answer stays bounded.

    Returns:
        median ``[H, W]`` float32, interquartile range ``[H, W]`` float32, count ``[H, W]`` uint8 (255 = 255 or more).
    """
    shape, n_pixels = stack.shape[1:], int(np.prod(stack.shape[1:]))
    flat = stack.reshape(len(stack), n_pixels)
    median, iqr = np.full(n_pixels, np.nan, np.float32), np.full(n_pixels, np.nan, np.float32)
    count = np.zeros(n_pixels, np.uint8)
    step = max(1, _BLOCK_VALUES // max(1, len(stack)))
    for start in range(0, n_pixels if len(stack) else 0, step):
        block = slice(start, start + step)
        rows = list(flat[:, block].copy())
        median[block], iqr[block], count[block] = median_of_rows(rows, np.empty_like(rows[0]))
    return median.reshape(shape), iqr.reshape(shape), count.reshape(shape)


def median_over_clips(alpha_hcr: Array) -> FloatArray:
    """Per-HCR median of ``alpha_hcr [n_clips, n_hcr]`` over the clips that hold the HCR: ``[n_hcr]``."""
    median, _, _ = median_over_triples(alpha_hcr[:, np.newaxis])
    return median.reshape(-1)


def median_of_rows(rows: list[Array], spare: Array) -> tuple[FloatArray, FloatArray, Array]:
    """:func:`median_over_triples` of rows that may be overwritten.

    Args:
        rows: n arrays ``[P]``, NaN = no value.
        spare: one more such array.

    Returns:
        ``[P]`` each: median and interquartile range, NaN without a value; count uint8.
    """
    count = _pad_gaps(rows)
    ordered = sort_rows(rows, spare)
    most, fewest = int(count.max()), int(count.min())
    with np.errstate(invalid="ignore"):  # inf - inf, at pixels with fewer values, which come next
        median, iqr = _at_ranks(ordered, most)
    for n_valid in range(fewest, most):
        pixels = np.flatnonzero(count == n_valid)
        median[pixels], iqr[pixels] = _at_ranks(ordered, n_valid, pixels)
    return median, iqr, np.minimum(count, 255).astype(np.uint8)


def _pad_gaps(rows: list[Array]) -> Array:
    """Number of values in each column ``[P]``; NaN becomes +inf, so that it ranks last."""
    count = np.full(rows[0].shape, len(rows), np.uint8 if len(rows) < 256 else np.uint32)
    for row in rows:
        gap = np.isnan(row)
        if gap.any():
            np.copyto(row, np.inf, where=gap)
            count -= gap
    return count


def _at_ranks(ordered: list[Array], n_valid: int, pixels: Array | None = None) -> tuple[FloatArray, FloatArray]:
    """Median and interquartile range where the first ``n_valid`` rows hold values, at some ``pixels`` (default: all).

    With the quartile ``share / 4`` of the way from rank b to b + 1, the range is (1 - share / 4) of the distance of the
    ranks b and -b plus share / 4 of the distance of the ranks next to them inside.
    """
    size = ordered[0].shape if pixels is None else pixels.shape
    if n_valid == 0:
        return np.full(size, np.nan, np.float32), np.full(size, np.nan, np.float32)

    def rank(number: int) -> Array:
        values: Array = ordered[number] if pixels is None else ordered[number][pixels]
        return values

    half = np.float32(0.5)
    median = half * (rank((n_valid - 1) // 2) + rank(n_valid // 2))
    below, share = divmod(n_valid - 1, 4)
    iqr = rank(n_valid - 1 - below) - rank(below)
    if share:
        inner = rank(n_valid - 2 - below) - rank(below + 1)
        iqr = np.float32(1 - share / 4) * iqr + np.float32(share / 4) * inner
    return median.astype(np.float32, copy=False), iqr.astype(np.float32, copy=False)
