"""Folds of scenes by ground, named in a file: every scene is judged once, by what was fitted without its ground.

    {"about": "...", "folds": {"A": ["27", "40"], "B": ["88"]}}

A fold is a spatial block. For one turn its scenes are the test, those of the next fold choose the best weights, and of
the rest every scene that overlaps either is dropped, so that the blocks' borders do not leak.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thermoscale.arrays import BoolArray, IntArray
from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs
from thermoscale_train.data.split import ground_groups

Folds = Mapping[str, tuple[int, ...]]
"""Name -> rows of the pairs."""

NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Turn(NamedTuple):
    """Rows of the pairs on each side of one turn."""

    name: str
    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]
    dropped: tuple[int, ...]


def spatial_folds(pairs: Pairs, count: int) -> Folds:
    """Bands of equally many scenes across the longer axis of their corners; without corners, whole grounds.

    Raises:
        InvalidInput: fewer scenes, or grounds, than folds, or more folds than letters.
    """
    if not 2 <= count <= len(NAMES):
        raise InvalidInput(f"{count} folds, needed 2 to {len(NAMES)}")
    order = np.arange(len(pairs)) if pairs.corner is None else _along(pairs.corner)
    ground = ground_groups(pairs) if pairs.corner is None else np.arange(len(pairs), dtype=np.int32)
    if len(np.unique(ground)) < count:
        raise InvalidInput(
            f"{len(pairs)} scenes of {len(np.unique(ground))} separate grounds cannot make {count} folds"
        )
    folds: dict[str, list[int]] = {name: [] for name in NAMES[:count]}
    if pairs.corner is not None:
        for name, rows in zip(folds, np.array_split(order, count), strict=True):
            folds[name] = rows.tolist()
    else:
        for group in sorted(np.unique(ground), key=lambda one: -int((ground == one).sum())):
            least = min(folds, key=lambda name: len(folds[name]))
            folds[least] += np.flatnonzero(ground == group).tolist()
    return {name: tuple(sorted(rows)) for name, rows in folds.items()}


def turns(pairs: Pairs, folds: Folds) -> list[Turn]:
    """One turn for every fold, in order.

    Raises:
        InvalidInput: a turn that has nothing left to train with.
    """
    overlaps, names = overlapping(pairs), list(folds)
    found = []
    for place, name in enumerate(names):
        test, valid = folds[name], folds[names[(place + 1) % len(names)]]
        valid = tuple(row for row in valid if not overlaps[row, list(test)].any())
        judged = [*test, *valid]
        rest = sorted({*range(len(pairs))} - {*judged})
        train = tuple(row for row in rest if not overlaps[row, judged].any())
        if not train or not valid:
            raise InvalidInput(
                f"fold {name}: {len(train)} scenes to train with and {len(valid)} to validate with are on other "
                "ground; needed one of each: make fewer or larger folds"
            )
        dropped = tuple(sorted({*range(len(pairs))} - {*test, *valid, *train}))
        found.append(Turn(name, train, valid, test, dropped))
    return found


def overlapping(pairs: Pairs) -> BoolArray:
    """``[N, N]`` do two scenes share ground: the same group, or corners closer than a scene; each with itself."""
    n = len(pairs)
    shared = np.eye(n, dtype=bool)
    if pairs.group is not None:
        groups = np.asarray(pairs.group)
        shared |= groups[:, None] == groups
    if pairs.corner is not None:
        extent = np.array(pairs.coarse.shape[1:])
        shared |= (np.abs(pairs.corner[:, None] - pairs.corner) < extent).all(axis=-1)
    return shared


def read_folds(path: Path, ids: tuple[str, ...]) -> Folds:
    """The folds in ``path`` as rows of the pairs that have ``ids``.

    Raises:
        InvalidInput: a file that cannot be read, or does not name every scene exactly once.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["folds"]
        named = {str(name): [str(one) for one in scenes] for name, scenes in stored.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(f"cannot read folds from {path}: {error!r}; needed {{'folds': {{NAME: [ids]}}}}") from error
    row_of = {one: row for row, one in enumerate(ids)}
    told = [one for scenes in named.values() for one in scenes]
    unknown, lacking = sorted({*told} - {*ids}), sorted({*ids} - {*told})
    if unknown or lacking or len(told) != len(ids):
        raise InvalidInput(
            f"{path} must name every scene once: unknown {unknown}, missing {lacking}, {len(told)} in all"
        )
    return {name: tuple(sorted(row_of[one] for one in scenes)) for name, scenes in named.items()}


def write_folds(path: Path, folds: Folds, ids: tuple[str, ...], about: str) -> None:
    """Write what :func:`read_folds` reads."""
    named = {name: [ids[row] for row in rows] for name, rows in folds.items()}
    path.write_text(json.dumps({"about": about, "folds": named}, indent=2) + "\n", encoding="utf-8")


def _along(corner: IntArray) -> IntArray:
    """Rows of the pairs along the axis in which they spread farther; ties along the other."""
    main = int(np.argmax(np.ptp(corner, axis=0)))
    return np.lexsort((corner[:, 1 - main], corner[:, main])).astype(np.int32)
