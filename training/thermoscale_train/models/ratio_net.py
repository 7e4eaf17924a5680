"""RatioNet: (thermal distance, transformed change ratio) of a pixel -> its temperature step (METHODS 1.4)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RatioNetConfig:
    """Structure and fixed statistics; distances and steps are in the unit of the quantity (K for LST).

    Attributes:
        hidden: layer widths, from the paper; SiLU between them is ours (smooth, so tables of it are accurate).
        distance_offset, distance_scale, a2_offset, a2_scale, delta_scale: training statistics.
    """

    hidden: tuple[int, ...] = (40, 40, 40, 10, 10)
    distance_offset: float = 0.0
    distance_scale: float = 1.0
    a2_offset: float = 0.0
    a2_scale: float = 1.0
    delta_scale: float = 1.0


class RatioNet(nn.Module):
    """The perceptron with its standardisation."""

    offset: Tensor
    scale: Tensor
    delta_scale: Tensor

    def __init__(self, config: RatioNetConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("offset", torch.tensor([config.distance_offset, config.a2_offset]))
        self.register_buffer("scale", torch.tensor([config.distance_scale, config.a2_scale]))
        self.register_buffer("delta_scale", torch.tensor(config.delta_scale))
        widths = [2, *config.hidden]
        steps: list[nn.Module] = []
        for a, b in pairwise(widths):
            steps += [nn.Linear(a, b), nn.SiLU()]
        self.perceptron = nn.Sequential(*steps, nn.Linear(widths[-1], 1))

    def forward(self, distance: Tensor, a2: Tensor) -> Tensor:
        """``distance`` ``[N]`` = |post - pre|, ``a2`` ``[N]`` -> ``delta`` ``[N]`` = target - pre."""
        standard = (torch.stack([distance, a2], dim=1) - self.offset) / self.scale
        delta: Tensor = self.perceptron(standard).squeeze(1) * self.delta_scale
        return delta
