"""Splits: ground stays together, dates keep their order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs
from thermoscale_train.data.split import ground_groups, interior_dates, split_by_ground, spread_out

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}


def pairs_at(corners: list[tuple[int, int]], **more: object) -> Pairs:
    n = len(corners)
    return Pairs.from_arrays(
        {"coarse": np.full((n, 4, 4), 300, np.float32), "corner": np.array(corners, np.int32), **more}
    )


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_scenes_that_overlap_are_the_same_ground_and_labels_are_transitive(corners: list[tuple[int, int]]) -> None:
    groups = ground_groups(pairs_at(corners))
    for i, a in enumerate(corners):
        for j, b in enumerate(corners):
            if abs(a[0] - b[0]) < 4 and abs(a[1] - b[1]) < 4:
                assert groups[i] == groups[j]
    parent = list(range(len(corners)))  # the slow twin: flood fill
    for _ in corners:
        for i, a in enumerate(corners):
            for j, b in enumerate(corners):
                if abs(a[0] - b[0]) < 4 and abs(a[1] - b[1]) < 4:
                    parent[i] = parent[j] = min(parent[i], parent[j])
    assert len(set(groups.tolist())) == len(set(parent))


@given(st.lists(st.integers(0, 8), min_size=12, max_size=40))
@settings(max_examples=50, deadline=None)
def test_no_ground_stands_on_two_sides_and_no_scene_is_lost(grounds: list[int]) -> None:
    grounds = [*grounds, 0, 1, 2]
    pairs = Pairs.from_arrays({"coarse": np.full((len(grounds), 2, 2), 300, np.float32), "group": np.array(grounds)})
    folds = split_by_ground(pairs, SHARES)
    assert all(folds.values())
    assert sorted(i for fold in folds.values() for i in fold) == list(range(len(grounds)))
    sides = [{grounds[i] for i in fold} for fold in folds.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_without_group_or_corner_every_scene_is_its_own_ground() -> None:
    pairs = Pairs.from_arrays({"coarse": np.full((5, 2, 2), 300, np.float32)})
    folds = split_by_ground(pairs, SHARES)
    assert {name: len(fold) for name, fold in folds.items()} == {"train": 3, "valid": 1, "test": 1}


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(InvalidInput, match="separate grounds"):
        split_by_ground(pairs_at([(0, 0), (1, 1), (50, 50)]), SHARES)
    with pytest.raises(InvalidInput, match="sum to 1"):
        split_by_ground(pairs_at([(0, 0)]), {"train": 0.5})


def test_interior_dates_have_a_date_on_either_side() -> None:
    assert interior_dates(["c", "a", "d", "b"]) == ("b", "c")
    assert interior_dates(["a", "b"]) == ()


def test_dates_are_spread_evenly() -> None:
    assert spread_out(list("abcdefghi"), 3) == ("b", "e", "h")
    assert spread_out(["a"], 3) == ("a",)
    assert spread_out([], 3) == ()
