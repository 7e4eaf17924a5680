"""The bias of the coarse sensor against the fine one, as a linear function of the scene.

Two sensors at one overpass differ by kelvins, scene by scene. Mean and spread of the scene's LST and the means of
its factors foretell part of it; the closed form of the fit leaves nothing to chance, and is zero where the coarse
image is made of the fine one.
"""

import torch
from torch import Tensor, nn

SHRINKAGE = torch.logspace(-2, 3, 21)
"""Ridge penalties to choose from, in scenes: a penalty of 10 pulls a slope as if ten more scenes showed none."""


class SceneBias(nn.Module):
    """``bias = offset + sum of slope * (moment - centre) / spread``; zero until :meth:`fit`.

    ``surprise`` is what the bias of a scene left out of the fit differs from it, root mean square, K.
    """

    offset: Tensor
    slope: Tensor
    centre: Tensor
    spread: Tensor
    surprise: Tensor

    def __init__(self, n_factors: int) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(1))
        self.register_buffer("surprise", torch.zeros(()))
        self.register_buffer("slope", torch.zeros(2 + n_factors))
        self.register_buffer("centre", torch.zeros(2 + n_factors))
        self.register_buffer("spread", torch.ones(2 + n_factors))

    def forward(self, moments: Tensor) -> Tensor:
        """Moments ``[B, 2 + F]`` (:func:`scene_moments`) -> bias ``[B, 1]`` K, to be added to the coarse LST."""
        standard = (moments - self.centre) / self.spread
        return self.offset + (standard * self.slope).sum(dim=1, keepdim=True)

    def fit(self, moments: Tensor, bias: Tensor) -> None:
        """Ridge regression of the measured biases ``[n]`` K on the moments ``[n, 2 + F]``.

        The penalty, among :data:`SHRINKAGE`, is the one with the smallest error when scenes are left out in turn.
        """
        self.centre.copy_(moments.mean(dim=0))
        self.spread.copy_(moments.std(dim=0, unbiased=False).clamp(min=1e-3))
        standard = ((moments - self.centre) / self.spread).double()
        centred = (bias - bias.mean()).double()
        errors = torch.stack([_left_out(standard, centred, float(penalty)) for penalty in SHRINKAGE])
        self.offset.copy_(bias.mean())
        self.slope.copy_(_ridge(standard, centred, float(SHRINKAGE[errors.argmin()])))
        self.surprise.copy_(errors.min().sqrt())


def scene_moments(thumb: Tensor, thumb_valid: Tensor) -> Tensor:
    """``[B, 2 + F]``: mean and standard deviation of LST, K, then the mean of each factor in its unit.

    Args:
        thumb: ``[B, 1 + F, 32, 32]`` in physical units. thumb_valid: valid shares, which weigh the cells.
    """
    weight = thumb_valid / thumb_valid.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    mean = (thumb * weight).sum(dim=(2, 3))
    deviation = (thumb[:, 0] - mean[:, :1, None]).square() * weight[:, 0]
    return torch.cat([mean[:, :1], deviation.sum(dim=(1, 2))[:, None].sqrt(), mean[:, 1:]], dim=1)


def _ridge(standard: Tensor, centred: Tensor, penalty: float) -> Tensor:
    normal = standard.T @ standard + penalty * torch.eye(standard.shape[1], dtype=standard.dtype)
    slopes: Tensor = torch.linalg.solve(normal, standard.T @ centred)
    return slopes


def _left_out(standard: Tensor, centred: Tensor, penalty: float) -> Tensor:
    """Mean squared error of each scene by a fit without it, from the leverages of the fit with all of them."""
    normal = standard.T @ standard + penalty * torch.eye(standard.shape[1], dtype=standard.dtype)
    leverage = (standard * torch.linalg.solve(normal, standard.T).T).sum(dim=1) + 1 / len(standard)
    residual = centred - standard @ _ridge(standard, centred, penalty)
    left_out: Tensor = (residual / (1 - leverage).clamp(min=1e-6)).square().mean()
    return left_out
