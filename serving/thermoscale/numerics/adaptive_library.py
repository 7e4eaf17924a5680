"""A library of fine scenes seen from the coarse grid: patterns, classes, and the covariance of what may change.

Terms: T dates, N = H * W fine pixels, n coarse cells, K classes, P = T + 1 patterns (the mean scene, T departures).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import Array
from thermoscale.numerics.adaptive_grid import SMOOTH_KERNELS, CellGrid

SIGNAL = ("offset", "classes", "patterns", "class_patterns", *SMOOTH_KERNELS, "cells")
"""Ways in which a scene departs from its library."""
SMOOTH = ("offset", *SMOOTH_KERNELS, "cells")
"""Those that need no pattern of the library."""
NOISE = ("offset", "smooth_wide", "smooth_1", "cells")
"""Ways in which a coarse scene departs from the cell means of the fine one."""

Variances = Mapping[str, float]
"""Component -> variance, unit squared; a component that is not named has none."""


@dataclass(frozen=True, eq=False)
class LibraryView:
    """What the coarse grid knows of the library.

    Attributes:
        scene_mean: ``[T]``. cell_fine: ``[T, n]`` cell means of the fine scenes.
        contrast: ``[P, T]``: patterns = contrast @ (scenes - scene means).
        pattern_mean: ``[P]`` scene means of the patterns. patterns: ``[P, n]`` their cell means, scene mean removed.
        fractions: ``[n, K]`` share of each class. class_mean: ``[P, K]``.
        products: ``[P, n, K]`` cell means of pattern x class, class mean removed.
    """

    grid: CellGrid
    scene_mean: Array
    cell_fine: Array
    contrast: Array
    pattern_mean: Array
    patterns: Array
    fractions: Array
    class_mean: Array
    products: Array

    @property
    def n_dates(self) -> int:
        """T."""
        return len(self.scene_mean)

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.fractions.shape[1])

    def components(self, cells: Array) -> dict[str, Array]:
        """Covariance ``[m, m]`` between ``cells [m]`` of each component of variance 1."""
        fractions, patterns = self.fractions[cells], self.patterns[:, cells]
        products = self.products[:, cells].transpose(1, 0, 2).reshape(len(cells), -1)
        found = {"offset": np.ones((len(cells), len(cells))), "cells": np.eye(len(cells))}
        found |= {"classes": fractions @ fractions.T, "patterns": patterns.T @ patterns}
        found["class_patterns"] = products @ products.T
        row, col = np.divmod(cells, self.grid.w)
        for name, (rows, cols) in self.grid.kernels.items():
            found[name] = rows[np.ix_(row, row)] * cols[np.ix_(col, col)]
        return found

    def covariance_strips(self, variances: Variances, height: int) -> Iterator[Array]:
        """Sum of the components, ``height`` rows at a time up to the diagonal: ``[height, stop]``, the last fewer."""
        grid = self.grid
        products = self.products.transpose(1, 0, 2).reshape(grid.n, -1)
        blocks = {"classes": self.fractions, "patterns": self.patterns.T, "class_patterns": products}
        used = [np.sqrt(variances[name]) * block for name, block in blocks.items() if variances.get(name, 0.0) > 0]
        factors = np.concatenate([np.zeros((grid.n, 1)), *used], 1)
        for start in range(0, grid.n, height):
            cells = np.arange(start, min(start + height, grid.n))
            row, col = np.divmod(cells, grid.w)
            total = factors[cells] @ factors.T
            field = total.reshape(len(cells), grid.h, grid.w)
            for name, (rows, cols) in grid.kernels.items():
                if variances.get(name, 0.0) > 0:
                    field += (variances[name] * rows[row])[:, :, None] * cols[col][:, None, :]
            total += variances.get("offset", 0.0)
            total[np.arange(len(cells)), cells] += variances.get("cells", 0.0)
            yield total[:, : cells[-1] + 1]

    def mean_variance(self, variances: Variances) -> float:
        """Mean of the covariance's diagonal."""
        squares = {"classes": self.fractions, "patterns": self.patterns, "class_patterns": self.products}
        return float(
            sum(
                variance * ((squares[name] ** 2).sum() / self.grid.n if name in squares else 1.0)
                for name, variance in variances.items()
            )
        )


