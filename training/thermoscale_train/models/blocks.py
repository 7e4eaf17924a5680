"""The convolutional blocks of AMUN: convolution unit, FFRDB and the U-Net built on it.

Every layer is a function of a bounded neighbourhood and of fixed statistics: BatchNorm (eval mode when exported),
never Instance or Group normalisation, so that tiles can be cut anywhere.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

RESIDUAL_SCALE = 0.2  # METHODS 2, FFRDB


def conv_unit(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; same height and width, zeros outside."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class FFRDB(nn.Module):
    """Feature Fusion Residual Dense Block: 1x1 merge, densely connected 3x3 layers, 1x1 fusion, scaled residual."""

    def __init__(self, in_channels: int, out_channels: int, *, growth: int, layers: int = 4) -> None:
        super().__init__()
        self.merge = conv_unit(in_channels, out_channels, kernel=1)
        self.dense = nn.ModuleList(conv_unit(out_channels + i * growth, growth) for i in range(layers))
        self.fuse = nn.Conv2d(out_channels + layers * growth, out_channels, 1)

    def forward(self, *features: Tensor) -> Tensor:
        """Features ``[B, c_i, H, W]`` whose ``c_i`` sum to ``in_channels`` -> ``[B, out_channels, H, W]``."""
        merged: Tensor = self.merge(torch.cat(features, dim=1))
        grown = merged
        for layer in self.dense:
            grown = torch.cat([grown, layer(grown)], dim=1)
        fused: Tensor = self.fuse(grown)
        return merged + RESIDUAL_SCALE * fused


class UNet(nn.Module):
    """U-Net whose decoder joins each skip with an FFRDB; level ``i`` has ``width * 2**i`` channels."""

    def __init__(self, width: int, depth: int, *, growth: int) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(conv_unit(c, c) for c in channels[:-1])
        self.down = nn.AvgPool2d(2)
        self.widen = nn.ModuleList(conv_unit(a, b, kernel=1) for a, b in pairwise(channels))
        self.bottom = nn.Sequential(conv_unit(channels[-1], channels[-1]), conv_unit(channels[-1], channels[-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, kernel_size=2, stride=2) for a, b in pairwise(channels))
        self.join = nn.ModuleList(FFRDB(2 * c, c, growth=growth) for c in channels[:-1])

    def forward(self, features: Tensor) -> Tensor:
        """``[B, width, H, W]`` -> the same shape; H and W are multiples of ``2**depth``."""
        skips = []
        for encode, widen in zip(self.encoder, self.widen, strict=True):
            features = encode(features)
            skips.append(features)
            features = widen(self.down(features))
        features = self.bottom(features)
        for up, join, skip in zip(reversed(self.up), reversed(self.join), reversed(skips), strict=True):
            features = join(up(features), skip)
        return features
