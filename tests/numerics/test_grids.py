"""Index maps, area means and interpolation against slow twins that look at one pixel at a time."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.numerics import grids

laws = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 7)


@st.composite
def sheared_worlds(draw: st.DrawFn, *, min_cells: int = 1) -> dict[str, Any]:
    """Two grids whose cells are parallelograms on the fine grid, as MODIS on UTM; some pixels may be outside."""
    scale = draw(st.sampled_from([1.0, 2.5, 7.0, 30.9]))
    cells = draw(st.tuples(st.integers(min_cells, 6), st.integers(min_cells, 6)))
    shear = draw(st.floats(-0.6, 0.6))
    fine_shape = (math.ceil(cells[0] * scale), math.ceil(cells[1] * scale))
    side = 30.0 * scale
    return {
        "coarse_transform": (side, 0.0, draw(st.floats(-1, 1)) * side, 0.0, -side, draw(st.floats(-1, 1)) * side),
        "coarse_shape": cells,
        "fine_transform": (30.0, 0.0, 0.0, 0.0, -30.0, 0.0),
        "fine_shape": fine_shape,
        "to_coarse": lambda x, y: (x + shear * y, y + 0.05 * shear * x),
        "shear": shear,
    }


def index_of(world: dict[str, Any]) -> np.ndarray:
    return grids.index_from_transforms(**{key: value for key, value in world.items() if key != "shear"})


def true_coordinates(world: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    H, W = world["fine_shape"]
    x, y = np.broadcast_arrays(30.0 * (np.arange(W) + 0.5), -30.0 * (np.arange(H)[:, None] + 0.5))
    x, y = world["to_coarse"](x, y)
    a, _, c, _, e, f = world["coarse_transform"]
    return (y - f) / e - 0.5, (x - c) / a - 0.5


def random_cells(seed: int, shape: tuple[int, ...], gaps: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    cells = rng.normal(290, 10, shape).astype(np.float32)
    cells[rng.random(shape) < gaps] = np.nan
    return cells


# --- the index


@laws
@given(sides, sides, st.integers(1, 23), st.integers(1, 23))
def test_regular_index_is_the_cell_of_every_centre(h: int, w: int, H: int, W: int) -> None:
    twin = [[int((i + 0.5) * h / H) * w + int((j + 0.5) * w / W) for j in range(W)] for i in range(H)]
    assert grids.regular_index((h, w), (H, W)).tolist() == twin


@laws
@given(sides, sides, st.integers(1, 23), st.integers(1, 23))
def test_regular_index_equals_the_index_of_transforms_with_the_same_bounds(h: int, w: int, H: int, W: int) -> None:
    west, north, width, height = 147.1, -34.7, 0.37, 0.53
    coarse = (width / w, 0.0, west, 0.0, -height / h, north)
    fine = (width / W, 0.0, west, 0.0, -height / H, north)
    found = grids.index_from_transforms(coarse, (h, w), fine, (H, W))
    np.testing.assert_array_equal(found, grids.regular_index((h, w), (H, W)))
    assert found.dtype == np.int32


@laws
@given(sheared_worlds())
def test_index_from_transforms_finds_the_parallelogram_that_holds_each_centre(world: dict[str, Any]) -> None:
    h, w = world["coarse_shape"]
    a, _, c, _, e, f = world["coarse_transform"]
    found = index_of(world)
    for i, j in np.random.default_rng(0).integers(0, world["fine_shape"], (40, 2)):
        x, y = world["to_coarse"](30.0 * (j + 0.5), -30.0 * (i + 0.5))
        row, col = math.floor(round((y - f) / e, 9)), math.floor(round((x - c) / a, 9))
        assert found[i, j] == (row * w + col if 0 <= row < h and 0 <= col < w else -1)


@laws
@given(st.floats(-math.pi, math.pi), seeds)
def test_a_rotated_coarse_transform_is_inverted(angle: float, seed: int) -> None:
    cos, sin = 10 * math.cos(angle), 10 * math.sin(angle)
    coarse = (cos, -sin, 3.0, sin, cos, -8.0)
    found = grids.index_from_transforms(coarse, (5, 6), (1.0, 0.0, -40.0, 0.0, 1.0, -40.0), (80, 80))
    for cell in range(30):
        col, row = cell % 6 + 0.5, cell // 6 + 0.5
        x, y = cos * col - sin * row + 3, sin * col + cos * row - 8
        i, j = math.floor(y + 40), math.floor(x + 40)
        if 0 <= i < 80 and 0 <= j < 80:
            assert found[i, j] == cell


def test_pixels_that_the_projection_cannot_place_are_outside() -> None:
    def broken(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.where(x < 2, np.inf, x), np.where(y > 2, np.nan, y)

    unit = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    found = grids.index_from_transforms(unit, (3, 3), unit, (3, 3), broken)
    assert found.tolist() == [[-1, -1, 2], [-1, -1, 5], [-1, -1, -1]]


def test_a_coarse_transform_without_area_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no area"):
        grids.index_from_transforms((1.0, 2.0, 0.0, 2.0, 4.0, 0.0), (3, 3), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (3, 3))


# --- means over cells, and back


@laws
@given(sheared_worlds(), seeds)
def test_cells_painted_and_averaged_again_are_unchanged(world: dict[str, Any], seed: int) -> None:
    index = index_of(world)
    cells = random_cells(seed, (2, *world["coarse_shape"]))
    seen = grids.cell_counts(index, world["coarse_shape"]) > 0
    back = grids.area_mean(grids.paint_cells(cells, index), index, world["coarse_shape"])
    np.testing.assert_array_equal(back, np.where(seen, cells, np.nan))


@laws
@given(sheared_worlds(), seeds, st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_area_mean_equals_a_loop_over_cells(world: dict[str, Any], seed: int, min_share: float) -> None:
    index, (h, w) = index_of(world), world["coarse_shape"]
    fine = random_cells(seed, (2, *world["fine_shape"]), gaps=0.5)
    before = fine.copy()
    found = grids.area_mean(fine, index, (h, w), min_share=min_share)
    for band in range(2):
        for cell in range(h * w):
            members = fine[band][index == cell].astype(float)
            valid = members[~np.isnan(members)]
            enough = valid.size > 0 and valid.size >= min_share * members.size
            expected = valid.mean() if enough else np.nan
            np.testing.assert_allclose(found[band, cell // w, cell % w], expected, rtol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(fine, before)


@laws
@given(sheared_worlds())
def test_cell_counts_count_every_pixel_inside_once(world: dict[str, Any]) -> None:
    index, (h, w) = index_of(world), world["coarse_shape"]
    counts = grids.cell_counts(index, (h, w))
    assert counts.ravel().tolist() == [(index == cell).sum() for cell in range(h * w)]
    assert counts.dtype == np.int32


def test_paint_cells_leaves_pixels_outside_without_data() -> None:
    painted = grids.paint_cells(np.array([[1.0, 2.0]]), np.array([[-1, 0], [1, -1]], np.int32))
    np.testing.assert_array_equal(painted, np.array([[np.nan, 1], [2, np.nan]], np.float32))


def test_a_gap_is_felt_by_its_own_cell_only() -> None:
    index = grids.regular_index((4, 4), (12, 12))
    fine = np.ones((12, 12), np.float32)
    fine[3:6, 6:9] = np.nan
    means = grids.area_mean(fine, index, (4, 4))
    assert np.argwhere(np.isnan(means)).tolist() == [[1, 2]]


def test_an_index_of_another_grid_is_refused() -> None:
    index = grids.regular_index((3, 3), (6, 6))
    with pytest.raises(InvalidInput, match="ranges from 0 to 8, needed -1 to 3"):
        grids.paint_cells(np.ones((2, 2)), index)
    with pytest.raises(InvalidInput, match=r"fine has shape \[5, 6\]"):
        grids.area_mean(np.ones((5, 6)), index, (3, 3))
    with pytest.raises(InvalidInput, match="coarse_index has shape"):
        grids.cell_counts(index[0], (3, 3))


# --- coordinates


@laws
@given(sides, sides, st.integers(1, 23), st.integers(1, 23))
def test_regular_coordinates_are_exact_at_any_scale_factor(h: int, w: int, H: int, W: int) -> None:
    rows, cols = grids.coarse_coordinates(grids.regular_index((h, w), (H, W)), (h, w))
    np.testing.assert_allclose(rows, np.repeat((np.arange(H)[:, None] + 0.5) * h / H - 0.5, W, 1), atol=1e-12)
    np.testing.assert_allclose(cols, np.repeat((np.arange(W)[None] + 0.5) * w / W - 0.5, H, 0), atol=1e-12)


@laws
@given(st.integers(2, 9), st.floats(0, 2), st.floats(0, 2))
def test_a_window_of_regular_blocks_keeps_exact_coordinates(scale: int, down: float, right: float) -> None:
    top, left = int(down * scale), int(right * scale)
    whole = grids.regular_index((6, 6), (6 * scale, 6 * scale))
    window = (slice(top, top + 4 * scale), slice(left, left + 4 * scale))
    expected = [axis[window] for axis in grids.coarse_coordinates(whole, (6, 6))]
    np.testing.assert_allclose(grids.coarse_coordinates(whole[window], (6, 6)), expected, atol=1e-9)


@laws
@given(sheared_worlds(min_cells=5))
def test_sheared_coordinates_are_found_within_a_fine_pixel(world: dict[str, Any]) -> None:
    index, scale = index_of(world), world["coarse_transform"][0] / 30
    inside = index >= 0
    row, col = index[inside] // world["coarse_shape"][1], index[inside] % world["coarse_shape"][1]
    if not inside.any() or min(np.unique(row).size, np.unique(col).size) < 3:
        return
    for found, true in zip(
        grids.coarse_coordinates(index, world["coarse_shape"]), true_coordinates(world), strict=True
    ):
        assert np.abs(found - true)[inside].max() <= 1 / scale


def test_modis_like_cells_are_found_within_a_hundredth_of_a_cell() -> None:
    world = {
        "coarse_transform": (926.6, 0.0, -5000.0, 0.0, -926.6, 310.0),
        "coarse_shape": (18, 30),
        "fine_transform": (30.0, 0.0, 0.0, 0.0, -30.0, 0.0),
        "fine_shape": (500, 500),
        "to_coarse": lambda x, y: (x + 0.31 * y, y),
    }
    found = grids.coarse_coordinates(index_of(world), world["coarse_shape"])
    np.testing.assert_allclose(found, true_coordinates(world), atol=0.01)


@laws
@given(st.integers(1, 9), st.integers(1, 9), seeds)
def test_a_pixel_is_never_placed_outside_its_own_cell(H: int, W: int, seed: int) -> None:
    index = np.random.default_rng(seed).integers(-1, 12, (H, W)).astype(np.int32)
    index[0, 0] = 0
    rows, cols = grids.coarse_coordinates(index, (3, 4))
    inside = index >= 0
    assert (np.abs(rows - index // 4)[inside] <= 0.5).all()
    assert (np.abs(cols - index % 4)[inside] <= 0.5).all()


def test_an_index_without_any_cell_is_refused() -> None:
    with pytest.raises(InvalidInput, match="every fine pixel is outside"):
        grids.coarse_coordinates(np.full((3, 3), -1, np.int32), (2, 2))


# --- interpolation


def keys(x: float) -> float:
    """Keys' cubic kernel, a = -0.5, as printed in the paper."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def tent(x: float) -> float:
    return max(0.0, 1 - abs(x))