def view_library(pieces: Iterable[tuple[slice, Array]], n_dates: int, labels: Array, grid: CellGrid) -> LibraryView:
    """Sums over the library in one pass.

    Args:
        pieces: pixels and their values ``[T, pixels]`` without gaps, covering ``labels`` once.
        labels: ``[N]`` class; pixels outside the grid take no part.
    """
    n_classes, n = int(labels.max()) + 1, grid.n
    total = np.zeros((n_dates + 1, n * n_classes))  # the last row counts
    for pixels, values in pieces:
        here = grid.inside[pixels]
        key = grid.index[pixels][here] * np.intp(n_classes) + labels[pixels][here]
        for date, scene in enumerate(values):
            total[date] += np.bincount(key, scene[here], n * n_classes)
        total[-1] += np.bincount(key, minlength=n * n_classes)
    return _view(grid, total[:-1].reshape(n_dates, n, n_classes), total[-1].reshape(n, n_classes))


def _view(grid: CellGrid, sums: Array, counts: Array) -> LibraryView:
    """From the sums ``[T, n, K]`` and counts ``[n, K]`` of cell x class."""
    n_dates, per_cell = len(sums), np.maximum(counts.sum(1), 1)
    contrast = np.concatenate([np.full((1, n_dates), 1 / n_dates), np.eye(n_dates) - 1 / n_dates])
    scene_mean = sums.sum((1, 2)) / max(counts.sum(), 1)
    fractions = counts / per_cell[:, None]
    class_mean = contrast @ (sums.sum(1) / np.maximum(counts.sum(0), 1))
    cell_fine = sums.sum(2) / per_cell
    parts = np.tensordot(contrast, sums / per_cell[:, None], 1)
    return LibraryView(
        grid=grid,
        scene_mean=scene_mean,
        cell_fine=cell_fine,
        contrast=contrast,
        pattern_mean=contrast @ scene_mean,
        patterns=contrast @ cell_fine - (contrast @ scene_mean)[:, None],
        fractions=fractions,
        class_mean=class_mean,
        products=parts - class_mean[:, None, :] * fractions,
    )


def fill_gaps(scenes: Array, mean: Array, covariance: Array) -> Array:
    """``scenes [T, N]`` without NaN: each gap is the conditional mean given the pixel's other dates."""
    valid = np.isfinite(scenes)
    gappy = np.flatnonzero(~valid.all(axis=0))
    if not len(gappy):
        return scenes
    filled = scenes.copy()
    kinds, kind_of = np.unique(np.packbits(valid[:, gappy], axis=0), axis=1, return_inverse=True)
    for kind in range(kinds.shape[1]):
        pixels = gappy[kind_of.ravel() == kind]
        known = valid[:, pixels[0]]
        values = mean[~known, None] + np.zeros((1, len(pixels)))
        if known.any():
            gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, ~known)]).T
            values += gain @ (scenes[np.ix_(known, pixels)] - mean[known, None])
        filled[np.ix_(~known, pixels)] = values
    return filled


def bias_of_coarse(coarse: Array, cell_fine: Array) -> Array:
    """What to add to a coarse scene ``[n]``: the mean offset over dates, and each cell's own, shrunk by its noise.

    Args:
        coarse, cell_fine: ``[T, n]``; NaN in ``coarse`` where the two may not be compared.
    """
    departure = cell_fine - coarse
    seen = np.isfinite(departure)
    per_date = np.where(seen, departure, 0).sum(1) / np.maximum(seen.sum(1), 1)
    compared = seen.any(1)
    offset = float(per_date[compared].mean()) if compared.any() else 0.0
    if compared.sum() < 2:
        return np.full(coarse.shape[1], offset)
    rest, times_seen = np.where(seen, departure - per_date[:, None], 0.0), seen.sum(0)
    own = rest.sum(0) / np.maximum(times_seen, 1)
    noise = (np.where(seen, rest - own, 0.0) ** 2).sum() / max((times_seen - 1).clip(0).sum(), 1)
    signal = max(float((own**2).mean()) - noise / len(coarse), 0.0)
    bias: Array = offset + own * signal / (signal + noise / np.maximum(times_seen, 1) + 1e-12)
    return bias
