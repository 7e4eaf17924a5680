"""What may stand on which side: scenes by ground, dates by position. Nothing that is judged takes part in a fit."""

from collections.abc import Mapping, Sequence

import numpy as np

from thermoscale.arrays import IntArray
from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs


def ground_groups(pairs: Pairs) -> IntArray:
    """``[N]`` number of the ground of each scene: the given groups, else scenes whose corners overlap, else one each.

    Overlap is transitive: two scenes that both overlap a third are the same ground.
    """
    if pairs.group is not None:
        return np.unique(pairs.group, return_inverse=True)[1].astype(np.int32)
    groups = np.arange(len(pairs), dtype=np.int32)
    if pairs.corner is None:
        return groups
    extent = np.array(pairs.coarse.shape[1:])
    for first in range(len(pairs)):
        overlaps = (np.abs(pairs.corner - pairs.corner[first]) < extent).all(axis=1)
        joined = np.isin(groups, groups[overlaps])
        groups[joined] = groups[joined].min()
    return np.unique(groups, return_inverse=True)[1].astype(np.int32)


def split_by_ground(pairs: Pairs, shares: Mapping[str, float]) -> dict[str, tuple[int, ...]]:
    """Indexes of the scenes of each fold; scenes of one ground stay together.

    Deterministic: the largest ground goes first, each to the fold that lacks most of its share; the last ones to
    folds that have none yet.

    Args:
        shares: fold -> wanted share of the scenes, for example ``{"train": 0.6, "valid": 0.15, "test": 0.25}``.

    Raises:
        InvalidInput: shares that do not sum to 1, or fewer grounds than folds.
    """
    if abs(sum(shares.values()) - 1.0) > 1e-6 or min(shares.values(), default=0.0) <= 0.0:
        raise InvalidInput(f"shares {dict(shares)} must be positive and sum to 1")
    groups = ground_groups(pairs)
    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    if len(members) < len(shares):
        raise InvalidInput(f"{len(pairs)} scenes of {len(members)} separate grounds cannot be split into {len(shares)}")
    folds: dict[str, list[int]] = {name: [] for name in shares}
    for placed, ground in enumerate(sorted(members, key=lambda scenes: (-len(scenes), scenes[0]))):
        empty = [name for name in shares if not folds[name]]
        choice = empty if len(empty) == len(members) - placed else list(shares)
        lacking = {name: shares[name] * len(pairs) - len(folds[name]) for name in choice}
        folds[max(lacking, key=lambda name: lacking[name])] += ground.tolist()
    return {name: tuple(sorted(scenes)) for name, scenes in folds.items()}


def interior_dates(times: Sequence[str]) -> tuple[str, ...]:
    """The dates with one before and one after, ascending: the targets of fusion."""
    return tuple(sorted(times)[1:-1])


def spread_out(times: Sequence[str], count: int) -> tuple[str, ...]:
    """``count`` of ``times``, as evenly spaced in their order as can be."""
    count = min(count, len(times))
    positions = (np.arange(count) + 0.5) * len(times) / max(count, 1)
    return tuple(sorted(times)[int(position)] for position in positions)
