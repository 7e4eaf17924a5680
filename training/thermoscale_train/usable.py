"""Which fine scenes may be used: one rule, and a reason for every scene left out. No gap is filled to save a scene."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import BoolArray, FloatArray, IntArray
from thermoscale.formats import Series
from thermoscale.numerics.grids import area_mean


@dataclass(frozen=True)
class UsableRule:
    """What a scene needs to be library or truth.

    Attributes:
        min_fine_coverage: share of valid fine pixels, of those that any date has.
        min_coarse_coverage: share of valid coarse cells.
        min_correlation: of the coarse image with the cell means of the fine one: below it the two did not see the
            same thing (cloud, orbit seam, wrong date).
        min_cells: cells with both values that a correlation needs.
    """

    min_fine_coverage: float = 0.7
    min_coarse_coverage: float = 0.5
    min_correlation: float = 0.5
    min_cells: int = 8


@dataclass(frozen=True)
class Exclusion:
    """A scene that is not used, and why."""

    id: str
    reason: str


def why_unusable(
    coarse: FloatArray,
    fine: FloatArray,
    coarse_index: IntArray,
    rule: UsableRule,
    footprint: BoolArray | None = None,
) -> str | None:
    """The first condition of ``rule`` that the pair fails, in words; None where it passes.

    Args:
        footprint: ``[H, W]``, pixels that the fine sensor can see at all; default all.
    """
    seen_fine = fine if footprint is None else fine[footprint]
    shares = ((seen_fine, "fine", rule.min_fine_coverage), (coarse, "coarse", rule.min_coarse_coverage))
    for image, name, needed in shares:
        coverage = float(np.isfinite(image).mean())
        if coverage < needed:
            return f"{name} coverage {coverage:.3f}, needed {needed:g}"
    means = area_mean(fine, coarse_index, (coarse.shape[0], coarse.shape[1]))
    both = np.isfinite(means) & np.isfinite(coarse)
    if both.sum() < rule.min_cells:
        return f"{int(both.sum())} cells hold a coarse and a fine value, needed {rule.min_cells}"
    seen, made = coarse[both].astype(np.float64), means[both].astype(np.float64)
    if np.ptp(seen) == 0.0 or np.ptp(made) == 0.0:
        return "one of the two images is constant: no correlation between coarse and fine"
    correlation = float(np.corrcoef(seen, made)[0, 1])
    if correlation < rule.min_correlation:
        return f"correlation of coarse and fine {correlation:.3f}, needed {rule.min_correlation:g}"
    return None


def split_usable(verdicts: Iterable[tuple[str, str | None]]) -> tuple[list[str], list[Exclusion]]:
    """Ids that passed, and the others with their reasons."""
    usable, excluded = [], []
    for name, reason in verdicts:
        if reason is None:
            usable.append(name)
        else:
            excluded.append(Exclusion(name, reason))
    return usable, excluded


def usable_dates(series: Series, rule: UsableRule) -> tuple[list[str], list[Exclusion]]:
    """Fine dates of ``series`` that pass ``rule``, ascending, and the others with their reasons.

    A pixel that no date has (outside the swath) counts against none.
    """
    footprint = np.logical_or.reduce(np.isfinite(series.fine), axis=0)
    return split_usable(
        (time, why_unusable(series.coarse_at(time), series.fine_at(time), series.coarse_index, rule, footprint))
        for time in sorted(series.fine_time)
    )
