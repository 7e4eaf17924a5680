"""RatioNet as a table: it sees two numbers only, so a small table serves every pixel of every region (METHODS 1.4).

Nodes are even in the distance ``|post - pre|`` and in ``log |a2|``, one table for each side of the pole: the network
learns something close to ``distance / a2``, which bends most near the pole, and there the logarithm puts the nodes.
Between the nodes it is interpolated with order 3 in ``log |a2|`` and order 2 in the distance. Order instead of size:
193 x 129 nodes per side err less than a bilinear 257 x 2049 (``docs/decisions/0004-ratio-table.md``).

A scene needs only as many ``a2`` as it has HCRs, triples and signs. :meth:`RatioTable.rows` interpolates once for each
of them, so that a pixel pays for the distance alone.
"""

from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import Array, FloatArray, Network

Range = tuple[float, float]

TARGET_ERROR_K = 5e-4
"""A table is refined until it errs less: half of what a golden sample may differ."""

LARGEST_ERROR_K = 0.01
"""A table that errs more is refused."""

RESOLUTIONS = ((129, 129), (193, 129), (257, 257), (513, 513))
"""Nodes in distance and in ``log |a2|`` that are tried in turn."""


@dataclass(frozen=True, eq=False)
class RatioTable:
    """Values of the network on nodes.

    Attributes:
        first, step, n_nodes: distance of node 0, of two nodes, and their number. Node 0 and the last one lie one step
            outside the training range, so that every distance inside has a neighbour on both sides.
        sides: of the negative (-1) and the positive (1) values of a2, as far as training saw any.
        error_k: largest difference from the network, in the unit of the quantity; see :func:`table_error`.
    """

    first: float
    step: float
    n_nodes: int
    sides: dict[int, "Side"]
    error_k: float = float("nan")

    @property
    def distances(self) -> FloatArray:
        """``[n_nodes]``, of the nodes."""
        return (self.first + self.step * np.arange(self.n_nodes)).astype(np.float32)

    def rows(self, a2: Array) -> FloatArray:
        """The table at fixed ratios: ``[n]``, inside the training ranges, to ``[n, n_nodes]``; NaN where a2 is NaN."""
        rows = np.full((len(a2), self.n_nodes), np.nan, np.float32)
        for sign, side in self.sides.items():
            chosen = np.flatnonzero(a2 * sign > 0)
            if chosen.size:
                rows[chosen] = side.rows(np.abs(a2[chosen]))
        return rows

    def at(self, distance: Array, a2: Array) -> FloatArray:
        """The table at every distance ``[m]`` of every ratio ``[n]``: ``[n, m]``."""
        position = (np.asarray(distance, np.float64) - self.first) / self.step
        node = np.clip(np.rint(position), 1, self.n_nodes - 2).astype(np.intp)
        x = (position - node).astype(np.float32)
        rows = self.rows(a2)
        return between_nodes(rows[:, node - 1], rows[:, node], rows[:, node + 1], x)


@dataclass(frozen=True, eq=False)
class Side:
    """One sign of a2: ``values [n_logs, n_nodes]`` at ``log |a2| = first + row * step``."""

    first: float
    step: float
    values: FloatArray

    def rows(self, magnitude: Array) -> FloatArray:
        """``[n, n_nodes]`` at ``|a2|`` ``[n]``, by the cubic through the four nearest rows."""
        position = (np.log(magnitude.astype(np.float64)) - self.first) / self.step
        row = np.clip(position.astype(np.intp), 1, len(self.values) - 3)
        x = position - row
        weights = (
            -x * (x - 1) * (x - 2) / 6,
            (x + 1) * (x - 1) * (x - 2) / 2,
            -(x + 1) * x * (x - 2) / 2,
            (x + 1) * x * (x - 1) / 6,
        )
        total = np.zeros((len(row), self.values.shape[1]), np.float32)
        for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
            total += weight.astype(np.float32)[:, np.newaxis] * self.values[row + offset]
        return total


def between_nodes(before: FloatArray, at: FloatArray, after: FloatArray, x: FloatArray) -> FloatArray:
    """The parabola through three even nodes, ``x`` steps (-0.5 .. 0.5) from the middle one.

    ``at + x / 2 * ((after - before) + x * (after + before - 2 * at))``, computed in ``before``, ``at`` (the answer) and
    ``after``: this runs for every pixel and triple.
    """
    after -= at
    before -= at
    bend = np.add(after, before, out=before)
    after *= np.float32(2.0)
    slope = np.subtract(after, bend, out=after)
    bend *= x
    slope += bend
    slope *= x
    slope *= np.float32(0.5)
    at += slope
    return at


def build_ratio_table(
    network: Network,
    distance: Range,
    negative: Range | None,
    positive: Range | None,
    *,
    nodes: tuple[int, int] = RESOLUTIONS[0],
) -> RatioTable:
    """Evaluate RatioNet on nodes for each side of the pole, one call for each.

    Args:
        distance: training range of ``|post - pre|``.
        negative, positive: range of a2 on either side, without 0; None where training saw none.
        nodes: nodes inside the range of the distance, and inside that of ``log |a2|``.
    """
    n_distance, n_logs = nodes[0] + 2, nodes[1] + 2
    first, step = _nodes(distance, nodes[0])
    distances = first + step * np.arange(n_distance)
    sides = {}
    for sign, bounds in ((-1, negative), (1, positive)):
        if bounds is not None:
            low, high = sorted(abs(bound) for bound in bounds)
            log_first, log_step = _nodes((float(np.log(low)), float(np.log(high))), nodes[1])
            ratios = sign * np.exp(log_first + log_step * np.arange(n_logs))
            sides[sign] = Side(log_first, log_step, _evaluate(network, distances, ratios))
    return RatioTable(first, step, n_distance, sides)


def table_error(network: Network, table: RatioTable, *, largest_delta: float) -> float:
    """Largest difference of ``table`` from ``network``, in the middle between the nodes, where both interpolate worst.

    Args:
        largest_delta: greater changes are not compared: with them no result would pass the guards.

    Returns:
        NaN where ``table`` has no value and ``network`` does.
    """
    distance = table.first + table.step * (np.arange(1, table.n_nodes - 2) + 0.48)
    worst = 0.0
    for sign, side in table.sides.items():
        ratios = sign * np.exp(side.first + side.step * (np.arange(1, len(side.values) - 2) + 0.5))
        direct = _evaluate(network, distance, ratios)
        difference = np.abs(table.at(distance, ratios) - direct)
        worst = np.maximum(worst, np.max(difference, where=np.abs(direct) <= largest_delta, initial=0.0))
    return float(worst)


def _nodes(bounds: Range, count: int) -> tuple[float, float]:
    """Position of node 0 and the step, such that nodes 1 and ``count`` are the bounds."""
    step = max((bounds[1] - bounds[0]) / (count - 1), 1e-6 * max(1.0, abs(bounds[0])))
    return bounds[0] - step, step


def _evaluate(network: Network, distance: Array, a2: Array) -> FloatArray:
    """``[len(a2), len(distance)]``."""
    grid = np.broadcast_arrays(distance[np.newaxis], a2[:, np.newaxis])
    inputs = {name: values.astype(np.float32).ravel() for name, values in zip(("distance", "a2"), grid, strict=True)}
    delta: FloatArray = network(inputs)["delta"].reshape(len(a2), len(distance))
    return delta