def slow_interpolate(coarse: np.ndarray, row: float, col: float, order: int) -> float:
    """One pixel: all cells of a wide neighbourhood with their kernel weights."""
    (h, w), reach = coarse.shape, range(-2, 4)
    for kernel in [keys, tent] if order == 3 else [tent]:
        taps = []
        for i in (math.floor(row) + k for k in reach):
            for j in (math.floor(col) + k for k in reach):
                weight = kernel(row - i) * kernel(col - j)
                if abs(weight) > grids.NO_WEIGHT:
                    taps.append((weight, float(coarse[min(max(i, 0), h - 1), min(max(j, 0), w - 1)])))
        valid = [(weight, value) for weight, value in taps if not math.isnan(value)]
        if kernel is keys and len(valid) < len(taps):
            continue
        if valid:
            return sum(weight * value for weight, value in valid) / sum(weight for weight, _ in valid)
    return math.nan


@laws
@given(sheared_worlds(), seeds, st.sampled_from([1, 3]), st.sampled_from([0.0, 0.3]))
def test_interpolation_equals_a_loop_over_pixels(world: dict[str, Any], seed: int, order: Any, gaps: float) -> None:
    index = index_of(world)
    if (index < 0).all():
        return
    coarse = random_cells(seed, world["coarse_shape"], gaps)
    found = grids.interpolate(coarse, index, order=order)
    own = grids.paint_cells(coarse, index)
    rows, cols = grids.coarse_coordinates(index, world["coarse_shape"])
    for i, j in np.random.default_rng(seed).integers(0, index.shape, (40, 2)):
        twin = np.nan if np.isnan(own[i, j]) else slow_interpolate(coarse, rows[i, j], cols[i, j], order)
        np.testing.assert_allclose(found[i, j], twin, rtol=1e-5)
    assert found.dtype == np.float32


