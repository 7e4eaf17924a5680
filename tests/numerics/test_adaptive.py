"""The adaptive mode's numbers: fields between the grids, gaps, kriging in time, softening."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.numerics import adaptive_members
from thermoscale.numerics.adaptive_grid import CellGrid, cubic_weights
from thermoscale.numerics.adaptive_library import LibraryView, bias_of_coarse, fill_gaps, view_library
from thermoscale.numerics.adaptive_members import Gain
from thermoscale.numerics.adaptive_pixels import soften
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale.numerics.adaptive_time import EVEN, Variogram, near_weights, time_weights
from thermoscale.numerics.grids import regular_index


def sheared_index(side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Cells of 6 pixels whose rows slip sideways by a third."""
    row, col = np.indices((side, side))
    cell_row, cell_col = row // 6, np.floor((col + row / 3) / 6).astype(int)
    shape = int(cell_row.max()) + 1, int(cell_col.max()) + 1
    return (cell_row * shape[1] + cell_col).astype(np.int32), shape


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.floats(-3, 3), st.floats(-3, 3))
def test_cubic_weights_keep_every_straight_line(nodes: int, slope: float, level: float) -> None:
    positions = np.linspace(-0.5, nodes - 0.5, 37)
    assert cubic_weights(positions, nodes) @ (level + slope * np.arange(nodes)) == pytest.approx(
        level + slope * positions
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 50), min_size=2, max_size=8, unique=True), st.floats(-10, 60))
def test_weights_in_time_sum_to_one_whatever_the_dates(times: list[float], target: float) -> None:
    days = np.round(np.array(times), 1) + 0.01 * np.arange(len(times))
    for variogram in (EVEN, Variogram("root", 1.0, 0.1), Variogram("matern", 4.0, 0.1)):
        assert time_weights(days, target, variogram).sum() == pytest.approx(1.0, abs=1e-6)
    assert near_weights(days, target).sum() == pytest.approx(1.0)


def test_without_nugget_time_is_interpolated_between_the_two_neighbours() -> None:
    weights = time_weights(np.array([0.0, 1.0, 3.0, 4.0]), 1.5, Variogram("linear", 1.0, 1e-9))
    assert weights == pytest.approx([0, 0.75, 0.25, 0], abs=1e-6)


@pytest.mark.parametrize("sheared", [False, True])
def test_a_linear_field_goes_up_and_comes_back(sheared: bool) -> None:
    index, shape = sheared_index(36) if sheared else (regular_index((6, 6), (36, 36)), (6, 6))
    grid = CellGrid(index, shape)
    row, col = np.indices((36, 36))
    fine = (0.03 * row - 0.02 * col + 5.0).ravel()
    cells = grid.mean(fine)
    known = grid.count > 0
    inner = grid.count == grid.count.max()
    if not sheared:
        assert grid.up(cells) == pytest.approx(fine, abs=1e-9)
    left = np.abs(grid.mean_of_up(grid.closed(cells)) - cells)[known & inner]
    assert np.median(left) < 0.02  # cells beside empty ones know less


def test_a_gap_in_one_date_is_filled_from_the_others_and_nothing_else_moves() -> None:
    rng = np.random.default_rng(0)
    scenes = np.outer([1.0, 2.0, 3.0], rng.standard_normal(200))
    whole, covariance = scenes.copy(), np.cov(scenes) + 1e-9 * np.eye(3)
    scenes[1, 7] = scenes[0, 9] = scenes[2, 9] = np.nan
    kept = scenes.copy()
    filled = fill_gaps(scenes, whole.mean(1), covariance)
    assert filled[:, [7, 9]] == pytest.approx(whole[:, [7, 9]], abs=1e-3)
    assert np.array_equal(filled[np.isfinite(kept)], kept[np.isfinite(kept)])
    assert np.array_equal(scenes, kept, equal_nan=True)


def test_the_bias_of_the_coarse_sensor_is_found() -> None:
    fine = np.random.default_rng(1).normal(0, 1, (6, 40))
    own = np.linspace(-1, 1, 40)
    assert bias_of_coarse(fine - 2.0 - own, fine) == pytest.approx(2.0 + own, abs=0.05)
    assert bias_of_coarse(np.full((2, 40), np.nan), fine[:2]) == pytest.approx(np.zeros(40))


def covariance_of(view: LibraryView, variances: dict[str, float], height: int = 5) -> Array:
    """The whole matrix from its strips."""
    lower = [
        np.pad(strip, [(0, 0), (0, view.grid.n - strip.shape[1])])
        for strip in view.covariance_strips(variances, height)
    ]
    total = np.concatenate(lower)
    return np.where(np.tri(view.grid.n, dtype=bool), total, total.T)


@pytest.mark.parametrize("height", [7, 256])
def test_a_missing_cell_is_taken_out_exactly(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive_members, "_STRIP", height)
    rng = np.random.default_rng(2)
    index = regular_index((4, 5), (16, 20))
    grid, labels = CellGrid(index, (4, 5)), rng.integers(0, 3, 320)
    view = view_library([(slice(None), rng.standard_normal((4, 320)))], 4, labels, grid)
    signal = {"offset": 0.5, "classes": 0.3, "patterns": 0.2, "smooth_3": 0.4}
    gain = Gain(view, signal, {"cells": 0.1})
    innovation = 0.1 * rng.standard_normal(20)
    innovation[6] = np.nan
    rest = np.delete(np.arange(20), 6)
    full = covariance_of(view, {**signal, "cells": 0.1})
    full[np.diag_indices(20)] += 1e-5 * np.trace(full) / 20 + 1e-9
    weights, _ = gain.weigh(innovation)
    assert weights[6] == 0
    assert weights[rest] == pytest.approx(np.linalg.solve(full[np.ix_(rest, rest)], innovation[rest]), abs=1e-6)


def test_covariance_over_all_cells_is_the_sum_of_its_components() -> None:
    rng = np.random.default_rng(3)
    grid = CellGrid(regular_index((3, 4), (12, 16)), (3, 4))
    view = view_library([(slice(None), rng.standard_normal((3, 192)))], 3, rng.integers(0, 2, 192), grid)
    components = view.components(np.arange(12))
    variances = {name: 0.1 * (i + 1) for i, name in enumerate(components)}
    expected = sum(v * components[k] for k, v in variances.items())
    assert covariance_of(view, variances) == pytest.approx(expected)
    assert view.mean_variance(variances) == pytest.approx(np.trace(expected) / 12)


def test_softening_keeps_a_plane_inside_and_a_constant_everywhere() -> None:
    row, col = np.indices((7, 9), dtype=np.float32)
    assert soften(np.full((5, 6), 3.0, np.float32)) == pytest.approx(np.full((5, 6), 3.0), abs=1e-5)
    assert soften(row + 2 * col)[1:-1, 1:-1] == pytest.approx((row + 2 * col)[1:-1, 1:-1], abs=1e-4)


def test_a_state_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match="needed"):
        AdaptiveState.from_arrays({"labels": np.zeros((2, 2), np.uint8)})
