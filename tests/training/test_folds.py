"""Folds: every scene is judged once, by what was fitted without its ground."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs
from thermoscale.geo.datasets import read_pairs
from thermoscale_train.data.folds import overlapping, read_folds, spatial_folds, turns, write_folds

IDS = ("a", "b", "c", "d")


def pairs_at(corners: list[tuple[int, int]], **more: object) -> Pairs:
    n = len(corners)
    return Pairs.from_arrays(
        {"coarse": np.full((n, 4, 4), 300, np.float32), "corner": np.array(corners, np.int32), **more}
    )


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=8, max_size=30), st.integers(2, 4))
@settings(max_examples=50, deadline=None)
def test_a_fold_is_a_band_and_no_side_of_a_turn_shares_ground_with_another(
    corners: list[tuple[int, int]], count: int
) -> None:
    corners = [*corners, *((100 * far, 0) for far in range(1, 5))]
    pairs = pairs_at(corners)
    folds = spatial_folds(pairs, count)
    assert sorted(row for rows in folds.values() for row in rows) == list(range(len(corners)))
    bands = [[corners[row][0] for row in rows] for rows in folds.values()]
    assert all(max(one) <= min(other) for one, other in pairwise(bands))
    try:
        found = turns(pairs, folds)
    except InvalidInput:
        return
    shared = overlapping(pairs)
    for turn in found:
        sides = (turn.train, turn.valid, turn.test)
        assert sorted(row for side in (*sides, turn.dropped) for row in side) == list(range(len(corners)))
        for side, other in ((sides[0], sides[1]), (sides[0], sides[2]), (sides[1], sides[2])):
            assert not shared[np.ix_(side, other)].any()


def test_without_corners_whole_grounds_make_the_folds() -> None:
    pairs = Pairs.from_arrays({"coarse": np.full((6, 2, 2), 300, np.float32), "group": np.array([0, 0, 0, 1, 2, 2])})
    assert {frozenset(rows) for rows in spatial_folds(pairs, 3).values()} == {
        frozenset({0, 1, 2}),
        frozenset({3}),
        frozenset({4, 5}),
    }


def test_folds_are_what_their_file_says(tmp_path: Path) -> None:
    folds = {"A": (0, 3), "B": (1, 2)}
    write_folds(tmp_path / "folds.json", folds, IDS, "two by two")
    assert read_folds(tmp_path / "folds.json", IDS) == folds


@pytest.mark.parametrize(
    "folds",
    [{"A": ["a", "b"], "B": ["c"]}, {"A": ["a", "b"], "B": ["b", "c", "d"]}, {"A": list("abcde")}],
    ids=["one is missing", "one stands in two", "one is unknown"],
)
def test_a_file_that_does_not_name_every_scene_once_is_refused(tmp_path: Path, folds: dict[str, list[str]]) -> None:
    (tmp_path / "folds.json").write_text(json.dumps({"folds": folds}), encoding="utf-8")
    with pytest.raises(InvalidInput, match="every scene once"):
        read_folds(tmp_path / "folds.json", IDS)


@pytest.mark.parametrize("text", ["{", "[]", '{"folds": 3}', "{}"])
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "folds.json").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match="cannot read folds"):
        read_folds(tmp_path / "folds.json", IDS)


def test_blocks_that_leave_nothing_to_train_with_are_refused() -> None:
    pairs = pairs_at([(0, 0), (1, 0), (2, 0), (3, 0)])
    with pytest.raises(InvalidInput, match="fold A: 0 scenes to train with"):
        turns(pairs, spatial_folds(pairs, 2))


def test_more_folds_than_grounds_are_refused() -> None:
    pairs = Pairs.from_arrays({"coarse": np.full((4, 2, 2), 300, np.float32), "group": np.array([0, 0, 1, 1])})
    with pytest.raises(InvalidInput, match="2 separate grounds cannot make 3 folds"):
        spatial_folds(pairs, 3)


def test_the_named_folds_of_the_real_scenes_are_the_bands_that_are_made_without_a_file(data_folder: Path) -> None:
    pairs = read_pairs(data_folder / "aster_modis_europe" / "pairs.npz")
    named = Path(__file__).parents[2] / "training" / "runs" / "folds_aster_modis_europe.json"
    assert pairs.id is not None
    assert read_folds(named, pairs.id) == spatial_folds(pairs, 5)