@laws
@given(st.integers(6, 9), st.integers(6, 9), st.sampled_from([1.0, 2.5, 4.0]), st.sampled_from([1, 3]))
def test_an_affine_field_is_reproduced_away_from_the_edges(h: int, w: int, scale: float, order: Any) -> None:
    index = grids.regular_index((h, w), (math.ceil(h * scale), math.ceil(w * scale)))
    coarse = 280 + 0.7 * np.arange(h)[:, None] - 1.3 * np.arange(w)
    rows, cols = grids.coarse_coordinates(index, (h, w))
    inner = (rows >= 1) & (rows <= h - 2) & (cols >= 1) & (cols <= w - 2)
    found = grids.interpolate(coarse, index, order=order)
    np.testing.assert_allclose(found[inner], (280 + 0.7 * rows - 1.3 * cols)[inner], atol=1e-4)


@laws
@given(sheared_worlds(), st.sampled_from([1, 3]))
def test_a_constant_stays_constant(world: dict[str, Any], order: Any) -> None:
    index = index_of(world)
    if (index < 0).all():
        return
    found = grids.interpolate(np.full(world["coarse_shape"], 300.25, np.float32), index, order=order, fill=True)
    np.testing.assert_array_equal(found, np.float32(300.25))


@laws
@given(seeds, st.sampled_from([1, 3]))
def test_equal_grids_are_interpolated_to_themselves_with_and_without_gaps(seed: int, order: Any) -> None:
    coarse = random_cells(seed, (5, 6))
    np.testing.assert_array_equal(grids.interpolate(coarse, grids.regular_index((5, 6), (5, 6)), order=order), coarse)


