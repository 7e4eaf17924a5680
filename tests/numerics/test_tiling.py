"""Tiles: laws about identity networks, windows and blend weights, and a twin that loops over pixels."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.numerics.tiling import Blend, TileGrid, core_weights, predict_tiled, read_tile, tile_windows

laws = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
origins = st.tuples(st.integers(-50, 50), st.integers(-50, 50))
shapes = st.tuples(st.integers(1, 30), st.integers(1, 30))


@st.composite
def tile_grids(draw: st.DrawFn) -> TileGrid:
    stride, overlap, halo = draw(st.integers(1, 9)), draw(st.integers(0, 9)), draw(st.integers(0, 4))
    multiple = draw(st.sampled_from([k for k in (1, 2, 3, 4) if stride % k == 0]))
    return TileGrid(tile_px=stride + overlap + 2 * halo, halo_px=halo, overlap_px=overlap, multiple_px=multiple)


def tiled(network: object, image: Array, grid: TileGrid, origin: tuple[int, int] = (0, 0)) -> Array:
    return predict_tiled(network, image, **vars(grid), origin=origin)  # type: ignore[arg-type]


def scene(seed: int, shape: tuple[int, int]) -> Array:
    return np.random.default_rng(seed).normal(290, 10, (2, *shape)).astype(np.float32)


def identity(tile: Array) -> Array:
    return tile[0]


def sum_around(tile: Array) -> Array:
    """A network with receptive radius 1, whose border pixels are wrong as a padded convolution's are."""
    padded = np.pad(tile[0], 1)
    H, W = tile.shape[1:]
    return sum(padded[i : i + H, j : j + W] for i in range(3) for j in range(3))


def tile_mean(tile: Array) -> Array:
    """A network that depends on the whole tile: every seam and every shifted tile shows."""
    return np.full(tile.shape[1:], tile.mean(), np.float32)


@laws
@given(tile_grids(), shapes, origins, seeds)
def test_tiling_an_identity_is_the_identity(
    grid: TileGrid, shape: tuple[int, int], origin: tuple[int, int], seed: int
) -> None:
    image = scene(seed, shape)
    found = tiled(identity, image, grid, origin)
    np.testing.assert_array_equal(found, image[0])
    assert found.dtype == np.float32


