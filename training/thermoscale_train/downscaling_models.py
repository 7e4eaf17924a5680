"""Downscaling methods that have to be fitted first: AMUN and the random forests, from the scenes of one turn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from thermoscale.arrays import FloatArray
from thermoscale.formats import Pairs
from thermoscale.numerics.grids import regular_index
from thermoscale.pipelines.amun import Amun
from thermoscale_train.baselines.random_forest import Forest, fit_forest
from thermoscale_train.checkpoint import AmunCheckpoint
from thermoscale_train.config import AmunSettings, ForestSettings, load_amun_settings, load_forest_settings
from thermoscale_train.data.folds import Turn
from thermoscale_train.fit import fit_amun
from thermoscale_train.networks import amun_context_network, amun_tile_network


class Downscaled(NamedTuple):
    """``lst`` ``[H, W]`` of one scene and, where the method knows it, its spread (one standard deviation), K."""

    lst: FloatArray
    spread: FloatArray | None = None


Method = Callable[[int], Downscaled]
"""Row of a scene to its prediction."""

FORESTS = ("random_forest", "random_forest_residual")
FITTED = (*FORESTS, "amun")


@dataclass(frozen=True)
class DownscalingSettings:
    """Of everything that is fitted for a comparison."""

    amun: AmunSettings
    forest: ForestSettings

    @classmethod
    def shipped(cls) -> "DownscalingSettings":
        """As in ``configs/``."""
        return cls(load_amun_settings(), load_forest_settings())


def fit_methods(
    pairs: Pairs,
    turn: Turn,
    methods: Sequence[str],
    settings: DownscalingSettings,
    *,
    seed: int,
    progress: bool = False,
) -> dict[str, Method]:
    """Those of ``methods`` that are in :data:`FITTED`, fitted to the training scenes of ``turn``.

    AMUN's best weights are chosen on the validation scenes; forests do not look at them.
    """
    found: dict[str, Method] = {}
    train = pairs.subset(turn.train)
    if set(FORESTS) & set(methods):
        fitted = fit_forest(train, settings.forest, seed=seed)
        found |= {name: _of_forest(fitted, pairs, residual=name != FORESTS[0]) for name in FORESTS if name in methods}
    if "amun" in methods:
        checkpoint = fit_amun(train, pairs.subset(turn.valid), settings.amun, seed=seed, progress=progress)
        found["amun"] = of_checkpoint(checkpoint, pairs)
    return found


def of_checkpoint(checkpoint: AmunCheckpoint, pairs: Pairs) -> Method:
    """The served pipeline around the networks of ``checkpoint``."""
    network = checkpoint.build()
    pipeline = Amun(checkpoint.config, amun_context_network(network), amun_tile_network(network))

    def predict(row: int) -> Downscaled:
        answer = pipeline.predict(pairs.coarse[row], _factors(pairs, row))
        return Downscaled(answer["lst"], answer["spread_k"])

    return predict


def _of_forest(forest: Forest, pairs: Pairs, *, residual: bool) -> Method:
    index = regular_index((pairs.coarse.shape[1], pairs.coarse.shape[2]), pairs.fine_shape)
    answer = forest.predict_with_residual if residual else forest.predict
    return lambda row: Downscaled(answer(pairs.coarse[row], _factors(pairs, row), index))


def _factors(pairs: Pairs, row: int) -> FloatArray | None:
    return None if pairs.factors is None else np.asarray(pairs.factors[row], np.float32)
