"""Downscaling methods that have to be fitted first: AMUN and the random forests, from the scenes of one turn."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thermoscale.arrays import FloatArray, IntArray
from thermoscale.formats import Pairs
from thermoscale.numerics.closure import closure_residual, correct_closure
from thermoscale.numerics.grids import regular_index
from thermoscale.pipelines.amun import Amun
from thermoscale.pipelines.amun_config import VIEW_COUNTS, AmunConfig
from thermoscale_train.baselines.random_forest import Forest, fit_forest
from thermoscale_train.checkpoint import AmunCheckpoint
from thermoscale_train.config import AmunSettings, ForestSettings, load_amun_settings, load_forest_settings
from thermoscale_train.data.folds import Turn
from thermoscale_train.fit import fit_amun
from thermoscale_train.known_ground import scene_digests
from thermoscale_train.networks import amun_context_network, amun_tile_network


class Downscaled(NamedTuple):
    """``lst`` ``[H, W]`` of one scene and, where the method knows it, its spread (one standard deviation), K."""

    lst: FloatArray
    spread: FloatArray | None = None


Method = Callable[[int], Downscaled]
"""Row of a scene to its prediction."""

FORESTS = ("random_forest", "random_forest_residual")
AMUN, AMUN_CLOSED, AMUN_VIEWS = "amun", "amun_closed", "amun_views"
AMUNS = (AMUN, AMUN_CLOSED, AMUN_VIEWS)
FITTED = (*FORESTS, *AMUNS)

LARGEST_TILE_PX = 1024


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
    work: Path | None = None,
) -> dict[str, Method]:
    """Those of ``methods`` that are in :data:`FITTED`, fitted to the training and validation scenes of ``turn``.

    AMUN's best weights are chosen on the validation scenes before it trains on them, too; forests choose nothing.
    ``amun_closed`` is AMUN with its closure residual corrected, ``amun_views`` the same network in eight views.

    Args:
        work: folder for the states of AMUN's fits; one that is there already goes on from where it stopped.
    """
    found: dict[str, Method] = {}
    train = pairs.subset(turn.train)
    if set(FORESTS) & set(methods):
        fitted = fit_forest(pairs.subset((*turn.train, *turn.valid)), settings.forest, seed=seed)
        found |= {name: _of_forest(fitted, pairs, residual=name != FORESTS[0]) for name in FORESTS if name in methods}
    if set(AMUNS) & set(methods):
        valid = pairs.subset(turn.valid)
        state = None if work is None else _state_file(work, train, valid, settings.amun, seed)
        checkpoint = fit_amun(train, valid, settings.amun, seed=seed, progress=progress, resume=state)
        amun: Method = cache(of_checkpoint(checkpoint, pairs))
        closed = _closed(amun, pairs, coarse_sigma(train))
        all_views = replace(checkpoint, config=replace(checkpoint.config, views=max(VIEW_COUNTS)))
        several = {AMUN: amun, AMUN_CLOSED: closed, AMUN_VIEWS: of_checkpoint(all_views, pairs)}
        found |= {name: method for name, method in several.items() if name in methods}
    return found


def _state_file(work: Path, train: Pairs, valid: Pairs, settings: AmunSettings, seed: int) -> Path:
    """Where the state of one fit lies: another name for whatever makes it another fit."""
    of = sha256(json.dumps([asdict(settings), seed, train.factor_names]).encode())
    for pairs in (train, valid):
        of.update("".join(scene_digests(pairs)).encode())
        of.update(np.ascontiguousarray(pairs.coarse, "<f4").tobytes())
    work.mkdir(parents=True, exist_ok=True)
    return work / f"amun_{of.hexdigest()[:16]}.pt"


def of_checkpoint(checkpoint: AmunCheckpoint, pairs: Pairs) -> Method:
    """The served pipeline around the networks of ``checkpoint``, in tiles that suit the scenes."""
    network, config = checkpoint.build(), _one_tile(checkpoint.config, max(pairs.fine_shape))
    pipeline = Amun(config, amun_context_network(network), amun_tile_network(network))

    def predict(row: int) -> Downscaled:
        answer = pipeline.predict(pairs.coarse[row], _factors(pairs, row))
        return Downscaled(answer["lst"], answer["spread_k"])

    return predict


def _one_tile(config: AmunConfig, side_px: int) -> AmunConfig:
    """One tile for a scene of ``side_px``, if that is not too large: the same answer, without reading a halo twice."""
    whole_px = -(-side_px // config.multiple_px) * config.multiple_px + 2 * (config.overlap_px + config.halo_px)
    return replace(config, tile_px=whole_px) if whole_px <= LARGEST_TILE_PX else config


def coarse_sigma(train: Pairs) -> float:
    """1-sigma error of a coarse pixel, K: of cell means of the truth, the scene's bias apart."""
    assert train.fine is not None
    index = coarse_index_of(train)
    residuals = [closure_residual(fine, coarse, index) for fine, coarse in zip(train.fine, train.coarse, strict=True)]
    return float(np.sqrt(np.mean([np.nanvar(residual) for residual in residuals])))


def _closed(method: Method, pairs: Pairs, sigma_k: float) -> Method:
    """``method`` with its closure residual corrected, by the share that the noise of the coarse image leaves."""
    index = coarse_index_of(pairs)

    def predict(row: int) -> Downscaled:
        lst, spread = method(row)
        return Downscaled(correct_closure(lst, pairs.coarse[row], index, sigma_k=sigma_k), spread)

    return predict


def _of_forest(forest: Forest, pairs: Pairs, *, residual: bool) -> Method:
    index = coarse_index_of(pairs)
    answer = forest.predict_with_residual if residual else forest.predict
    return lambda row: Downscaled(answer(pairs.coarse[row], _factors(pairs, row), index))


def coarse_index_of(pairs: Pairs) -> IntArray:
    """The link between the grids of every scene."""
    return regular_index((pairs.coarse.shape[1], pairs.coarse.shape[2]), pairs.fine_shape)


def _factors(pairs: Pairs, row: int) -> FloatArray | None:
    return None if pairs.factors is None else np.asarray(pairs.factors[row], np.float32)
