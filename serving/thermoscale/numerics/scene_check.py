"""Is a coarse scene like those of the library? It has no fine partner that could betray it.

Four questions, one finding each: are its values in the library's range, does it show the library's pattern, is there
an orbit seam, has its mean drifted away? A finding is evidence, for people and for a caller who wants to refuse; it
is no proof.

What cannot be seen from here: a coarse image that is smooth and plausible but of another state of the ground than
the fine image of its date. saltonsea_nir 2020-11-26 is such a case: its coarse image (a composite of many days) passes
every question, only the fine image (clouds, correlation 0.35) shows it; that is for :mod:`thermoscale.numerics.bias`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import Array, Quantity, in_unit_of, require_shape
from thermoscale.numerics.robust import robust_sd
from thermoscale.numerics.seams import strongest_seam

_MIN_FOR_ERRORS = 4  # fewer library scenes say nothing about how well neighbours in time foretell a scene
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SceneRule:
    """Limits of the four questions.

    Attributes:
        range_margin_k: how far, K, a cell may leave the range of all library scenes.
        max_outside: share of the cells that may do so.
        min_cells: cells that a question needs.
        min_correlation: the highest correlation with any library scene must reach it. Good scenes of real series
            have 0.59 and more, the seam of yanco_100m 0.02.
        min_contrast_k: standard deviation of a library scene, K, below which its pattern is the sensor's noise.
        max_seam: strongest step along a line, in units of what is usual (:mod:`thermoscale.numerics.seams`). Over a
            pattern of 3 K it misses 2 to 3 % of the seams of 5 to 9 K.
        min_usual_k: the least, K, that counts as usual there: smaller steps than ``max_seam`` times this do no harm.
        drift_k: allowed difference, K, from the scene expected between the library's neighbours in time; or
            ``drift_sigma`` times the error that this expectation has on the library itself, where that is more.
    """

    range_margin_k: float = 15.0
    max_outside: float = 0.01
    min_cells: int = 8
    min_correlation: float = 0.3
    min_contrast_k: float = 1.0
    max_seam: float = 2.0
    min_usual_k: float = 0.5
    drift_k: float = 10.0
    drift_sigma: float = 4.0

    def scaled(self, quantity: Quantity) -> "SceneRule":
        """The same rule in the unit of ``quantity``."""
        return in_unit_of(quantity, self)


@dataclass(frozen=True)
class Finding:
    """One question and its answer.

    Attributes:
        name: ``range``, ``pattern``, ``seam`` or ``drift``.
        value, limit: compared; NaN where the question could not be asked.
        passed: None where it could not be asked.
        words: the answer for people.
    """

    name: str
    value: float
    limit: float
    passed: bool | None
    words: str


def check_scene(
    coarse: Array, day: float, library: Array, library_days: Sequence[float], rule: SceneRule
) -> tuple[Finding, ...]:
    """The four findings on one scene, in the order of the module's first lines.

    Args:
        coarse: ``[h, w]``, NaN = no data.
        day: its time in days, on any clock.
        library: ``[T, h, w]`` coarse scenes that are trusted, in any order; not the scene itself.
        library_days: ``[T]`` on the same clock.
        rule: in the unit of the scenes.

    Raises:
        InvalidInput: shapes that do not fit.
    """
    require_shape("library", library, (len(library_days) or "T", *coarse.shape))
    scene, others = coarse.astype(np.float64), library.astype(np.float64)
    return (
        _check_range(scene, others, rule),
        _check_pattern(scene, others, rule),
        _check_seam(scene, others, rule),
        _check_drift(scene, day, others, np.asarray(library_days, dtype=np.float64), rule),
    )


def _check_range(scene: Doubles, library: Doubles, rule: SceneRule) -> Finding:
    valid, known = scene[~np.isnan(scene)], library[~np.isnan(library)]
    if not valid.size or not known.size:
        return _not_asked("range", "no value to compare")
    low, high = known.min() - rule.range_margin_k, known.max() + rule.range_margin_k
    share = float(((valid < low) | (valid > high)).mean())
    words = f"{share:.1%} of the cells lie outside {low:g} to {high:g}, the library's range with its margin"
    return Finding("range", share, rule.max_outside, share <= rule.max_outside, words)


def _check_pattern(scene: Doubles, library: Doubles, rule: SceneRule) -> Finding:
    found = [_correlation(scene, other, rule) for other in library]
    known = [value for value in found if value is not None]
    if not known:
        return _not_asked("pattern", "no library scene has enough common cells and contrast")
    highest, middle = max(known), float(np.median(known))
    words = f"correlation with {len(known)} library scenes: highest {highest:.2f}, median {middle:.2f}"
    return Finding("pattern", highest, rule.min_correlation, highest >= rule.min_correlation, words)


def _check_seam(scene: Doubles, library: Doubles, rule: SceneRule) -> Finding:
    seam = strongest_seam(_departure(scene, library))
    if seam is None:
        return _not_asked("seam", "too few values along any line")
    strength = seam.step_k / max(seam.usual_k, rule.min_usual_k)
    (top, left), (bottom, right) = seam.start, seam.end
    words = (
        f"strongest step along a line: {max(seam.step_k, 0.0):.3g}, {strength:.1f} times the usual difference, from "
        f"row {top:.0f}, col {left:.0f} to row {bottom:.0f}, col {right:.0f}"
    )
    return Finding("seam", strength, rule.max_seam, strength <= rule.max_seam, words)


def _check_drift(scene: Doubles, day: float, library: Doubles, days: Doubles, rule: SceneRule) -> Finding:
    drift = _mean_difference(scene, _expected(day, library, days))
    if np.isnan(drift):
        return _not_asked("drift", "no common cell with the library's neighbours in time")
    errors = [
        _mean_difference(other, _expected(own_day, np.delete(library, row, axis=0), np.delete(days, row)))
        for row, (own_day, other) in enumerate(zip(days, library, strict=True))
        if len(days) >= _MIN_FOR_ERRORS
    ]
    known = np.array([error for error in errors if not np.isnan(error)])
    usual = robust_sd(known, centre=0.0)
    limit = max(rule.drift_k, rule.drift_sigma * usual)
    words = f"on average {drift:+.3g} from what the library's neighbours in time make expect"
    return Finding("drift", abs(drift), limit, abs(drift) <= limit, words)


def _not_asked(name: str, reason: str) -> Finding:
    return Finding(name, np.nan, np.nan, None, f"not judged: {reason}")


def _correlation(scene: Doubles, other: Doubles, rule: SceneRule) -> float | None:
    """Over common cells; 0 for a constant scene; None where cells or the other's contrast are too few."""
    both = ~np.isnan(scene) & ~np.isnan(other)
    if both.sum() < rule.min_cells or float(other[both].std()) < rule.min_contrast_k:
        return None
    if np.ptp(scene[both]) == 0.0:
        return 0.0
    return float(np.corrcoef(scene[both], other[both])[0, 1])


