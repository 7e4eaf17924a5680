"""Pairs of one ground on several dates, as a Series: few library dates whose times nobody recorded.

Pairs (FORMATS) overlap where their corners say so. What three of them have in common is a small series of three dates;
where their times are unknown, evenly spaced stand-ins take their place (``evaluate iustfm --targets undated``).
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs, Series

N_DATES = 3


class CommonGround(NamedTuple):
    """``scenes``: positions in the pairs. ``corner``, ``extent``: rows and columns on the common coarse grid."""

    scenes: tuple[int, ...]
    corner: tuple[int, int]
    extent: tuple[int, int]


def common_grounds(pairs: Pairs, min_side: int) -> list[CommonGround]:
    """Three scenes each with at least ``min_side`` x ``min_side`` coarse cells in common; each scene once.

    The largest common ground is taken first, of equals the one of the first scenes.

    Raises:
        InvalidInput: the pairs have no corners.
    """
    if pairs.corner is None:
        raise InvalidInput("pairs have no corner: nothing says which of them overlap")
    shape = np.array(pairs.coarse.shape[1:])
    found = []
    for scenes in combinations(range(len(pairs)), N_DATES):
        corners = pairs.corner[list(scenes)]
        low, high = corners.max(axis=0), corners.min(axis=0) + shape
        extent = high - low
        if (extent >= min_side).all():
            found.append(CommonGround(scenes, (int(low[0]), int(low[1])), (int(extent[0]), int(extent[1]))))
    found.sort(key=lambda ground: (-ground.extent[0] * ground.extent[1], ground.scenes))
    chosen: list[CommonGround] = []
    for ground in found:
        if not any(set(ground.scenes) & set(other.scenes) for other in chosen):
            chosen.append(ground)
    return chosen


def undated_series(pairs: Pairs, ground: CommonGround) -> Series:
    """The scenes of ``ground`` cut to what they have in common; times are evenly spaced stand-ins.

    Raises:
        InvalidInput: the pairs have no corners or no fine scenes.
    """
    if pairs.corner is None or pairs.fine is None:
        raise InvalidInput("a series needs pairs with corners and fine scenes")
    factor = pairs.fine.shape[1] // pairs.coarse.shape[1]
    coarse, fine = [], []
    for scene in ground.scenes:
        row, col = (np.array(ground.corner) - pairs.corner[scene]).tolist()
        height, width = ground.extent
        coarse.append(pairs.coarse[scene, row : row + height, col : col + width])
        rows = slice(row * factor, (row + height) * factor)
        fine.append(pairs.fine[scene, rows, col * factor : (col + width) * factor])
    times = [f"{2001 + number}-01-01" for number in range(len(ground.scenes))]
    return Series.from_arrays(
        {"coarse": np.stack(coarse), "coarse_time": times, "fine": np.stack(fine), "fine_time": times}
    )
