"""An orbit seam in a coarse scene: a step along a straight line that runs through the scene.

For every such line the cells on one side are compared with those on the other, row by row. A coast or a field
border is a step, too, but not all along one line; a seam is. So the strength of a line is the step that nine
rows of ten exceed, in units of the differences that are usual in the scene.

What the library explains is subtracted before (:mod:`thermoscale.numerics.scene_check`). Measured at a limit of 2:
no false alarm in 157 real scenes (92 of saltonsea_nir, worst 0.8; 60 of aster_modis_europe without any library, worst
0.7; 3 of aster_modis_triple, 2 of yanco_100m) nor in 576 simulated ones (worst 1.6). Scenes of one place are nearly
alike, so these stand for some 70 independent ones and bound the rate of false alarms by about 4 %. The seam of
yanco_100m has 4.1. Faint seams pass: in saltonsea_nir an added step of 0.02 is found in a fifth of the scenes, one
of 0.06 in two thirds; in simulated ones one of 4 K in three fifths.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import Array
from thermoscale.numerics.robust import robust_sd

MAX_SIDE = 64
"""Larger scenes are averaged down to this many cells: a seam stays, the search stays quick."""

_CELLS = 2  # compared on either side
_GAP = 1  # cells next to the line that are left out: the line is straight, its cells are not
_SHARE = 0.1  # of the rows that may disagree
_MIN_LENGTH = 0.6  # share of the scene's rows or columns that a line must have values on

Doubles = npt.NDArray[np.float64]


class Seam(NamedTuple):
    """The strongest line of a scene.

    ``step_k`` is the step that nine rows of ten exceed, ``usual_k`` the robust standard deviation of side differences,
    ``start`` and ``end`` (row, col) are the line's ends in cells of the scene.
    """

    step_k: float
    usual_k: float
    start: tuple[float, float]
    end: tuple[float, float]


def strongest_seam(scene: Array) -> Seam | None:
    """The line of ``scene [h, w]`` (NaN = no data) with the largest step; None where no line has enough values.

    What is usual in the scene, such as its land cover, should have been subtracted before.
    """
    factor = -(-max(scene.shape) // MAX_SIDE)
    small = _shrink(np.asarray(scene, dtype=np.float64), factor)
    both = _side_differences(small), _side_differences(small.T)
    usual = _usual(np.concatenate([differences.ravel() for differences in both]))
    best: Seam | None = None
    for transposed, differences in enumerate(both):
        height = len(differences)
        for slope in _slopes(height):
            found = _best_line(_shear(differences, slope))
            if found is not None and (best is None or found[0] > best.step_k):
                ends = _line_ends(height, slope, found[1], factor, transposed=bool(transposed))
                best = Seam(found[0], usual, *ends)
    return best


def _slopes(height: int) -> Doubles:
    """Columns per row from -1 to 1, so close that a line between two of them stays within the gap."""
    return np.linspace(-1.0, 1.0, 2 * -(-height // 4) + 1)


def _side_differences(image: Doubles) -> Doubles:
    """Right minus left of the border before each column and of the last border: ``[h, w + 1]``."""
    reach, borders = _CELLS + _GAP, image.shape[1] + 1
    padded = np.pad(image, [(0, 0), (reach, reach)], constant_values=np.nan)
    left, right = range(_CELLS), range(reach + _GAP, 2 * reach)
    sides = (_mean_of_valid([padded[:, first : first + borders] for first in side]) for side in (left, right))
    left_side, right_side = sides
    return right_side - left_side


def _shear(differences: Doubles, slope: float) -> Doubles:
    """Every row moved so that lines of ``slope`` become columns, without the outermost borders; NaN from outside."""
    height, borders = differences.shape
    reach = _CELLS + _GAP
    moved = np.rint(slope * (np.arange(height)[:, None] - (height - 1) / 2)).astype(int)
    columns = np.arange(reach, max(borders - reach, reach)) + moved
    inside = (columns >= 0) & (columns < borders)
    return np.where(inside, np.take_along_axis(differences, np.clip(columns, 0, borders - 1), axis=1), np.nan)


def _mean_of_valid(parts: list[Doubles]) -> Doubles:
    """Mean of the valid values at each place, NaN where there is none."""
    stack = np.stack(parts)
    valid = ~np.isnan(stack)
    count = valid.sum(axis=0)
    total = np.where(valid, stack, 0.0).sum(axis=0)
    mean: Doubles = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _best_line(differences: Doubles) -> tuple[float, int] | None:
    """Largest step that all but a tenth of the rows exceed, in one direction, and its column."""
    rows = (~np.isnan(differences)).sum(axis=0)
    long = np.flatnonzero(rows >= max(_MIN_LENGTH * differences.shape[0], 1))
    if not long.size:
        return None
    ordered, last = np.sort(differences.T[long]), rows[long] - 1  # NaN go to the end
    skipped, lines = np.floor(_SHARE * last).astype(int), np.arange(long.size)
    lowest, highest = ordered[lines, skipped], ordered[lines, last - skipped]
    steps = np.maximum(lowest, -highest)
    return float(steps.max()), int(long[steps.argmax()])


def _usual(differences: Doubles) -> float:
    """Robust standard deviation; 0 where there is no difference."""
    return robust_sd(differences[~np.isnan(differences)])


def _line_ends(
    height: int, slope: float, column: int, factor: int, *, transposed: bool
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(row, col) of the border at the first and last row, in cells of the whole scene; swapped where transposed."""
    ends: Iterator[tuple[float, float]] = (
        (row * factor, factor * (column + _CELLS + _GAP + slope * (row - height / 2))) for row in (0.0, float(height))
    )
    start, end = ((col, row) if transposed else (row, col) for row, col in ends)
    return start, end


def _shrink(scene: Doubles, factor: int) -> Doubles:
    """Means of the valid cells in blocks of ``factor`` x ``factor``; the last blocks may be smaller."""
    if factor == 1:
        return scene
    padding = [(0, -size % factor) for size in scene.shape]
    padded = np.pad(scene, padding, constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    return _mean_of_valid([blocks[:, i, :, j] for i in range(factor) for j in range(factor)])