def _departure(scene: Doubles, library: Doubles) -> Doubles:
    """What the library scene most like ``scene`` does not explain of it by a straight line; NaN where either has a gap.

    One scene, not the library's typical pattern: a scene of the same season leaves less, and so smaller seams are seen.
    """
    best, departure = 0.0, scene
    for other in library:
        both = ~np.isnan(scene) & ~np.isnan(other)
        if not both.any() or np.ptp(scene[both]) == 0.0 or np.ptp(other[both]) == 0.0:
            continue
        correlation = float(np.corrcoef(scene[both], other[both])[0, 1])
        if correlation > best:
            slope = correlation * float(scene[both].std() / other[both].std())
            best, departure = correlation, scene - slope * other
    return departure


def _expected(day: float, library: Doubles, days: Doubles) -> Doubles:
    """Linear between the library scenes before and after ``day``; outside the library's time its nearest scene."""
    order = np.argsort(days, kind="stable")
    position = float(np.interp(day, days[order], np.arange(len(days))))
    before, after = order[int(np.floor(position))], order[int(np.ceil(position))]
    weight = position - np.floor(position)
    expected: Doubles = library[before] + weight * (library[after] - library[before])
    return expected


def _mean_difference(scene: Doubles, expected: Doubles) -> float:
    difference = scene - expected
    known = difference[~np.isnan(difference)]
    return float(known.mean()) if known.size else np.nan
