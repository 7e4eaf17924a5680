"""Pairs around a target, and what STARFM, ESTARFM and Fit-FC share: moving windows and spectrally similar pixels.

A window is square, ``2 * radius + 1`` fine pixels wide. Every pixel of a block of rows meets its neighbours one offset
at a time, so all arithmetic is on whole blocks that fit into the cache.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from thermoscale.arrays import Array, FloatArray, IntArray
from thermoscale.errors import Undetermined
from thermoscale.formats import Series, canonical_time
from thermoscale.numerics.grids import interpolate
from thermoscale_train.baselines.persistence import nearest_fine_time

BLOCK_PIXELS = 1 << 15
WINDOW_CELLS = 3.0
MAX_WINDOW_PX = 51
"""STARFM's window of 1500 m: three coarse pixels of 500 m, 51 fine pixels of 30 m."""


class Pair(NamedTuple):
    """Both images of one library date on the fine grid, ``[H, W]``; the coarse one is brought there bilinearly."""

    fine: FloatArray
    coarse: FloatArray


def on_fine_grid(coarse: FloatArray, coarse_index: IntArray) -> FloatArray:
    """Coarse ``[h, w]`` to ``[H, W]``, bilinear, NaN where the own cell is."""
    return interpolate(coarse, coarse_index, order=1)


def pair_at(series: Series, time: str) -> Pair:
    """The pair of a library date."""
    return Pair(series.fine_at(time), on_fine_grid(series.coarse_at(time), series.coarse_index))


def nearest_pair(series: Series, time: str) -> Pair:
    """The pair of the nearest fine date; of two as close, the earlier.

    Raises:
        Undetermined: the library has no fine date.
    """
    if not series.fine_time:
        raise Undetermined(f"the library has no fine date: no pair to predict {time} from")
    return pair_at(series, nearest_fine_time(series, time))


def pairs_around(series: Series, time: str) -> tuple[Pair, Pair]:
    """The last pair before ``time`` and the first one after it.

    Raises:
        Undetermined: no fine date on one of the sides.
    """
    time = canonical_time(time)
    before = max((other for other in series.fine_time if other < time), default=None)
    after = min((other for other in series.fine_time if other > time), default=None)
    if before is None or after is None:
        side = "before" if before is None else "after"
        raise Undetermined(
            f"no fine date {side} {time}: two pairs are needed; the library has {sorted(series.fine_time)}"
        )
    return pair_at(series, before), pair_at(series, after)


def window_radius(coarse_index: IntArray) -> int:
    """Radius in fine pixels of a window of :data:`WINDOW_CELLS` coarse cells, at most :data:`MAX_WINDOW_PX` wide."""
    sizes = np.bincount(coarse_index[coarse_index >= 0])
    side_px = WINDOW_CELLS * float(np.sqrt(np.median(sizes[sizes > 0])))
    return max(1, round(min(side_px, MAX_WINDOW_PX) - 1) // 2)


def relative_distance(radius: int) -> Array:
    """``1 + d / radius`` to every pixel of the window, ``[2 * radius + 1, 2 * radius + 1]`` float64."""
    away = np.arange(-radius, radius + 1)
    distance: Array = 1.0 + np.hypot(away[:, None], away) / radius
    return distance


def similarity_limit(fine: Array, n_classes: int) -> float:
    """How far similar pixels may differ: two standard deviations of the scene over the number of classes."""
    valid = fine[np.isfinite(fine)].astype(np.float64)
    return 2.0 * float(valid.std()) / n_classes if valid.size else 0.0


def valid_mean(values: Array) -> float:
    """Mean of the valid values, 0 if there is none: a reference that keeps the digits of sums."""
    valid = values[np.isfinite(values)]
    return float(valid.mean(dtype=np.float64)) if valid.size else 0.0


def pad(image: Array, radius: int, fill: float) -> Array:
    """``image`` with a margin of ``radius`` pixels of ``fill``: what lies outside takes no part."""
    return np.pad(image, radius, constant_values=fill)


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows that together cover ``shape``."""
    step = max(1, BLOCK_PIXELS // shape[1])
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def neighbours(padded: Array, rows: slice, width: int, offset: tuple[int, int]) -> Array:
    """View of the neighbours of the pixels of ``rows``, all ``width`` columns, at one ``offset``.

    Args:
        padded: from :func:`pad`.
        offset: row and column in the window, each 0 ... 2 * radius; the pixel itself is at (radius, radius).
    """
    row, col = offset
    view: Array = padded[rows.start + row : rows.stop + row, col : col + width]
    return view