@laws
@given(tile_grids(), tile_grids(), shapes, origins, seeds)
def test_a_halo_of_the_receptive_radius_makes_the_result_independent_of_tiles(
    one: TileGrid, other: TileGrid, shape: tuple[int, int], origin: tuple[int, int], seed: int
) -> None:
    assume(one.halo_px >= 1 and other.halo_px >= 1)
    image = scene(seed, shape)
    expected = sum_around(np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge"))[1:-1, 1:-1]
    for grid, at in ((one, origin), (other, (0, 0))):
        np.testing.assert_allclose(tiled(sum_around, image, grid, at), expected, rtol=1e-5)


@laws
@given(tile_grids(), origins, seeds, st.data())
def test_a_window_with_its_margin_gets_the_numbers_of_the_whole_scene(
    grid: TileGrid, origin: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    image = scene(seed, (26, 31))
    whole = tiled(tile_mean, image, grid, origin)
    top, left = data.draw(st.integers(0, 25)), data.draw(st.integers(0, 30))
    bottom, right = data.draw(st.integers(top + 1, 26)), data.draw(st.integers(left + 1, 31))
    first = max(top - grid.margin_px, 0), max(left - grid.margin_px, 0)
    supplied = image[:, first[0] : bottom + grid.margin_px, first[1] : right + grid.margin_px]
    part = tiled(tile_mean, supplied, grid, (origin[0] + first[0], origin[1] + first[1]))
    part = part[top - first[0] : bottom - first[0], left - first[1] : right - first[1]]
    np.testing.assert_array_equal(part, whole[top:bottom, left:right])


@laws
@given(tile_grids(), origins, seeds)
def test_moving_the_origin_by_whole_strides_changes_nothing(grid: TileGrid, origin: tuple[int, int], seed: int) -> None:
    image = scene(seed, (17, 13))
    moved = origin[0] + 3 * grid.stride_px, origin[1] - 2 * grid.stride_px
    np.testing.assert_array_equal(tiled(tile_mean, image, grid, origin), tiled(tile_mean, image, grid, moved))


@laws
@given(tile_grids(), st.tuples(st.integers(1, 9), st.integers(1, 9)), origins, seeds)
def test_the_blend_equals_a_loop_over_pixels(
    grid: TileGrid, shape: tuple[int, int], origin: tuple[int, int], seed: int
) -> None:
    image, weights = scene(seed, shape), core_weights(grid)
    found = tiled(tile_mean, image, grid, origin)
    for i, j in np.ndindex(shape):
        shift = grid.before_px - grid.halo_px
        row, col = i + origin[0] + shift, j + origin[1] + shift
        parts = []
        near = range(-grid.core_px, 2)
        for m in (row // grid.stride_px + k for k in near):
            for n in (col // grid.stride_px + k for k in near):
                at = row - m * grid.stride_px, col - n * grid.stride_px
                if min(at) >= 0 and max(at) < grid.core_px:
                    first = grid.before_px + origin[0], grid.before_px + origin[1]
                    corner = m * grid.stride_px - first[0], n * grid.stride_px - first[1]
                    parts.append((weights[at], float(tile_mean(read_tile(image, corner, grid))[0, 0])))
        expected = sum(weight * value for weight, value in parts) / sum(weight for weight, _ in parts)
        np.testing.assert_allclose(found[i, j], expected, rtol=1e-6)


@laws
@given(tile_grids())
def test_weights_are_positive_and_add_up_to_one_between_two_neighbours(grid: TileGrid) -> None:
    weights = core_weights(grid)
    assert weights.shape == (grid.core_px, grid.core_px)
    assert (weights > 0).all()
    assert (weights <= 1).all()
    if 2 * grid.overlap_px <= grid.core_px:
        along = np.sqrt(np.diag(weights))
        overlap = along[: grid.overlap_px] + along[grid.core_px - grid.overlap_px :]
        np.testing.assert_allclose(overlap, 1)


@laws
@given(tile_grids(), shapes, origins)
def test_tiles_cover_the_image_lie_on_the_grid_and_touch_the_image(
    grid: TileGrid, shape: tuple[int, int], origin: tuple[int, int]
) -> None:
    covered = np.zeros(shape, bool)
    corners = tile_windows(shape, grid, origin)
    assert len(set(corners)) == len(corners)
    for row, col in corners:
        assert (row + origin[0]) % grid.multiple_px == 0
        assert (col + origin[1]) % grid.multiple_px == 0
        top, left = row + grid.halo_px, col + grid.halo_px
        core = covered[max(top, 0) : max(top + grid.core_px, 0), max(left, 0) : max(left + grid.core_px, 0)]
        assert core.size > 0
        core[:] = True
    assert covered.all()


@laws
@given(tile_grids(), st.tuples(st.integers(-30, 30), st.integers(-30, 30)), seeds)
def test_a_tile_repeats_the_edge_outside_the_image(grid: TileGrid, corner: tuple[int, int], seed: int) -> None:
    image = scene(seed, (7, 9))
    far = np.pad(image, ((0, 0), (60, 60), (60, 60)), mode="edge")
    top, left = corner[0] + 60, corner[1] + 60
    expected = far[:, top : top + grid.tile_px, left : left + grid.tile_px]
    np.testing.assert_array_equal(read_tile(image, corner, grid), expected)


@laws
@given(tile_grids(), shapes, origins, seeds)
def test_a_gap_in_one_pixel_stays_in_that_pixel(
    grid: TileGrid, shape: tuple[int, int], origin: tuple[int, int], seed: int
) -> None:
    image = scene(seed, shape)
    hole = tuple(np.random.default_rng(seed).integers(0, shape))
    image[0][hole] = np.nan
    np.testing.assert_array_equal(tiled(identity, image, grid, origin), image[0])


def test_a_small_scene_is_one_tile() -> None:
    grid = TileGrid(tile_px=40, halo_px=8, overlap_px=4, multiple_px=4)
    assert tile_windows((16, 12), grid) == [(-12, -12)]
    assert tile_windows((17, 12), grid) == [(-12, -12), (8, -12)]
    assert tile_windows((16, 12), grid, origin=(20, 0)) == [(-12, -12)]
    assert tile_windows((16, 12), grid, origin=(19, 0)) == [(-31, -12), (-11, -12)]


def test_a_tile_without_answer_is_replaced_by_its_neighbours_in_the_overlap_only() -> None:
    grid = TileGrid(tile_px=6, halo_px=0, overlap_px=2, multiple_px=1)
    blend = Blend((6, 10), grid)
    blend.add((0, 0), np.full((1, 6, 6), np.nan, np.float32))
    blend.add((0, 4), np.full((1, 6, 6), 300, np.float32))
    assert np.isnan(blend.result()[..., :4]).all()
    assert (blend.result()[..., 4:] == 300).all()


def test_the_image_is_left_alone_even_by_a_network_that_writes_into_its_tile() -> None:
    def careless(tile: Array) -> Array:
        tile[:] = 0
        return tile[0]

    image = scene(1, (9, 9))
    before = image.copy()
    predict_tiled(careless, image, tile_px=4, overlap_px=1)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((8, 3, 2, 1), "core is tile_px - 2 halo_px = 2, needed more than overlap_px"),
        ((8, 4, 0, 1), "core is tile_px - 2 halo_px = 0"),
        ((8, 1, 1, 2), "= 5, needed a multiple of 2"),
        ((8, -1, 0, 1), "needed halo_px >= 0"),
        ((8, 0, -1, 1), "overlap_px >= 0"),
        ((8, 0, 0, 0), "multiple_px >= 1"),
    ],
)
def test_sizes_that_leave_no_grid_are_refused(sizes: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TileGrid(*sizes)


def test_an_answer_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"answer to one tile has shape \[1, 1, 4, 4\], needed \[1, 4, 4\]"):
        predict_tiled(lambda tile: tile, np.zeros((1, 9, 9), np.float32), tile_px=4, overlap_px=1)


def test_an_image_without_channels_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"image has shape \[9, 9\], needed \[C, H, W\]"):
        predict_tiled(identity, np.zeros((9, 9), np.float32), tile_px=4, overlap_px=1)
