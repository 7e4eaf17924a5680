"""Blocks: one scene cut into scenes of separate ground."""

import numpy as np
import pytest

from thermoscale.errors import InvalidInput
from thermoscale.formats import Georeference, Pairs
from thermoscale_train.data.blocks import cut_blocks
from thermoscale_train.data.folds import overlapping, spatial_folds, turns
from thermoscale_train.data.simulated import simulate_coarse

PLACE = Georeference("EPSG:32647", (30.0, 0.0, 600_000.0, 0.0, -30.0, 4_300_000.0))
SCENE = np.random.default_rng(0).uniform(290, 320, (64, 70)).astype(np.float32)
NDVI = np.random.default_rng(1).uniform(0, 1, (1, 64, 70)).astype(np.float32)


def cut(block_px: int = 20, scale_factor: int = 10) -> Pairs:
    return cut_blocks(SCENE, NDVI, ["ndvi"], ["1"], PLACE, block_px=block_px, scale_factor=scale_factor)


def test_blocks_laid_side_by_side_are_the_scene_again() -> None:
    pairs = cut()
    assert pairs.fine is not None
    assert pairs.factors is not None
    assert pairs.corner is not None
    again = np.full((60, 60), np.nan, np.float32)
    ndvi = again.copy()
    for (row, col), fine, factors in zip(pairs.corner * 10, pairs.fine, pairs.factors, strict=True):
        again[row : row + 20, col : col + 20] = fine
        ndvi[row : row + 20, col : col + 20] = factors[0]
    np.testing.assert_array_equal(again, SCENE[:60, :60])
    np.testing.assert_array_equal(ndvi, NDVI[0, :60, :60])


def test_a_block_lies_where_its_georeference_says() -> None:
    pairs = cut()
    assert pairs.id is not None
    place = pairs.fine_georeference(pairs.id.index("r20c40"))
    assert place is not None
    assert place.transform == (30.0, 0.0, 601_200.0, 0.0, -30.0, 4_299_400.0)


def test_the_coarse_image_is_that_of_the_simulated_experiment() -> None:
    pairs = cut()
    np.testing.assert_array_equal(pairs.coarse, simulate_coarse(pairs).coarse)
    assert pairs.scale_factor == 10


def test_no_block_shares_ground_with_another_and_none_is_dropped_in_a_turn() -> None:
    pairs = cut()
    np.testing.assert_array_equal(overlapping(pairs), np.eye(9, dtype=bool))
    assert [(len(turn.train), len(turn.test), turn.dropped) for turn in turns(pairs, spatial_folds(pairs, 3))] == [
        (3, 3, ())
    ] * 3


@pytest.mark.parametrize("block_px", [25, 70], ids=["no whole cells", "larger than the scene"])
def test_blocks_that_cannot_be_cut_are_refused(block_px: int) -> None:
    with pytest.raises(InvalidInput, match="needed a multiple of 10"):
        cut(block_px)
