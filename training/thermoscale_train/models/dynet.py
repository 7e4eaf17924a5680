"""DyNet: change ratios of the coarse pixels of one clip and triple -> change ratio of every HCR (METHODS 1.3).

"Dynamic" means that only the inputs present and the outputs present take part. One static graph of fixed maximum width
with masks does the same: a zeroed input is a removed column, an output left out of the loss is a removed row.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class DyNetConfig:
    """Structure and fixed statistics.

    Attributes:
        m_max: slots for coarse pixels. h_max: HCRs.
        hidden, layers: the perceptron, 5 layers of 128 in the paper; ReLU is ours.
        alpha_mean, alpha_sd: training statistics of alpha (dimensionless), for inputs and outputs alike.
    """

    m_max: int = 2000
    h_max: int = 256
    hidden: int = 128
    layers: int = 5
    alpha_mean: float = 0.0
    alpha_sd: float = 1.0


class DyNet(nn.Module):
    """The masked perceptron."""

    alpha_mean: Tensor
    alpha_sd: Tensor

    def __init__(self, config: DyNetConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("alpha_mean", torch.tensor(config.alpha_mean))
        self.register_buffer("alpha_sd", torch.tensor(config.alpha_sd))
        widths = [config.m_max] + [config.hidden] * config.layers
        steps: list[nn.Module] = []
        for a, b in pairwise(widths):
            steps += [nn.Linear(a, b), nn.ReLU()]
        self.perceptron = nn.Sequential(*steps, nn.Linear(config.hidden, config.h_max))

    def forward(self, alpha: Tensor, valid: Tensor, hcr_present: Tensor) -> Tensor:
        """Change ratio per HCR; NaN for HCRs not present (0 is a legal ratio).

        Args:
            alpha: ``[B, m_max]`` coarse change ratio by slot, anything (NaN included) where not valid.
            valid: ``[B, m_max]`` bool. hcr_present: ``[B, h_max]`` bool.

        Returns:
            ``[B, h_max]``.
        """
        standard = (alpha - self.alpha_mean) / self.alpha_sd
        inputs = torch.where(valid, standard, torch.zeros_like(standard))
        outputs = self.perceptron(inputs) * self.alpha_sd + self.alpha_mean
        return torch.where(hcr_present, outputs, torch.full_like(outputs, float("nan")))
