"""The dated scenes I-USTFM draws its triples from: stored with the bundle, or brought by the request."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from thermoscale.arrays import Array, FloatArray, IntArray
from thermoscale.errors import InvalidInput
from thermoscale.formats import Series
from thermoscale.numerics.bias import Bias, BiasRule, fit_bias
from thermoscale.pipelines.region import Region, decode_library

WHOLE = (slice(None), slice(None))
_PIECE_PIXELS = 1 << 18
_MIN_SHARE = 0.5  # of a cell's fine pixels, as in area_mean


class _Summary(NamedTuple):
    """Of one fine scene: smallest and largest valid value, sum and number of them."""

    low: float
    high: float
    total: float
    n_valid: int


@dataclass(frozen=True, eq=False)
class Library:
    """T dates with a coarse and a fine scene each.

    Attributes:
        times: canonical times.
        coarse, fine: ``[T, h, w]`` and ``[T, H, W]``: values (NaN = no data), or codes if there is a ``step``.
        step: value per code; None where the arrays hold values.
    """

    times: tuple[str, ...]
    coarse: Array
    fine: Array
    step: float | None
    _summaries: dict[str, "_Summary"] = field(default_factory=dict)
    _baselines: dict[frozenset[str], float] = field(default_factory=dict)
    _biases: dict[tuple[str, BiasRule], Bias] = field(default_factory=dict)

    def coarse_at(self, time: str) -> FloatArray:
        """``[h, w]`` values of ``time``."""
        return self._values(self.coarse[self.times.index(time)])

    def fine_at(self, time: str, rows_and_cols: tuple[slice, slice] = WHOLE) -> FloatArray:
        """Values of ``time`` on a part of the fine grid."""
        return self._values(self.fine[self.times.index(time)][rows_and_cols])

    def read_fine(self, time: str, rows_and_cols: tuple[slice, slice], out: FloatArray) -> None:
        """:meth:`fine_at` into an array of the same shape."""
        scene = self.fine[self.times.index(time)][rows_and_cols]
        np.copyto(out, scene, casting="unsafe")
        if self.step is not None:
            out *= np.float32(self.step)
            if not scene.all():
                out[scene == 0] = np.nan

    def range_of(self, time: str) -> tuple[float, float]:
        """Smallest and largest fine value of ``time``; NaN, NaN if it has none."""
        return self._summary(time).low, self._summary(time).high

    def baseline_of(self, pre: str, post: str) -> float:
        """``|mean(post) - mean(pre)|`` over the fine pixels valid on both dates; NaN if there are none."""
        pair = frozenset((pre, post))
        if pair not in self._baselines:
            whole = self.fine[0].size
            one, other = self._summary(pre), self._summary(post)
            if one.n_valid == other.n_valid == whole:
                self._baselines[pair] = abs(other.total - one.total) / whole
            else:
                self._baselines[pair] = self._baseline_over_gaps(pre, post)
        return self._baselines[pair]

    def bias_of(self, time: str, coarse_index: IntArray, rule: BiasRule) -> Bias:
        """The coarse scene of ``time`` against its fine one; ``coarse_index`` is the library's own, always the same."""
        if (time, rule) not in self._biases:
            self._biases[time, rule] = fit_bias(self.coarse_at(time), self._cell_means(time, coarse_index), rule)
        return self._biases[time, rule]

    def _cell_means(self, time: str, coarse_index: IntArray) -> FloatArray:
        """As ``numerics.grids.area_mean`` of the fine scene of ``time``, in pieces."""
        shape = self.coarse.shape[1:]
        sums, n_valid, n_all = np.zeros((3, shape[0] * shape[1] + 1))  # cell 0 collects the pixels outside
        for piece in self._pieces():
            values, cells = self.fine_at(time, piece).ravel(), coarse_index[piece].ravel() + 1
            counts = np.bincount(cells, minlength=n_all.size)
            n_all += counts
            valid = ~np.isnan(values)
            if not valid.all():
                values, cells = values[valid], cells[valid]
                counts = np.bincount(cells, minlength=n_all.size)
            n_valid += counts
            sums += np.bincount(cells, values, n_all.size)
        enough = n_valid >= np.maximum(_MIN_SHARE * n_all, 1)
        means = np.divide(sums, n_valid, out=np.full(sums.shape, np.nan), where=enough)
        in_cells: FloatArray = means[1:].reshape(shape).astype(np.float32)
        return in_cells

    def _summary(self, time: str) -> "_Summary":
        """Of the valid fine pixels of ``time``, one pass over it in pieces."""
        if time not in self._summaries:
            low, high, total, count = np.nan, np.nan, 0.0, 0
            for rows in self._pieces():
                values = self.fine_at(time, rows)
                valid = values[~np.isnan(values)]
                if valid.size:
                    low, high = np.fmin(low, valid.min()), np.fmax(high, valid.max())
                    total, count = total + float(valid.sum(dtype=np.float64)), count + valid.size
            self._summaries[time] = _Summary(float(low), float(high), total, count)
        return self._summaries[time]

    def _baseline_over_gaps(self, pre: str, post: str) -> float:
        """As ``numerics.change_ratio.baseline_k``, in pieces."""
        total, count = 0.0, 0
        for rows in self._pieces():
            change = self.fine_at(post, rows).astype(np.float64) - self.fine_at(pre, rows)
            valid = ~np.isnan(change)
            total, count = total + float(change[valid].sum()), count + int(np.count_nonzero(valid))
        return abs(total / count) if count else float("nan")

    def _pieces(self) -> Iterator[tuple[slice, slice]]:
        """The fine grid in pieces of whole rows."""
        height, width = self.fine.shape[1:]
        step = max(1, _PIECE_PIXELS // width)
        for row in range(0, height, step):
            yield slice(row, row + step), slice(None)

    def _values(self, scene: Array) -> FloatArray:
        return scene if self.step is None else decode_library(scene, self.step)


def stored_library(region: Region, step: float) -> Library:
    """The library a bundle carries."""
    return Library(region.library_time, region.library_coarse, region.library_fine, step)


def own_library(series: Series, region: Region, quantity: str) -> Library:
    """The dates of ``series`` that have both images, on the region's grids.

    Raises:
        InvalidInput: another quantity, or grids that are not the region's.
    """
    if series.quantity != quantity:
        raise InvalidInput(f"the series holds {series.quantity}, the bundle was made for {quantity}")
    for name, got, needed in (
        ("coarse", series.coarse.shape[1:], region.coarse_shape),
        ("fine", series.fine.shape[1:], region.fine_shape),
    ):
        if got != needed:
            raise InvalidInput(
                f"{name} scenes of the series have shape {list(got)}, the bundle's {name} grid has {list(needed)}; "
                "HCRs and slots belong to the bundle's place"
            )
    if not np.array_equal(series.coarse_index, region.coarse_index):
        raise InvalidInput("coarse_index of the series differs from the bundle's: the grids are not the same place")
    partners = [series.coarse_time.index(time) for time in series.fine_time]
    return Library(series.fine_time, series.coarse[partners], series.fine, None)
