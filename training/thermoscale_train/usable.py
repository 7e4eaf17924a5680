"""Which fine scenes may be used: one rule, and a reason for every scene left out. No gap is filled to save a scene."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from thermoscale.arrays import QUANTITIES, BoolArray, FloatArray, IntArray, Quantity
from thermoscale.formats import Series
from thermoscale.numerics.bias import BiasRule, contradicts, fit_bias
from thermoscale.numerics.grids import area_mean


@dataclass(frozen=True)
class UsableRule:
    """What a scene needs to be library or truth.

    Attributes:
        min_fine_coverage: share of valid fine pixels, of those that any date has.
        min_coarse_coverage: share of valid coarse cells.
        pair: when a coarse image and the cell means of the fine one are believed to have seen the same thing (no cloud,
            no orbit seam, the right date); the rule that serving leaves library dates out by.
    """

    min_fine_coverage: float = 0.7
    min_coarse_coverage: float = 0.5
    pair: BiasRule = field(default_factory=BiasRule)

    def scaled(self, quantity: Quantity) -> "UsableRule":
        """The same rule in the unit of ``quantity``."""
        return replace(self, pair=self.pair.scaled(quantity))


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
        rule: in the unit of the images.
        footprint: ``[H, W]``, pixels that the fine sensor can see at all; default all.
    """
    seen_fine = fine if footprint is None else fine[footprint]
    shares = ((seen_fine, "fine", rule.min_fine_coverage), (coarse, "coarse", rule.min_coarse_coverage))
    for image, name, needed in shares:
        coverage = float(np.isfinite(image).mean())
        if coverage < needed:
            return f"{name} coverage {coverage:.3f}, needed {needed:g}"
    bias = fit_bias(coarse, area_mean(fine, coarse_index, (coarse.shape[0], coarse.shape[1])), rule.pair)
    if bias.n_cells < rule.pair.min_cells:
        return f"{bias.n_cells} cells hold a coarse and a fine value, needed {rule.pair.min_cells}"
    if contradicts(bias, rule.pair):
        return f"correlation of coarse and fine {bias.correlation:.3f}, needed {rule.pair.min_correlation:g}"
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
    """Fine dates of ``series`` that pass ``rule`` (thresholds in kelvin), ascending, and the others with their reasons.

    A pixel that no date has (outside the swath) counts against none.
    """
    rule = rule.scaled(QUANTITIES[series.quantity])
    footprint = np.logical_or.reduce(np.isfinite(series.fine), axis=0)
    return split_usable(
        (time, why_unusable(series.coarse_at(time), series.fine_at(time), series.coarse_index, rule, footprint))
        for time in sorted(series.fine_time)
    )
