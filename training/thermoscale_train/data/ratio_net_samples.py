"""Training samples of RatioNet: fine pixels of library triples with the ratio of their HCR (METHODS 1.4)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from thermoscale.arrays import FloatArray
from thermoscale.errors import Undetermined
from thermoscale.numerics.change_ratio import (
    Guards,
    apply_transform,
    closed_form,
    scene_range,
    usable_pixels,
    within_range,
)
from thermoscale.numerics.hcr import hcr_alpha
from thermoscale.numerics.triples import Triple
from thermoscale.pipelines.iustfm import Region
from thermoscale.pipelines.iustfm_config import Range
from thermoscale.pipelines.library import Library
from thermoscale_train.config import RatioNetSamples
from thermoscale_train.data.dynet_samples import training_triples

OVERSAMPLING = 2
FAR_A2 = 1e4
"""Large |a2| of either sign meet in beta = 1 / a2 = 0, no change. Ranges that ended earlier would cut real answers."""


class TrainingRanges(NamedTuple):
    """As in ``IustfmConfig``; None where there is no a2 of that sign."""

    distance: Range
    a2_negative: Range | None
    a2_positive: Range | None


@dataclass(frozen=True)
class RatioNetPool:
    """N samples: ``distance`` and ``a2`` in, ``delta`` out, each ``[N]``; unit of the library (a2: dimensionless)."""

    distance: Tensor
    a2: Tensor
    delta: Tensor

    def batch(self, size: int, rng: np.random.Generator) -> "RatioNetPool":
        """``size`` random samples."""
        rows = torch.from_numpy(rng.integers(0, len(self.a2), size))
        return RatioNetPool(self.distance[rows], self.a2[rows], self.delta[rows])

    def ranges(self) -> "TrainingRanges":
        """What training saw; each side of a2 goes on to :data:`FAR_A2`, beyond which beta is 0 for every purpose."""
        distance, a2 = self.distance.numpy(), self.a2.numpy()
        negative, positive = a2[a2 < 0], a2[a2 > 0]
        return TrainingRanges(
            (float(distance.min()), float(distance.max())),
            (-FAR_A2, float(negative.max())) if negative.size else None,
            (float(positive.min()), FAR_A2) if positive.size else None,
        )


def draw_ratio_net_pool(
    library: Library,
    region: Region,
    n_hcr: int,
    guards: Guards,
    order: str,
    settings: RatioNetSamples,
    alpha_sd: float,
    rng: np.random.Generator,
) -> RatioNetPool:
    """Random pixels of ``settings.triples`` random triples; ratios of any size, since DyNet's may have any.

    Args:
        guards: in the unit of the library.
        alpha_sd: error added to the ratios, 1 sigma: what DyNet gets wrong; 0 is none.

    Raises:
        Undetermined: no pixel passes the guards.
    """
    triples = training_triples(library, guards, order)
    chosen = rng.permutation(len(triples))[: settings.triples]
    per_triple = -(-settings.pool // max(len(chosen), 1))
    parts = [
        _of_triple(library, region, n_hcr, triples[number], guards, settings, per_triple, alpha_sd, rng)
        for number in sorted(chosen)
    ]
    samples = np.concatenate(parts, axis=1) if parts else np.zeros((3, 0), np.float32)
    if samples.shape[1] == 0:
        raise Undetermined(f"no pixel of {len(chosen)} triples passes the guards {guards}")
    return RatioNetPool(*(torch.from_numpy(row) for row in samples))


def _of_triple(
    library: Library,
    region: Region,
    n_hcr: int,
    triple: Triple,
    guards: Guards,
    settings: RatioNetSamples,
    count: int,
    alpha_sd: float,
    rng: np.random.Generator,
) -> FloatArray:
    """``[3, n]`` distance, a2, delta of at most ``count`` pixels whose closed form passes the guards."""
    scenes = [library.fine_at(time) for time in triple]
    alpha_hcr = hcr_alpha(scenes[0], scenes[1], scenes[2], region.labels, n_hcr)
    candidates = np.flatnonzero(region.labels >= 0)
    picked = candidates[rng.integers(0, len(candidates), OVERSAMPLING * count)]
    pre, target, post = (scene.ravel()[picked] for scene in scenes)
    error_sd = np.hypot(alpha_sd, _noise_sd(alpha_hcr, guards, settings.alpha_snr))
    noise = rng.standard_normal(len(picked)).astype(np.float32)  # anew for every pixel: more draws, the same loss
    alpha = alpha_hcr[region.labels.ravel()[picked]] + np.float32(error_sd) * noise
    usable = usable_pixels(pre, post, alpha, guards, baseline_k=library.baseline_of(triple.pre, triple.post))
    usable &= within_range(closed_form(pre, post, alpha), *scene_range(scenes[0], scenes[2]), guards)
    usable &= np.isfinite(target)
    a2 = apply_transform(alpha, pre, post)
    samples: FloatArray = np.stack([np.abs(post - pre), a2, target - pre])[:, usable][:, :count].astype(np.float32)
    return samples


def _noise_sd(alpha_hcr: FloatArray, guards: Guards, snr: float) -> float:
    """1 sigma of the noise that makes ``snr`` = variance of alpha over HCRs / variance of the noise; 0 for 0."""
    known = alpha_hcr[np.abs(alpha_hcr) <= guards.max_abs_alpha]
    return float(known.std() / np.sqrt(snr)) if snr > 0.0 and known.size else 0.0
