"""How DyNet starts and what it is told: structure and statistics from its samples, and the loss of one batch."""

import numpy as np
import torch
from torch import Tensor

from thermoscale.numerics.hcr import area_fractions
from thermoscale.pipelines.iustfm import Region
from thermoscale_train.config import DyNetLoss, DyNetStructure
from thermoscale_train.data.dynet_samples import DyNetPool
from thermoscale_train.losses import ratio_loss
from thermoscale_train.models.dynet import MIN_ONE_PLUS_ALPHA, DyNet, DyNetConfig, into_space

MIN_SPREAD = 1e-3


def start_dynet(pool: DyNetPool, region: Region, structure: DyNetStructure) -> DyNet:
    """An untrained DyNet that standardises its inputs by the samples in ``pool``, and pools over ``region``'s HCRs."""
    sizes = {"m_max": structure.m_max, "h_max": structure.h_max, "hidden": structure.hidden, "layers": structure.layers}
    known = into_space(pool.alpha[pool.valid], structure.space)
    config = DyNetConfig(
        **sizes,
        alpha_mean=float(known.mean()),
        alpha_sd=max(float(known.std(correction=0)), MIN_SPREAD),
        space=structure.space,
        pooled=structure.pooled,
    )
    return DyNet(config, pooling_weights(region, structure.m_max, structure.h_max) if structure.pooled else None)


def pooling_weights(region: Region, m_max: int, h_max: int) -> Tensor:
    """``[m_max, h_max]`` share of each HCR in the cell that owns the slot."""
    n_hcr = int(region.labels.max()) + 1
    owners = np.flatnonzero(region.slots >= 0)
    weights = np.zeros((m_max, h_max), np.float32)
    shares = area_fractions(region.labels, region.coarse_index, region.slots.size, n_hcr)
    weights[region.slots[owners], :n_hcr] = shares[owners]
    return torch.from_numpy(weights)


def dynet_loss(dynet: DyNet, batch: DyNetPool, settings: DyNetLoss, typical_distance: float) -> Tensor:
    """The loss of one batch as ``settings`` define it.

    Args:
        typical_distance: of the whole pool, from :func:`typical_distance`; makes the loss dimensionless.
    """
    truth = into_space(batch.truth, dynet.config.space)
    weight = batch.pixels if settings.weight == "pixels" else torch.ones_like(batch.pixels)
    slope = torch.ones_like(truth)
    if settings.error == "lst":
        slope = lst_slope(batch.truth, torch.nan_to_num(batch.distance), dynet.config.space) / typical_distance
    return ratio_loss(dynet.answer(batch.alpha, batch.valid), truth, weight, slope, settings.bend)


def lst_slope(alpha: Tensor, distance: Tensor, space: str) -> Tensor:
    """How much LST changes with a ratio (METHODS 1.1): ``|post - pre|`` for beta, over ``(1 + alpha)^2`` for alpha."""
    if space == "beta":
        return distance.abs()
    return distance.abs() / (1.0 + alpha).abs().clamp(min=MIN_ONE_PLUS_ALPHA).square()


def typical_distance(pool: DyNetPool) -> float:
    """Root mean square of the HCRs' ``post - pre``; 1 where there is none."""
    known = pool.distance[torch.isfinite(pool.truth) & torch.isfinite(pool.distance)]
    return float(known.square().mean().sqrt()) or 1.0
