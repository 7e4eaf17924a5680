"""The two grids as the adaptive mode sees them: cell means, smooth fields of the coarse grid, and their way up.

A coarse field goes up to fine pixels by Catmull-Rom interpolation between nodes that lie on rows and columns of the
fine grid, so that it costs two small matrix products. Where the coarse grid is parallel to the fine one the nodes are
the cell centres; where it is sheared they are sampled from the cells first (affine fit of ``coarse_index``).
"""

import numpy as np

from thermoscale.arrays import Array, IntArray
from thermoscale.numerics.grids import coarse_coordinates

SMOOTH_KERNELS = ("smooth_wide", "smooth_3", "smooth_1")
_PARALLEL_CELLS = 0.3  # shear over the whole scene, in cells, below which the grids count as parallel
_AFFINE_SAMPLE = 200_000
_POINTS_IN_CELL = (np.arange(4) + 0.5) / 4 - 0.5

Kernel = tuple[Array, Array]


def cubic_weights(positions: Array, n_nodes: int) -> Array:
    """Catmull-Rom weights ``[len(positions), n_nodes]`` at fractional node numbers; linear beyond the last node."""
    if n_nodes == 1:
        return np.ones((len(positions), 1))
    first = np.floor(positions).astype(int)
    weights, row = np.zeros((len(positions), n_nodes)), np.arange(len(positions))
    last = n_nodes - 1
    for step in range(-1, 3):
        node, tap = first + step, _catmull_rom(np.abs(positions - first - step))
        inner, low, beyond = (node >= 0) & (node <= last), node < 0, node - last
        weights[row[inner], node[inner]] += tap[inner]
        weights[low, 0] += (tap * (1 - node))[low]
        weights[low, 1] += (tap * node)[low]
        high = beyond > 0
        weights[high, last] += (tap * (1 + beyond))[high]
        weights[high, last - 1] -= (tap * beyond)[high]
    return weights


def _catmull_rom(distance: Array) -> Array:
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return np.where(distance <= 1, near, far)


def _axis_kernel(n: int, length: float) -> Array:
    """Gaussian correlation ``[n, n]`` of the cells of one axis; ``length`` in cells. Two axes multiply."""
    distance = np.arange(n)[:, None] - np.arange(n)
    kernel: Array = np.exp(-0.5 * (distance / length) ** 2)
    return kernel


