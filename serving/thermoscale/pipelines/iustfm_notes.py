"""What a reply of I-USTFM says about how far its answer is to be trusted; nothing of it changes a value."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from thermoscale.arrays import Array, BoolArray
from thermoscale.numerics.hcr import area_fractions
from thermoscale.pipelines.region import Region
from thermoscale.times import day_of

UNTRAINED = "the networks of this bundle are untrained: ratios are pooled over each HCR, and the closed form answers"
UNCALIBRATED = "spread_k is not calibrated: no library date was held out to measure it"


class HcrEvidence:
    """Which HCRs a coarse scene says anything about.

    Args:
        n_hcr: labels of ``region`` are below it.
    """

    def __init__(self, region: Region, n_hcr: int) -> None:
        self._n_pixels: Array = np.bincount(region.labels[region.labels >= 0].ravel(), minlength=n_hcr)
        self._holds = area_fractions(region.labels, region.coarse_index, region.slots.size, n_hcr) > 0.0

    def held(self, valid: BoolArray) -> BoolArray:
        """Whether any valid cell holds any area of the HCR: ``[n, n_cells]`` to ``[n, n_hcr]``."""
        found: BoolArray = valid.astype(np.float32) @ self._holds.astype(np.float32) > 0.0
        return found

    def without(self, held: BoolArray, consequence: str) -> tuple[int, list[str]]:
        """How many HCRs of the region are not ``held [n_hcr]``, and the warning if there are any."""
        bare = ~held & (self._n_pixels > 0)
        if not bare.any():
            return 0, []
        count, total = int(bare.sum()), int((self._n_pixels > 0).sum())
        share = float(self._n_pixels[bare].sum() / self._n_pixels.sum())
        return count, [
            f"{count} of {total} HCRs ({share:.1%} of their pixels) have no valid coarse cell: {consequence}"
        ]


def complete(answer: Mapping[str, Any], mode: str, time: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """``answer`` with ``mode``, and with its ``coarse_facts`` and ``facts`` as one, all warnings in one list."""
    rest = {name: value for name, value in answer.items() if name != "coarse_facts"}
    coarse = answer["coarse_facts"]
    warnings = [*coarse["warnings"], *facts["warnings"], *_extrapolation(time, answer["dates_used"])]
    if not facts["spread_calibrated"]:
        warnings.append(UNCALIBRATED)
    return {**rest, "mode": mode, "facts": {**coarse, **facts, "warnings": warnings}}


def _extrapolation(time: str, dates_used: Iterable[Sequence[str]]) -> list[str]:
    """A warning where all dates in use lie on one side of ``time``."""
    dates = sorted({date for dates in dates_used for date in dates})
    if dates[0] < time < dates[-1]:
        return []
    side, nearest = ("before", dates[-1]) if dates[-1] < time else ("after", dates[0])
    days = abs(day_of(time) - day_of(nearest))
    return [
        f"all {len(dates)} library dates in use lie {side} {time}, the nearest {days:.0f} days away: "
        "the answer is extrapolated in time"
    ]
