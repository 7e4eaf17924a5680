"""GMFCA, the Global Multi-Factor Cross-Attention of AMUN, in its two halves.

The scene half sees a 32 x 32 thumbnail of the whole scene and makes keys, values and a gate over the factor groups.
The tile half asks with the tokens of one tile. No statistic of the tile enters, so tiles have no seams (METHODS 2).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermoscale_train.models.blocks import conv_unit

GAMMA_START = 0.1


class SceneContext(nn.Module):
    """Thumbnail of the scene -> keys, values and gate.

    Args:
        width: channels C of every feature.
        group_channels: number of factor channels in each of the G groups.
    """

    def __init__(self, width: int, group_channels: list[int]) -> None:
        super().__init__()
        self.lst_stem = conv_unit(2, width)
        self.group_stems = nn.ModuleList(conv_unit(2 * n, width) for n in group_channels)
        self.gate = nn.Linear(width * (1 + len(group_channels)), len(group_channels))
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.key = nn.Conv2d(width, width, 1)
        self.value = nn.Conv2d(width, width, 1)

    def forward(self, lst: Tensor, groups: list[Tensor], present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys ``[B, C, N]``, values ``[B, C, N]`` and gate ``[B, G]`` (1 at the start of training).

        Args:
            lst: ``[B, 2, s, s]`` standardised LST and its valid share; ``N = s * s``.
            groups: per group ``[B, 2 * n, s, s]``, likewise.
            present: ``[B, 1, s, s]``, 0 where a cell of the thumbnail holds nothing: its key and value are zero.
        """
        features = [stem(group) for stem, group in zip(self.group_stems, groups, strict=True)]
        pooled = [feature.mean(dim=(2, 3)) for feature in [self.lst_stem(lst), *features]]
        gate = 2.0 * torch.sigmoid(self.gate(torch.cat(pooled, dim=1)))
        tokens = gated_sum(features, gate)
        tokens = tokens + self.position(tokens)
        return (self.key(tokens) * present).flatten(2), (self.value(tokens) * present).flatten(2), gate


class TileAttention(nn.Module):
    """Multi-head attention from the tokens of a tile to the scene: ``X + gamma * upsampled(attention)``."""

    def __init__(self, width: int, heads: int, pool: int) -> None:
        super().__init__()
        self.heads, self.pool = heads, pool
        self.query = nn.Conv2d(width, width, 1)
        self.project = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.tensor(GAMMA_START))

    def forward(self, features: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``features`` ``[B, C, T, T]``, ``k`` and ``v`` ``[B or 1, C, N]`` -> ``[B, C, T, T]``."""
        query = self.query(functional.avg_pool2d(features, self.pool))
        asked = self._split(query.flatten(2)).transpose(2, 3)
        scores = torch.matmul(asked, self._split(k)) * asked.shape[-1] ** -0.5
        found = torch.matmul(torch.softmax(scores, dim=-1), self._split(v).transpose(2, 3))
        found = found.transpose(2, 3).reshape(query.shape)
        found = functional.interpolate(self.project(found), scale_factor=float(self.pool), mode="bilinear")
        return features + self.gamma * found

    def _split(self, tokens: Tensor) -> Tensor:
        """``[B, C, N]`` -> ``[B, heads, C / heads, N]``."""
        return tokens.reshape(tokens.shape[0], self.heads, tokens.shape[1] // self.heads, tokens.shape[2])


def gated_sum(features: list[Tensor], gate: Tensor) -> Tensor:
    """Sum of the groups' features ``[B, C, H, W]``, each times its gate ``[B or 1, G]``."""
    stacked = torch.stack(features, dim=1)
    return (stacked * gate[:, :, None, None, None]).sum(dim=1)