@laws
@given(seeds, st.sampled_from([1, 3]), sides, sides)
def test_a_gap_spreads_no_further_than_it_must(seed: int, order: Any, row: int, col: int) -> None:
    index = grids.regular_index((8, 8), (24, 24))
    whole = random_cells(seed, (8, 8), gaps=0)
    holed = whole.copy()
    holed[row, col] = np.nan
    found, expected = (grids.interpolate(cells, index, order=order) for cells in (holed, whole))
    np.testing.assert_array_equal(np.isnan(found), index == row * 8 + col)
    rows, cols = grids.coarse_coordinates(index, (8, 8))
    reach = 1 if order == 1 else 2
    far = np.maximum(np.abs(rows - row), np.abs(cols - col)) >= reach
    np.testing.assert_array_equal(found[far], expected[far])


@laws
@given(sheared_worlds(), seeds, st.sampled_from([1, 3]))
def test_filling_answers_everywhere_and_changes_nothing_else(world: dict[str, Any], seed: int, order: Any) -> None:
    index = index_of(world)
    if (index < 0).all():
        return
    coarse = random_cells(seed, world["coarse_shape"])
    coarse[0, 0] = 290
    bare, filled = (grids.interpolate(coarse, index, order=order, fill=fill) for fill in (False, True))
    assert not np.isnan(filled).any()
    np.testing.assert_array_equal(filled[~np.isnan(bare)], bare[~np.isnan(bare)])
    assert filled.min() >= np.nanmin(coarse) - 20
    assert filled.max() <= np.nanmax(coarse) + 20


def test_a_scene_without_any_valid_cell_stays_empty_even_when_filled() -> None:
    index = grids.regular_index((3, 3), (6, 6))
    coarse = np.full((3, 3), np.nan, np.float32)
    for order in (1, 3):
        assert np.isnan(grids.interpolate(coarse, index, order=order, fill=True)).all()


@laws
@given(seeds)
def test_a_stack_is_interpolated_image_by_image_and_left_alone(seed: int) -> None:
    index = grids.regular_index((4, 5), (10, 9))
    stack = random_cells(seed, (2, 3, 4, 5))
    before = stack.copy()
    found = grids.interpolate(stack, index, order=3, fill=True)
    for band in np.ndindex(2, 3):
        alone = grids.interpolate(stack[band], index, order=3, fill=True)
        np.testing.assert_array_equal(found[band], alone)
    np.testing.assert_array_equal(stack, before)


def test_the_size_of_the_blocks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    index, coarse = grids.regular_index((6, 5), (31, 17)), random_cells(3, (6, 5))
    at_once = grids.interpolate(coarse, index, order=3)
    monkeypatch.setattr(grids, "BLOCK_PIXELS", 40)
    np.testing.assert_array_equal(grids.interpolate(coarse, index, order=3), at_once)


def test_another_order_is_refused() -> None:
    with pytest.raises(InvalidInput, match="order is 2, needed 1"):
        grids.interpolate(np.ones((2, 2)), grids.regular_index((2, 2), (4, 4)), order=2)  # type: ignore[arg-type]


@laws
@given(st.integers(1, 12), st.integers(1, 12), seeds, st.sampled_from([0.3, 0.8, 0.97]))
def test_fill_nearest_takes_a_cell_that_no_other_is_nearer_than(h: int, w: int, seed: int, gaps: float) -> None:
    rng = np.random.default_rng(seed)
    coarse = np.arange(h * w, dtype=np.float32).reshape(h, w)
    coarse[rng.random((h, w)) < gaps] = np.nan
    coarse[rng.integers(h), rng.integers(w)] = 0
    filled = grids.fill_nearest(coarse)
    valid = np.argwhere(~np.isnan(coarse))
    values = coarse[tuple(valid.T)]
    for cell in np.ndindex(h, w):
        distance = ((valid - cell) ** 2).sum(1)
        assert filled[cell] in values[distance == distance.min()]
