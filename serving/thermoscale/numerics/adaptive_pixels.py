"""The pixel pass of the adaptive mode: library rows in, the fine scene and its spread out, some rows at a time."""

from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.numerics.adaptive_grid import CellGrid
from thermoscale.numerics.adaptive_library import LibraryView, bias_of_coarse, fill_gaps
from thermoscale.numerics.adaptive_members import Gain, LinearScene, combine, estimate_members
from thermoscale.numerics.adaptive_spread import disagreement, misfit, spread_table
from thermoscale.numerics.adaptive_state import NO_CLASS, AdaptiveState
from thermoscale.numerics.adaptive_time import near_weights

_CENTRE, _SIDE = np.float32(0.58), np.float32(0.21)
HALO_PX = 1
"""Rows and columns around a window that its answer depends on."""


def soften(image: Array) -> Array:
    """``image [H, W]`` smoothed over 3 x 3 pixels (standard deviation about 0.7), borders replicated."""
    for axis in (0, 1):
        padded = np.pad(image, [(1, 1) if other == axis else (0, 0) for other in (0, 1)], mode="edge")
        before, after = (np.take(padded, range(i, i + image.shape[axis]), axis) for i in (0, 2))
        image = _CENTRE * image + _SIDE * (before + after)
    return image


@dataclass(frozen=True, eq=False)
class AdaptiveView:
    """One library (some dates of the bundle's) with everything that does not depend on the target.

    Attributes:
        dates: ``[T]`` positions of its dates in the state. days: ``[T]``. bias: ``[n]`` added to coarse scenes.
    """

    state: AdaptiveState
    library: LibraryView
    gains: dict[str, Gain]
    dates: Array
    days: Array
    bias: Array

    @classmethod
    def of(cls, state: AdaptiveState, library: LibraryView, coarse: Array, dates: Array, days: Array) -> "AdaptiveView":
        """Args:
        coarse: ``[T, h, w]`` library scenes, unit of the quantity. days: ``[T]`` from any origin.
        """
        base, unit = state.scales[:2]
        scenes = np.where(state.comparable[dates], (coarse.reshape(len(dates), -1) - base) / unit, np.nan)
        gains = {
            name: Gain(library, state.components(f"{name}_signal"), state.components(f"{name}_noise"))
            for name in ("free", "tied")
        }
        return cls(state, library, gains, dates, days, bias_of_coarse(scenes, library.cell_fine))

    def target(self, coarse: Array, day: float) -> "AdaptiveTarget":
        """Everything about one date but its pixels.

        Args:
            coarse: ``[h, w]`` unit of the quantity, NaN = missing.
        """
        state, grid = self.state, self.library.grid
        base, unit, gap, _ = state.scales
        cells = (coarse.ravel().astype(np.float64) - base) / unit + self.bias
        times = (self.days - self.days[0]) / gap
        when = (day - self.days[0]) / gap
        members = estimate_members(self.library, times, when, cells, state.variogram_pair, self.gains)
        scene = combine(members, state.stack[0], state.stack[1], grid)
        local = misfit(cells, scene.means, grid)
        return AdaptiveTarget.of(state, grid, scene, local, near_weights(times, when), self.dates)


@dataclass(frozen=True, eq=False)
class AdaptiveTarget:
    """What the pixels of one date need, float32."""

    state: AdaptiveState
    grid: CellGrid
    weights: Array
    constant: Array
    nodes: Array
    misfit_nodes: Array
    class_variance: Array
    near: Array
    dates: Array
    largest: float

    @classmethod
    def of(
        cls, state: AdaptiveState, grid: CellGrid, scene: LinearScene, local: Array, near: Array, dates: Array
    ) -> "AdaptiveTarget":
        """Args:
        local: ``[n]`` misfit. near: ``[T]`` weights of the dates whose disagreement counts.
        """
        variance = state.spread[0] + state.spread[1] * state.class_variance
        around = state.spread[3] * local
        small = (np.ascontiguousarray(a, np.float32) for a in (scene.weights, scene.constant, grid.nodes(scene.cells)))
        weights, constant, nodes = small
        misfit_nodes = grid.nodes(around).astype(np.float32)
        largest = float(variance.max() + around.max())
        near = near.astype(np.float32)
        return cls(
            state, grid, weights, constant, nodes, misfit_nodes, variance.astype(np.float32), near, dates, largest
        )

    def predict(self, scenes: FloatArray, rows: slice, cols: slice) -> tuple[FloatArray, FloatArray]:
        """``lst`` and ``spread`` of ``rows`` and ``cols`` in the unit of the quantity; NaN where no date has a value.

        Args:
            scenes: ``[T, rows, cols]`` library values, NaN = gap; a border of ``HALO_PX`` more gives the same numbers.
        """
        base, unit, _, keep = self.state.scales.astype(np.float32)
        values, seen = self._filled((scenes - base) / unit)
        labels = self.state.labels[rows, cols]
        classes = np.minimum(labels, len(self.constant) - 1).astype(np.intp)
        up = self.grid.row_weights[rows], self.grid.col_weights[:, cols]
        lst = up[0] @ self.nodes @ up[1] + self.constant[classes]
        for weights, scene in zip(self.weights, values, strict=True):
            lst += weights[classes] * scene
        if keep < 0.999:
            lst += (1 - keep) * (soften(lst) - lst)
        variance = up[0] @ self.misfit_nodes @ up[1] + self.class_variance[classes]
        flat = values.reshape(len(values), -1)
        variance += np.float32(self.state.spread[2]) * disagreement(flat, self.near).reshape(lst.shape)
        sigma = spread_table(self.state.spread, self.state.calibration, self.largest)(variance)
        unknown = (labels == NO_CLASS) | (self.grid.index.reshape(self.grid.fine_shape)[rows, cols] < 0) | ~seen
        nothing = np.float32(np.nan)
        return np.where(unknown, nothing, base + unit * lst), np.where(unknown, nothing, unit * sigma)

    def _filled(self, values: Array) -> tuple[Array, Array]:
        """Values without gaps ``[T, rows, cols]``, and where any date has one."""
        gaps = np.isnan(values)
        if not gaps.any():
            return values, np.ones(values.shape[1:], bool)
        mean, covariance = self.state.gap_mean[self.dates], self.state.gap_covariance[np.ix_(self.dates, self.dates)]
        flat = fill_gaps(values.reshape(len(values), -1), mean, covariance)
        return flat.reshape(values.shape), np.logical_or.reduce(~gaps, axis=0)
