"""The four estimators of the adaptive mode, each linear in the library's fine scenes, and their weighted sum.

    time     kriging in time, no coarse scene
    free     mean of the library + all that the coarse innovation explains: offset, classes, patterns, smooth fields
    tied     ``time`` + offset and smooth fields only; gains from the covariance of truth and innovation
    coarse   the coarse scene itself, interpolated

Co-kriging is best linear unbiased prediction with a sum of covariance components (Cressie, Statistics for Spatial Data,
1993, ch. 3). Everything is in standard deviations of the library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import Array
from thermoscale.numerics.adaptive_grid import SMOOTH_KERNELS, CellGrid
from thermoscale.numerics.adaptive_library import LibraryView, Variances
from thermoscale.numerics.adaptive_time import Variogram, time_weights

MEMBERS = ("time", "free", "tied", "coarse")
_STRIP = 256
"""Rows of a matrix of cells x cells made at a time."""


@dataclass(frozen=True, eq=False)
class LinearScene:
    """A scene: sum over dates of ``weights[t, class] * fine[t]``, + ``constant[class]``, + the field through ``cells``.

    Attributes:
        weights: ``[T, K]``. constant: ``[K]``. cells: ``[n]``. means: ``[n]`` cell means of the whole.
    """

    weights: Array
    constant: Array
    cells: Array
    means: Array

    def image(self, fine: Array, labels: Array, grid: CellGrid) -> Array:
        """``[N]`` values from ``fine [T, N]``."""
        scene = self.constant[labels] + grid.up(self.cells)
        for weights, values in zip(self.weights, fine, strict=True):
            scene += weights[labels] * values
        return scene


class Gain:
    """The inverse covariance of the innovation, made once for a library; missing cells are taken out exactly.

    Kept as the inverse of its Cholesky factor in strips without the upper triangle, float32: a quarter of the memory of
    the inverse, a third of the work, and never more than one strip of the covariance itself. The factor bears float32
    (1e-4 K where the coarse scene has no noise at all), the inverse would not.
    """

    def __init__(self, library: LibraryView, signal: Variances, noise: Variances) -> None:
        self.signal, self.noise, self._count = signal, noise, library.grid.count
        names = {*signal, *noise}
        total = {name: signal.get(name, 0.0) + noise.get(name, 0.0) for name in names}
        total["cells"] = total.get("cells", 0.0) + 1e-5 * library.mean_variance(total) + 1e-9
        self._strips: list[Array] = []
        for rows in library.covariance_strips(total, _STRIP):
            self._strips.append(self._next_strip(rows))
        self._strips = [strip.astype(np.float32) for strip in self._strips]

    def _next_strip(self, rows: Array) -> Array:
        """The next rows of the inverse factor from those of the covariance."""
        above = rows.shape[1] - len(rows)
        left = self._whiten(rows[:, :above].T).T
        own = np.linalg.inv(np.linalg.cholesky(rows[:, above:] - left @ left.T))
        return np.concatenate([-own @ self._unwhiten(left.T).T, own], 1)

    def weigh(self, innovation: Array) -> tuple[Array, float]:
        """Weights ``[n]`` of the cells, 0 where ``innovation [n]`` is NaN, and the variance of the offset believed.

        An offset larger than library dates have shown is believed as far as coarse noise allows: few dates show little.
        """
        valid = np.isfinite(innovation) & (self._count > 0)
        offset = self.signal.get("offset", 0.0)
        if not valid.any():
            return np.zeros(len(innovation)), offset
        known = offset + self.noise.get("offset", 0.0) + self.noise.get("smooth_wide", 0.0)
        more = max(0.0, float(innovation[valid].mean() ** 2) - known)
        weights, ones = self._solve(np.stack([np.where(valid, innovation, 0.0), valid], 1), valid).T
        return weights - ones * (more * weights.sum() / (1 + more * ones.sum())), offset + more

    def _solve(self, values: Array, valid: Array) -> Array:
        """Covariance of the valid cells, inverted, times ``values [n, k]``."""
        solved = self._unwhiten(self._whiten(values))
        missing = np.flatnonzero(~valid)
        if len(missing):
            columns = np.concatenate([_columns(strip, missing) for strip in self._strips])
            gain = np.linalg.solve(columns.T @ columns, solved[missing])
            solved -= self._unwhiten(columns @ gain)
            solved[missing] = 0.0
        return solved

    def _whiten(self, values: Array) -> Array:
        """Inverse factor times ``values [m, k]``, of the first m cells (whole strips)."""
        done = [strip @ values[: strip.shape[1]] for strip in self._strips]
        return np.concatenate(done) if done else values

    def _unwhiten(self, values: Array) -> Array:
        """Transposed inverse factor times ``values [m, k]``."""
        total, start = np.zeros(values.shape), 0
        for strip in self._strips:
            total[: strip.shape[1]] += strip.T @ values[start : strip.shape[1]]
            start = strip.shape[1]
        return total


def _columns(strip: Array, cells: Array) -> Array:
    """Columns ``cells`` of a strip, 0 beyond its end."""
    found = np.zeros((len(strip), len(cells)))
    inside = cells < strip.shape[1]
    found[:, inside] = strip[:, cells[inside]]
    return found


def even_prior(library: LibraryView) -> LinearScene:
    """The mean of the library."""
    return _from_weights(library, np.full(library.n_dates, 1 / library.n_dates), 0.0)


def time_prior(
    library: LibraryView, times: Array, target: float, pattern: Variogram, scene_mean: Variogram
) -> LinearScene:
    """Kriging in time; the scene's mean has a variogram of its own."""
    weights = time_weights(times, target, pattern)
    shift = float((time_weights(times, target, scene_mean) - weights) @ library.scene_mean)
    return _from_weights(library, weights, shift)


