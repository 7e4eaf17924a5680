"""Random forest: what the surface factors tell about the fine LST beyond the interpolated coarse one.

One forest is fitted to pixels of all training scenes, with the fine LST as truth; its settings are frozen in
``configs/random_forest.toml``. It predicts fine - bicubic, so that an empty forest is interpolation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

from thermoscale.arrays import Array, FloatArray, IntArray
from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs
from thermoscale.numerics.closure import closure_residual
from thermoscale.numerics.grids import area_mean, interpolate, paint_cells, regular_index
from thermoscale_train.config import ForestSettings


@dataclass(frozen=True, eq=False)
class Forest:
    """A fitted forest and what its features need."""

    settings: ForestSettings
    trees: Any

    def predict(self, coarse: FloatArray, factors: FloatArray | None, coarse_index: IntArray) -> FloatArray:
        """LST ``[H, W]`` K, NaN where the coarse cell is."""
        inputs, bicubic = features(coarse, factors, coarse_index, self.settings.windows_px)
        fine = bicubic.astype(np.float32)
        known = np.isfinite(fine)
        if known.any():
            fine[known] += self.trees.predict(inputs[known]).astype(np.float32)
        return fine

    def predict_with_residual(
        self, coarse: FloatArray, factors: FloatArray | None, coarse_index: IntArray
    ) -> FloatArray:
        """:meth:`predict`, then what its cell means lack of the coarse image, spread bilinearly."""
        fine = self.predict(coarse, factors, coarse_index)
        residual = closure_residual(fine, coarse, coarse_index)
        return fine + np.nan_to_num(interpolate(residual, coarse_index, order=1, fill=True))


def fit_forest(pairs: Pairs, settings: ForestSettings, *, seed: int, threads: int = 1) -> Forest:
    """Fit to the scenes of ``pairs``; deterministic for a seed.

    Raises:
        InvalidInput: no truth, or no pixel that has both a coarse value and a truth.
    """
    from sklearn.ensemble import RandomForestRegressor  # slow to import

    if pairs.fine is None:
        raise InvalidInput("pairs have no fine scenes: there is nothing to learn from")
    index = regular_index((pairs.coarse.shape[1], pairs.coarse.shape[2]), pairs.fine_shape)
    rng = np.random.default_rng(seed)
    samples = [_sample(pairs, row, index, settings, rng) for row in range(len(pairs))]
    inputs, missed = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    if not len(missed):
        raise InvalidInput("no pixel of the training scenes has both a coarse value and a truth")
    trees = RandomForestRegressor(
        settings.trees,
        max_depth=settings.max_depth or None,
        min_samples_leaf=settings.min_leaf,
        max_features=settings.max_features,
        n_jobs=threads,
        random_state=seed,
    )
    return Forest(settings, trees.fit(inputs, missed))


def features(
    coarse: FloatArray, factors: FloatArray | None, coarse_index: IntArray, windows_px: Sequence[int]
) -> tuple[Array, FloatArray]:
    """Inputs of the forest ``[H, W, n]`` float32, and the bicubic image ``[H, W]``.

    The bicubic LST, how it departs from its own cell and from its surroundings; each factor, and how it departs from
    its means over the cell and over ``windows_px``. NaN where a factor has no value: trees send it one way.
    """
    bicubic = interpolate(coarse, coarse_index, order=3)
    layers = [bicubic]
    if windows_px:
        layers += [
            bicubic - paint_cells(coarse, coarse_index),
            bicubic - interpolate(_around(coarse), coarse_index, order=1),
        ]
    for factor in () if factors is None else factors:
        layers.append(factor)
        if windows_px:
            cell_means = area_mean(factor, coarse_index, (coarse.shape[0], coarse.shape[1]))
            layers.append(factor - interpolate(cell_means, coarse_index, order=3))
            layers += [factor - window_mean(factor, side) for side in windows_px]
            layers += [window_mean(np.square(factor - window_mean(factor, side)), side) for side in windows_px]
    return np.stack(layers, axis=-1).astype(np.float32), bicubic


def window_mean(image: FloatArray, side: int) -> FloatArray:
    """Mean of the valid pixels of the ``side`` x ``side`` square around each pixel; NaN where it holds none."""
    valid = np.isfinite(image)
    total = uniform_filter(np.where(valid, image, 0.0).astype(np.float64), side, mode="constant")
    share = uniform_filter(valid.astype(np.float64), side, mode="constant")
    mean: FloatArray = np.where(share > 0.5 / side**2, total / np.maximum(share, 0.5 / side**2), np.nan)
    return mean.astype(np.float32)


def _around(coarse: FloatArray) -> FloatArray:
    """Mean of the 3 x 3 cells around each."""
    return window_mean(coarse, 3)


def _sample(
    pairs: Pairs, row: int, index: IntArray, settings: ForestSettings, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Inputs ``[m, n]`` and fine - bicubic ``[m]`` of random pixels of one scene."""
    factors = None if pairs.factors is None else pairs.factors[row]
    assert pairs.fine is not None
    inputs, bicubic = features(pairs.coarse[row], factors, index, settings.windows_px)
    missed = (pairs.fine[row] - bicubic).ravel()
    chosen = rng.permutation(np.flatnonzero(np.isfinite(missed)))[: settings.pixels_per_scene]
    return inputs.reshape(missed.size, -1)[chosen], missed[chosen]
