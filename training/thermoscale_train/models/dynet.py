"""DyNet: change ratios of the coarse pixels of one clip and triple -> change ratio of every HCR (METHODS 1.3).

"Dynamic" means that only the inputs present and the outputs present take part. One static graph of fixed maximum width
with masks does the same: a zeroed input is a removed column, an output left out of the loss is a removed row.

Two departures from the paper, both options. Inside, the network may work with beta = 1 / (1 + alpha), the weight of the
later date: the closed form is linear in it and has no pole, where alpha runs to infinity when the target equals the
earlier date. And it may add its answer to a plain pooling of the coarse ratios over each HCR, so that it learns what
pooling lacks and a triple unlike all it has seen is still answered.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from thermoscale.errors import InvalidInput

SPACES = ("alpha", "beta")
MIN_ONE_PLUS_ALPHA = 0.1
"""Nearer to the pole a ratio tells nothing: beta stays within +-10."""
MIN_BETA = 0.02
"""Answers nearer to zero mean that the target equals the earlier date: alpha stays within +-50."""


@dataclass(frozen=True)
class DyNetConfig:
    """Structure and fixed statistics.

    Attributes:
        m_max: slots for coarse pixels. h_max: HCRs.
        hidden, layers: the perceptron, 5 layers of 128 in the paper; ReLU is ours.
        alpha_mean, alpha_sd: training statistics of the inputs in ``space`` (dimensionless), for outputs alike.
        space: "alpha" or "beta", what the perceptron sees and answers; the graph takes and gives alpha.
        pooled: adds the pooling of the inputs over each HCR to the answer.
    """

    m_max: int = 2000
    h_max: int = 256
    hidden: int = 128
    layers: int = 5
    alpha_mean: float = 0.0
    alpha_sd: float = 1.0
    space: str = "alpha"
    pooled: bool = False

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise InvalidInput(f"space is {self.space!r}, needed one of {SPACES}")


class DyNet(nn.Module):
    """The masked perceptron.

    Args:
        weights: ``[m_max, h_max]`` weight of each slot in the pooling over each HCR, where the config wants one;
            default zeros, to be loaded.
    """

    alpha_mean: Tensor
    alpha_sd: Tensor
    weights: Tensor

    def __init__(self, config: DyNetConfig, weights: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("alpha_mean", torch.tensor(config.alpha_mean))
        self.register_buffer("alpha_sd", torch.tensor(config.alpha_sd))
        widths = [config.m_max] + [config.hidden] * config.layers
        steps: list[nn.Module] = []
        for a, b in pairwise(widths):
            steps += [nn.Linear(a, b), nn.ReLU()]
        last = nn.Linear(config.hidden, config.h_max)
        self.perceptron = nn.Sequential(*steps, last)
        if config.pooled:
            self.register_buffer("weights", torch.zeros(config.m_max, config.h_max) if weights is None else weights)
            nn.init.zeros_(last.weight)  # training starts from the pooling
            nn.init.zeros_(last.bias)

    def forward(self, alpha: Tensor, valid: Tensor, hcr_present: Tensor) -> Tensor:
        """Change ratio per HCR; NaN for HCRs not present (0 is a legal ratio).

        Args:
            alpha: ``[B, m_max]`` coarse change ratio by slot, anything (NaN included) where not valid.
            valid: ``[B, m_max]`` bool. hcr_present: ``[B, h_max]`` bool.

        Returns:
            ``[B, h_max]``.
        """
        outputs = self.answer(alpha, valid)
        if self.config.space == "beta":
            outputs = 1.0 / _away_from_zero(outputs, MIN_BETA) - 1.0
        return torch.where(hcr_present, outputs, torch.full_like(outputs, float("nan")))

    def answer(self, alpha: Tensor, valid: Tensor) -> Tensor:
        """``[B, h_max]`` in the network's space, for every HCR: what the loss sees."""
        inputs = into_space(torch.where(valid, alpha, torch.zeros_like(alpha)), self.config.space)
        standard = torch.where(valid, (inputs - self.alpha_mean) / self.alpha_sd, torch.zeros_like(inputs))
        outputs: Tensor = self.perceptron(standard) * self.alpha_sd
        return outputs + (self._pooling(inputs, valid) if self.config.pooled else self.alpha_mean)

    def _pooling(self, inputs: Tensor, valid: Tensor) -> Tensor:
        """``[B, h_max]`` weighted mean of the valid inputs; their plain mean for an HCR that none of them holds."""
        present = valid.to(inputs.dtype)
        total, weight = (present * inputs) @ self.weights, present @ self.weights
        plain = (present * inputs).sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1.0)
        return torch.where(weight > 0.0, total / torch.where(weight > 0.0, weight, 1.0), plain)


def into_space(alpha: Tensor, space: str) -> Tensor:
    """``alpha`` itself or its beta, elementwise."""
    return alpha if space == "alpha" else 1.0 / _away_from_zero(1.0 + alpha, MIN_ONE_PLUS_ALPHA)


def _away_from_zero(values: Tensor, least: float) -> Tensor:
    """``values`` with their size raised to ``least`` where it is smaller."""
    sign = torch.where(values < 0.0, -1.0, 1.0).to(values.dtype)
    return sign * values.abs().clamp(min=least)