def cokrige(library: LibraryView, prior: LinearScene, coarse: Array, gain: Gain) -> LinearScene:
    """``prior``, corrected by each component's share of what ``coarse [n]`` (NaN = missing) says beyond it."""
    grid, signal = library.grid, gain.signal
    pull, offset = gain.weigh(coarse - prior.means)
    by_class = signal.get("classes", 0.0) * (library.fractions.T @ pull)
    by_pattern = signal.get("patterns", 0.0) * (library.patterns @ pull)
    by_both = signal.get("class_patterns", 0.0) * np.tensordot(pull, library.products, (0, 1))
    field = offset * pull.sum() + signal.get("cells", 0.0) * pull
    for name in SMOOTH_KERNELS:
        if signal.get(name, 0.0) > 0:
            field = field + signal[name] * grid.smooth(pull, name)
    constant = by_class - by_pattern @ library.pattern_mean - (by_both * library.class_mean).sum(0)
    means = library.fractions @ by_class + by_pattern @ library.patterns
    means += np.tensordot(library.products, by_both, ((0, 2), (0, 1)))
    return LinearScene(
        prior.weights + library.contrast.T @ (by_pattern[:, None] + by_both),
        prior.constant + constant,
        prior.cells + grid.closed(field),
        prior.means + means + field,
    )


def coarse_alone(library: LibraryView, coarse: Array, guess: Array) -> LinearScene:
    """The coarse scene; missing cells are ``guess [n]``, moved as their neighbours departed from it."""
    grid, valid = library.grid, np.isfinite(coarse)
    moved = grid.smooth(np.where(valid, coarse - guess, 0.0), "smooth_3")
    moved /= grid.smooth(valid.astype(float), "smooth_3") + 1e-6
    cells = np.where(valid, coarse, guess + moved)
    shape = library.n_dates, library.n_classes
    return LinearScene(np.zeros(shape), np.zeros(shape[1]), cells, grid.mean_of_up(cells))


def estimate_members(
    library: LibraryView,
    times: Array,
    target: float,
    coarse: Array,
    variograms: Sequence[Variogram],
    gains: Mapping[str, Gain],
) -> list[LinearScene]:
    """All :data:`MEMBERS` for one date.

    Args:
        times, target: library dates and the target's, median gaps.
        coarse: ``[n]``, free of its bias. variograms: of the pattern and of the scene's mean.
    """
    time = time_prior(library, times, target, *variograms)
    free = cokrige(library, even_prior(library), coarse, gains["free"])
    tied = cokrige(library, time, coarse, gains["tied"])
    return [time, free, tied, coarse_alone(library, coarse, free.means)]


def combine(members: Sequence[LinearScene], detail: Array, level: Array, grid: CellGrid) -> LinearScene:
    """Sum of the members' detail x ``detail [J]`` and of their cell means x ``level [J]`` (sum 1)."""
    means = np.stack([member.means for member in members])
    weighted = list(zip(detail, members, strict=True))
    low = (level - detail) @ means
    return LinearScene(
        sum((a * member.weights for a, member in weighted), np.zeros(())),
        sum((a * member.constant for a, member in weighted), np.zeros(())),
        sum((a * member.cells for a, member in weighted), np.zeros(())) + grid.closed(low),
        level @ means,
    )


def _from_weights(library: LibraryView, weights: Array, constant: float) -> LinearScene:
    n_classes = library.n_classes
    return LinearScene(
        np.repeat(weights[:, None], n_classes, 1),
        np.full(n_classes, constant),
        np.zeros(library.grid.n),
        weights @ library.cell_fine + constant,
    )
