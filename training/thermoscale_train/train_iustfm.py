"""Training DyNet and RatioNet for one place."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from thermoscale.formats import Series
from thermoscale.numerics.bias import BiasRule
from thermoscale.numerics.change_ratio import Guards
from thermoscale.pipelines.iustfm import IustfmConfig, Region
from thermoscale.pipelines.library import Library, stored_library
from thermoscale_train.config import IustfmSettings, TrainingSettings
from thermoscale_train.data.dynet_samples import draw_dynet_pool
from thermoscale_train.data.ratio_net_samples import RatioNetPool, draw_ratio_net_pool
from thermoscale_train.data.region import clip_side
from thermoscale_train.dynet_start import dynet_loss, start_dynet, typical_distance
from thermoscale_train.judge_iustfm import Judge
from thermoscale_train.loop import OnScore, Outcome, train
from thermoscale_train.models.dynet import DyNet
from thermoscale_train.models.ratio_net import RatioNet, RatioNetConfig
from thermoscale_train.networks import dynet_network, ratio_net_network

LEAST_GAIN = 0.01
"""Share of the held-out RMSE that training must take away from RatioNet: a few dates cannot tell less from luck."""


@dataclass(frozen=True)
class Place:
    """Everything fixed before the networks are trained."""

    series: Series
    region: Region
    config: IustfmConfig
    settings: IustfmSettings
    seed: int
    progress: bool
    resume: Path | None
    on_score: OnScore | None = None

    @property
    def guards(self) -> Guards:
        """In the unit of the series."""
        return self.config.guards.scaled(self.config.physical)

    @property
    def library(self) -> Library:
        """The dates the networks learn from, as the bundle will hold them."""
        return stored_library(self.region, self.config.library_step)


@dataclass(frozen=True)
class Networks:
    """Both trained networks, how they came about, and the config with their ranges."""

    dynet: DyNet
    ratio_net: RatioNet
    config: IustfmConfig
    dynet_outcome: Outcome
    ratio_net_outcome: Outcome
    alpha_sd: float


def train_both(
    place: Place, stage: str, steps: tuple[int, int], *, judge: Judge | None = None, alpha_sd: float = 0.0
) -> Networks:
    """DyNet, then RatioNet on top of it.

    Args:
        steps: of each network.
        judge: chooses the best weights and measures DyNet's error; without it the last weights are taken.
        alpha_sd: DyNet's error where there is no judge to measure it.
    """
    dynet, dynet_outcome = _train_dynet(place, f"DyNet {stage}", steps[0], judge)
    if judge is not None and place.settings.ratio_net.samples.alpha_error:
        alpha_sd = judge.alpha_sd(place.config, dynet_network(dynet))
    pool = draw_ratio_net_pool(
        place.library,
        place.region,
        place.config.n_hcr,
        place.guards,
        place.settings.dynet.samples.order,
        place.settings.ratio_net.samples,
        alpha_sd,
        np.random.default_rng([place.seed, 1]),
    )
    ranges = pool.ranges()
    config = replace(
        place.config,
        range_distance=ranges.distance,
        range_a2_negative=ranges.a2_negative,
        range_a2_positive=ranges.a2_positive,
    )
    ratio_net, outcome = _train_ratio_net(place, config, pool, f"RatioNet {stage}", steps[1], dynet, judge)
    return Networks(dynet, ratio_net, config, dynet_outcome, outcome, alpha_sd)


def _train_dynet(place: Place, name: str, steps: int, judge: Judge | None) -> tuple[DyNet, Outcome]:
    settings = place.settings.dynet
    pool = draw_dynet_pool(
        place.library,
        place.region,
        place.guards,
        clip_side(place.series, settings.region),
        settings.samples,
        settings.network,
        BiasRule().scaled(place.config.physical),
        np.random.default_rng([place.seed, 0]),
    )
    torch.manual_seed(place.seed)
    dynet, distance = start_dynet(pool, place.region, settings.network), typical_distance(pool)

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([place.seed, 2, step])
        batch = pool.batch(settings.training.batch, settings.samples.slot_dropout, rng)
        return dynet_loss(dynet, batch, settings.loss, distance)

    score = (lambda: 0.0) if judge is None else judge.scorer(place.config, dynet_network(dynet), None)
    return dynet, _train(dynet, loss_at, score, settings.training, name, steps, place, judge)


def _train_ratio_net(
    place: Place,
    config: IustfmConfig,
    pool: RatioNetPool,
    name: str,
    steps: int,
    dynet: DyNet,
    judge: Judge | None,
) -> tuple[RatioNet, Outcome]:
    """RatioNet with the best weights; as it was before any training, the closed form, where that gained too little."""
    settings = place.settings.ratio_net
    torch.manual_seed(place.seed)
    ratio_net = RatioNet(
        RatioNetConfig(
            hidden=settings.network.hidden,
            distance_offset=float(pool.distance.mean()),
            distance_scale=_spread(pool.distance),
        )
    )
    delta_scale = _spread(pool.delta)

    def loss_at(step: int) -> Tensor:
        batch = pool.batch(settings.training.batch, np.random.default_rng([place.seed, 3, step]))
        predicted: Tensor = ratio_net(batch.distance, batch.a2)
        return ((predicted - batch.delta) / delta_scale).square().mean()

    networks = dynet_network(dynet), ratio_net_network(ratio_net)
    untrained = copy.deepcopy(ratio_net.state_dict())
    if steps == 0:
        return ratio_net, Outcome(untrained, 0, math.nan, ())
    score: Callable[[], float] = (lambda: 0.0) if judge is None else judge.scorer(config, *networks)
    without_training = math.inf if judge is None else score()
    outcome = _train(ratio_net, loss_at, score, settings.training, name, steps, place, judge)
    if outcome.best_score < (1.0 - LEAST_GAIN) * without_training:
        return ratio_net, outcome
    ratio_net.load_state_dict(untrained)
    return ratio_net, Outcome(untrained, 0, without_training, outcome.history)


def _train(
    network: nn.Module,
    loss_at: Callable[[int], Tensor],
    score: Callable[[], float],
    training: TrainingSettings,
    name: str,
    steps: int,
    place: Place,
    judge: Judge | None,
) -> Outcome:
    """Without a judge there is one evaluation, at the end, so that the last weights are the result."""
    every = training.evaluate_every if judge is not None else steps
    resume = None if place.resume is None else place.resume / f"{name.lower().replace(' ', '_')}.pt"
    settings = replace(training, steps=steps, evaluate_every=every)
    return train(
        network,
        loss_at,
        score,
        settings,
        name=name,
        progress=place.progress,
        resume=resume,
        on_score=place.on_score,
    )


def _spread(values: Tensor) -> float:
    """Standard deviation, 1 where there is none."""
    return float(values.std(correction=0)) or 1.0
