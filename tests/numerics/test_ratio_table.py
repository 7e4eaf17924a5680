"""The table of RatioNet: exact where its interpolation is, measured where it is not."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.arrays import Array
from thermoscale.numerics.ratio_table import (
    RESOLUTIONS,
    TARGET_ERROR_K,
    RatioTable,
    between_nodes,
    build_ratio_table,
    table_error,
)

LAW = settings(max_examples=50, deadline=None)
DISTANCE, NEGATIVE, POSITIVE = (0.1, 40.0), (-6.0, -0.1), (0.12, 5.0)


def silu_network(seed: int, widths: tuple[int, ...] = (2, 40, 40, 10, 1)):
    """A random perceptron as smooth as RatioNet, around the division it learns."""
    rng = np.random.default_rng(seed)
    layers = [rng.normal(0, 1 / np.sqrt(a), (a, b)) for a, b in pairwise(widths)]

    def network(inputs: Mapping[str, Array]) -> dict[str, Array]:
        distance, a2 = (inputs[name].astype(np.float64) for name in ("distance", "a2"))
        x = np.stack([(distance - 15) / 10, a2 / 3], axis=1)
        for layer in layers[:-1]:
            x = x @ layer
            x = x / (1 + np.exp(-x))
        return {"delta": (distance / a2 + 5 * (x @ layers[-1])[:, 0]).astype(np.float32)}

    return network


def ask(network, distance: Array, a2: Array) -> Array:
    grid = np.broadcast_arrays(distance, a2)
    return network(dict(zip(("distance", "a2"), (g.astype(np.float32) for g in grid), strict=True)))["delta"]


@LAW
@given(st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_the_table_gives_what_the_network_gives(seed: int, points: int) -> None:
    network, rng = silu_network(seed), np.random.default_rng(points)
    table = build_ratio_table(network, DISTANCE, NEGATIVE, POSITIVE)
    a2 = np.concatenate([rng.uniform(*NEGATIVE, 10), rng.uniform(*POSITIVE, 10), [-6.0, -0.1, 0.12, 5.0]])
    distance = np.concatenate([rng.uniform(*DISTANCE, 20), DISTANCE])
    direct = np.stack([ask(network, distance, ratio) for ratio in a2])
    np.testing.assert_allclose(table.at(distance, a2), direct, atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_measured_error_bounds_what_random_points_find(seed: int) -> None:
    network, rng = silu_network(seed), np.random.default_rng(seed)
    table = build_ratio_table(network, DISTANCE, NEGATIVE, POSITIVE)
    error = table_error(network, table, largest_delta=1000.0)
    a2, distance = rng.uniform(*NEGATIVE, 200), rng.uniform(*DISTANCE, 300)
    direct = np.stack([ask(network, distance, ratio) for ratio in a2])
    assert np.abs(table.at(distance, a2) - direct).max() <= 1.2 * error + 1e-4


def test_finer_tables_err_less() -> None:
    network = silu_network(0)
    errors = [
        table_error(network, build_ratio_table(network, DISTANCE, NEGATIVE, POSITIVE, nodes=nodes), largest_delta=100.0)
        for nodes in ((17, 17), (33, 33), RESOLUTIONS[0])
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] <= 2 * TARGET_ERROR_K


def test_changes_that_no_result_survives_are_not_compared() -> None:
    def steep(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"delta": 1e6 * np.sin(50 * inputs["distance"]).astype(np.float32) + np.float32(2e6)}

    table = build_ratio_table(steep, DISTANCE, NEGATIVE, None)
    assert table_error(steep, table, largest_delta=250.0) == 0.0
    assert table_error(steep, table, largest_delta=1e9) > 1.0


@pytest.mark.parametrize("sides", [(NEGATIVE, None), (NEGATIVE, POSITIVE)])
def test_a_table_of_a_network_without_values_errs_without_bound(sides: tuple) -> None:
    def empty(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"delta": np.where(inputs["a2"] < 0, np.nan, 1.0).astype(np.float32)}

    table = build_ratio_table(empty, DISTANCE, *sides)
    assert np.isnan(table_error(silu_network(0), table, largest_delta=100.0))


@LAW
@given(st.floats(-0.5, 0.5), st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5))
def test_between_nodes_is_the_parabola_through_them(x: float, a: float, b: float, c: float) -> None:
    nodes = [np.array([a * k * k + b * k + c], np.float32) for k in (-1.0, 0.0, 1.0)]
    value = between_nodes(*nodes, np.array([x], np.float32))
    np.testing.assert_allclose(value, a * x * x + b * x + c, atol=1e-5)


def test_a_ratio_without_value_has_an_empty_line_and_an_unknown_side_too() -> None:
    table = build_ratio_table(silu_network(0), DISTANCE, None, POSITIVE, nodes=(5, 9))
    rows = table.rows(np.array([np.nan, -1.0, 1.0], np.float32))
    assert np.isnan(rows[:2]).all()
    assert np.isfinite(rows[2]).all()
    assert rows.shape == (3, 7)
    assert isinstance(table, RatioTable)


def test_one_distance_is_a_range_too() -> None:
    network = silu_network(0)
    table = build_ratio_table(network, (3.0, 3.0), None, (1.0, 1.0))
    np.testing.assert_allclose(
        table.at(np.array([3.0]), np.array([1.0])), [ask(network, np.array([3.0]), np.array([1.0]))], atol=1e-4
    )