class CellGrid:
    """Fine pixels and coarse cells of one place.

    Attributes:
        index: ``[H * W]`` cell of each fine pixel, -1 none. count: ``[n]`` fine pixels of each cell.
        kernels: correlation of the three smooth components, per axis.
        row_weights, col_weights: ``[H, nr]`` and ``[nc, W]`` float32: a field is row_weights @ nodes @ col_weights.
    """

    def __init__(self, coarse_index: IntArray, coarse_shape: tuple[int, int]) -> None:
        self.fine_shape, (self.h, self.w) = coarse_index.shape, coarse_shape
        self.n = self.h * self.w
        self.index: Array = coarse_index.ravel()
        self.inside = self.index >= 0
        self.count = np.bincount(self.index[self.inside], minlength=self.n).astype(float)
        lengths = dict(zip(SMOOTH_KERNELS, (np.sqrt(self.n) / 3, 2.5, 1.0), strict=True))
        self.kernels = {name: (_axis_kernel(self.h, s), _axis_kernel(self.w, s)) for name, s in lengths.items()}
        self._affine = self._fit_affine(coarse_index)
        skew = np.abs([self._affine[1, 0], self._affine[0, 1]]) * self.fine_shape[::-1]
        rows, cols = self._make_parallel() if skew.max() < _PARALLEL_CELLS else self._make_sheared()
        self._rows, self._cols = rows, cols
        self.row_weights, self.col_weights = rows.astype(np.float32), np.ascontiguousarray(cols.T, np.float32)

    def mean(self, fine: Array) -> Array:
        """Cell means ``[n]`` of ``fine [H * W]``; 0 in cells without fine pixels."""
        total = np.bincount(self.index[self.inside], fine[self.inside], self.n)
        means: Array = total / np.maximum(self.count, 1)
        return means

    def smooth(self, cells: Array, name: str) -> Array:
        """``cells [n]`` weighted by a kernel."""
        rows, cols = self.kernels[name]
        smoothed: Array = rows @ cells.reshape(self.h, self.w) @ cols
        return smoothed.ravel()

    def nodes(self, cells: Array) -> Array:
        """Values at the nodes of the field through ``cells [n]``."""
        if self._node_shape is None:
            return cells.reshape(self.h, self.w)
        nodes: Array = (self._taps @ cells).reshape(self._node_shape)
        return nodes

    def up(self, cells: Array) -> Array:
        """Fine field ``[H * W]`` through ``cells [n]``."""
        return (self._rows @ self.nodes(cells) @ self._cols.T).ravel()

    def mean_of_up(self, cells: Array) -> Array:
        """Cell means of ``up(cells)``, without fine pixels."""
        if self._node_shape is None:
            return (self._mean_rows @ cells.reshape(self.h, self.w) @ self._mean_cols.T).ravel()
        means: Array = self._mean_cells @ cells
        return means

    def closed(self, cells: Array) -> Array:
        """``cells`` changed so that ``up`` of them has (nearly) the means ``cells``."""
        values = cells.copy()
        for _ in range(2):
            values += np.where(self.count > 0, cells - self.mean_of_up(values), 0.0)
        return values

    def _fit_affine(self, coarse_index: IntArray) -> Array:
        """``[3, 2]``: (fine row, fine col, 1) to (coarse row, coarse col)."""
        coordinates = coarse_coordinates(coarse_index, (self.h, self.w))
        pixels = np.flatnonzero(self.inside)
        pixels = pixels[:: max(1, len(pixels) // _AFFINE_SAMPLE)]
        places = np.stack([*np.divmod(pixels, self.fine_shape[1]), np.ones(len(pixels))], 1)
        cells = np.stack([axis.ravel()[pixels] for axis in coordinates], 1)
        affine: Array = np.linalg.lstsq(places, cells, rcond=None)[0]
        return affine

    def _make_parallel(self) -> tuple[Array, Array]:
        """Weights of rows ``[H, h]`` and columns ``[W, w]``, and what averages them over cells."""
        self._node_shape: tuple[int, int] | None = None
        (height, width), a = self.fine_shape, self._affine
        row = a[0, 0] * np.arange(height) + a[1, 0] * width / 2 + a[2, 0]
        col = a[1, 1] * np.arange(width) + a[0, 1] * height / 2 + a[2, 1]
        rows, cols = cubic_weights(row, self.h), cubic_weights(col, self.w)
        self._mean_rows, self._mean_cols = _mean_by_node(rows, row), _mean_by_node(cols, col)
        return rows, cols

    def _make_sheared(self) -> tuple[Array, Array]:
        """Weights of rows ``[H, nr]`` and columns ``[W, nc]`` of nodes about one cell apart."""
        height, width = self.fine_shape
        a = self._affine
        nr, nc = (int(np.ceil((side - 1) * np.hypot(*a[axis]))) + 1 for axis, side in enumerate((height, width)))
        self._node_shape = nr, nc
        row, col = np.meshgrid(np.linspace(0, height - 1, nr), np.linspace(0, width - 1, nc), indexing="ij")
        place = np.stack([row.ravel(), col.ravel(), np.ones(row.size)], 1) @ a
        place = np.clip(place, -0.5, np.array([self.h, self.w]) - 0.5)
        self._taps = _outer(cubic_weights(place[:, 0], self.h), cubic_weights(place[:, 1], self.w))
        self._mean_cells = self._average_in_cells() @ self._taps
        scale = (nr - 1) / max(height - 1, 1), (nc - 1) / max(width - 1, 1)
        return cubic_weights(np.arange(height) * scale[0], nr), cubic_weights(np.arange(width) * scale[1], nc)

    def _average_in_cells(self) -> Array:
        """``[n, nr * nc]``: mean over 16 points of each sheared cell, from the nodes."""
        assert self._node_shape is not None
        back, last = np.linalg.inv(self._affine[:2]), np.array(self.fine_shape) - 1
        centres = np.stack(np.divmod(np.arange(self.n), self.w), 1) - self._affine[2]
        total = np.zeros((self.n, self._node_shape[0] * self._node_shape[1]), np.float32)
        for point in ((dy, dx) for dy in _POINTS_IN_CELL for dx in _POINTS_IN_CELL):
            place = np.clip((centres + point) @ back, 0, last) / np.maximum(last, 1)
            row, col = (cubic_weights(place[:, i] * (m - 1), m) for i, m in enumerate(self._node_shape))
            total += _outer(row, col).astype(np.float32) / 16
        return total


def _mean_by_node(weights: Array, position: Array) -> Array:
    """Mean of ``weights [N, m]`` over the lines nearest to each node, ``[m, m]``."""
    m = weights.shape[1]
    nearest = np.clip(np.rint(position).astype(int), 0, m - 1)
    total = np.zeros((m, m))
    np.add.at(total, nearest, weights)
    means: Array = total / np.maximum(np.bincount(nearest, minlength=m), 1)[:, None]
    return means


def _outer(rows: Array, cols: Array) -> Array:
    """``[N, a]`` and ``[N, b]`` to ``[N, a * b]``."""
    return (rows[:, :, None] * cols[:, None, :]).reshape(len(rows), -1)
