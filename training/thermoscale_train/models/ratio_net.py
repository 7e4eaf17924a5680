"""RatioNet: (thermal distance, transformed change ratio) of a pixel -> its temperature step (METHODS 1.4).

The paper's perceptron learns the whole step, a division included. Here the division is a skip and the perceptron a
correction of its quotient, zero before training (ours; why: ``training/docs/rationet.md``).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

LARGEST_BETA = 3.0
"""Weights of the later date beyond about this are alike to the perceptron: far extrapolations are rare in training."""


@dataclass(frozen=True)
class RatioNetConfig:
    """Structure and fixed statistics; distances are in the unit of the quantity (K for LST).

    Attributes:
        hidden: layer widths, from the paper; SiLU between them is ours (smooth, so tables of it are accurate).
        distance_offset, distance_scale: training statistics.
    """

    hidden: tuple[int, ...] = (40, 40, 40, 10, 10)
    distance_offset: float = 0.0
    distance_scale: float = 1.0


class RatioNet(nn.Module):
    """``delta = distance * (beta + perceptron(distance, beta))`` with ``beta = 1 / a2``; untrained the closed form.

    The perceptron is told beta instead of a2: a2 jumps from plus to minus infinity where the target is close to the
    earlier date, beta passes through 0 there.
    """

    def __init__(self, config: RatioNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [2, *config.hidden]
        steps: list[nn.Module] = []
        for a, b in pairwise(widths):
            steps += [nn.Linear(a, b), nn.SiLU()]
        head = nn.Linear(widths[-1], 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.perceptron = nn.Sequential(*steps, head)

    def forward(self, distance: Tensor, a2: Tensor) -> Tensor:
        """``distance`` ``[N]`` = |post - pre|, ``a2`` ``[N]``, not 0 -> ``delta`` ``[N]`` = target - pre."""
        beta = 1.0 / a2
        standard = (distance - self.config.distance_offset) / self.config.distance_scale
        inputs = torch.stack([standard, LARGEST_BETA * torch.tanh(beta / LARGEST_BETA)], dim=1)
        delta: Tensor = distance * (beta + self.perceptron(inputs).squeeze(1))
        return delta
