"""AMUN with random weights: whatever depends on the structure alone (seams, speed) needs no training.

Gate, attention and bias start at values that do nothing; here every weight is drawn, so that all of them matter.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from thermoscale.testing.worlds import make_pairs
from thermoscale_train.checkpoint import AmunCheckpoint
from thermoscale_train.config import AmunSettings
from thermoscale_train.fit_amun import fit_amun

SCENES = 3
DETAIL_SCALE_K = 0.3
"""Random features are larger than trained ones: this makes details of a few kelvin of them."""


def random_amun(settings: AmunSettings, *, scale_factor: int = 4, seed: int = 0) -> AmunCheckpoint:
    """A network of the structure in ``settings`` with factors ndvi and elevation.

    The statistics come from one step of a real fit to a synthetic world, so that the structure, the halo and the
    tiles are those of a fit.

    Raises:
        InvalidInput: as :func:`thermoscale_train.fit_amun.fit_amun`.
    """
    one_step = replace(
        settings,
        training=replace(settings.training, steps=1, batch=1, evaluate_every=1),
        refit=replace(settings.refit, steps=0),
    )
    cells = -(-settings.samples.crop_px // scale_factor) + 1
    pairs = make_pairs(
        seed, n_grounds=SCENES, scenes_per_ground=1, coarse_shape=(cells, cells), scale_factor=scale_factor
    )
    checkpoint = fit_amun(pairs.subset(range(SCENES - 1)), pairs.subset((SCENES - 1,)), one_step, seed=seed)
    trainable = {name for name, _ in checkpoint.build().named_parameters()}
    torch.manual_seed(seed)
    state = {name: _drawn(value) if name in trainable else value for name, value in checkpoint.state.items()}
    return replace(checkpoint, state=state, network=replace(checkpoint.network, detail_scale=DETAIL_SCALE_K))


def _drawn(value: Tensor) -> Tensor:
    """Matrices and kernels keep the variance of what they pass on, the attention counts fully, vectors stay."""
    if value.ndim > 1:
        return nn.init.kaiming_normal_(torch.empty_like(value))
    return value if value.ndim else torch.ones_like(value)
