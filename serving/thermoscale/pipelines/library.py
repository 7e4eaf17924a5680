"""The dated scenes I-USTFM draws its triples from: stored with the bundle, or brought by the request."""

from dataclasses import dataclass, field

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import InvalidInput
from thermoscale.formats import Series
from thermoscale.numerics.change_ratio import baseline_k
from thermoscale.pipelines.region import Region, decode_library

WHOLE = (slice(None), slice(None))


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
    _ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    _baselines: dict[frozenset[str], float] = field(default_factory=dict)

    def coarse_at(self, time: str) -> FloatArray:
        """``[h, w]`` values of ``time``."""
        return self._values(self.coarse[self.times.index(time)])

    def fine_at(self, time: str, rows_and_cols: tuple[slice, slice] = WHOLE) -> FloatArray:
        """Values of ``time`` on a part of the fine grid."""
        return self._values(self.fine[self.times.index(time)][rows_and_cols])

    def range_of(self, time: str) -> tuple[float, float]:
        """Smallest and largest fine value of ``time``; NaN, NaN if it has none."""
        if time not in self._ranges:
            values = self.fine_at(time)
            valid = values[np.isfinite(values)]
            self._ranges[time] = (float(valid.min()), float(valid.max())) if valid.size else (np.nan, np.nan)
        return self._ranges[time]

    def baseline_of(self, pre: str, post: str) -> float:
        """``|mean(post) - mean(pre)|`` over the fine pixels valid on both dates; NaN if there are none."""
        pair = frozenset((pre, post))
        if pair not in self._baselines:
            self._baselines[pair] = baseline_k(self.fine_at(pre), self.fine_at(post))
        return self._baselines[pair]

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
