"""AMUN: downscaling network with a scene context in a graph of its own (METHODS section 2).

Kelvin in, kelvin out: the training statistics are buffers of the graph. The untrained network returns its coarse input.

The network sees each LST relative to its neighbourhood, so that 10 K more everywhere give 10 K more everywhere: few
scenes teach what temperature does to detail, and a network told of it learns the scenes by heart. What the level says
of the whole scene, the bias of the coarse sensor, is a linear function of the scene (:class:`SceneBias`).
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermoscale.errors import InvalidInput
from thermoscale_train.models.attention import SceneContext, TileAttention, gated_sum
from thermoscale_train.models.blocks import FFRDB, UNet, conv_unit
from thermoscale_train.models.scene_bias import SceneBias, scene_moments
from thermoscale_train.models.views import VIEWS, Compass, behind_lst

THUMBNAIL_PX = 32
ONE_SIGMA = 0.6827
MAX_LOG_SPREAD = 4.0
LEVEL_PATCHES = 2
"""The level of a patch is the mean of the patches up to this many further, to every side."""


@dataclass(frozen=True)
class AmunNetConfig:
    """Structure and fixed statistics of one network.

    Attributes:
        groups: factor channels of each group, by index; empty for a network without factors, which then attends to LST.
        factor_offset, factor_scale: training statistics of each factor, in its unit.
        aspect: channels of the aspect's sine and cosine among the factors, which a turned view turns.
        detail_scale: typical size of (fine - interpolated coarse), K; the unit in which the network sees and answers.
        width: channels at full resolution. depth: levels of the U-Net. growth: of the dense blocks.
        heads: of the attention. pool: fine pixels per side of a token.
        patch_px: fine pixels per side of the square that one position of the features stands for. Convolutions at
            ``patch_px`` 4 see four times as far as at 1, and cost a sixteenth for the same ``width``.
    """

    groups: tuple[tuple[int, ...], ...]
    factor_offset: tuple[float, ...]
    factor_scale: tuple[float, ...]
    detail_scale: float
    width: int = 32
    depth: int = 3
    growth: int = 16
    heads: int = 4
    pool: int = 8
    patch_px: int = 1
    aspect: Compass | None = None

    def __post_init__(self) -> None:
        if self.patch_px < 1 or self.pool % self.patch_px:
            raise InvalidInput(f"pool {self.pool} is not a multiple of patch_px {self.patch_px}")
        if self.width % self.heads:
            raise InvalidInput(f"width {self.width} is not a multiple of heads {self.heads}")
        if sorted(i for group in self.groups for i in group) != list(range(self.n_factors)):
            raise InvalidInput(f"groups {self.groups} do not hold each of {self.n_factors} factors exactly once")

    @property
    def n_factors(self) -> int:
        return len(self.factor_offset)

    @property
    def multiple_px(self) -> int:
        """Tile corners and sides are multiples of this many fine pixels."""
        return math.lcm(self.patch_px * 2**self.depth, self.pool)


class Amun(nn.Module):
    """The two graphs of AMUN in one module: :meth:`context` for a scene, :meth:`forward` for its tiles.

    With several ``views`` the same weights see every tile turned and mirrored, and the answer is the mean: less error
    for as many times the work. Training needs one.
    """

    factor_offset: Tensor
    factor_scale: Tensor
    spread_factor: Tensor
    """Makes ``spread`` one standard deviation on scenes that the training did not see (:meth:`calibrate`)."""

    def __init__(self, config: AmunNetConfig, views: int = 1) -> None:
        super().__init__()
        self.config, self.views = config, VIEWS[:views]
        self.channels = config.groups or ((0,),)  # channels of the group inputs; without factors: LST itself
        sizes = [len(group) for group in self.channels]
        self.register_buffer("factor_offset", torch.tensor(config.factor_offset).reshape(1, -1, 1, 1))
        self.register_buffer("factor_scale", torch.tensor(config.factor_scale).reshape(1, -1, 1, 1))
        self.scene_context = SceneContext(config.width, sizes)
        self.scene_bias = SceneBias(config.n_factors)
        patch = config.patch_px**2
        self.lst_stem = conv_unit(2 * patch, config.width)
        self.group_stems = nn.ModuleList(conv_unit(2 * patch * n, config.width) for n in sizes)
        self.attention = TileAttention(config.width, config.heads, config.pool // config.patch_px)
        self.merge = FFRDB(2 * config.width, config.width, growth=config.growth)
        self.unet = UNet(config.width, config.depth, growth=config.growth)
        self.head, self.spread_head = nn.Conv2d(config.width, patch, 1), nn.Conv2d(config.width, patch, 1)
        for parameter in (*self.head.parameters(), *self.spread_head.parameters()):
            nn.init.zeros_(parameter)
        self.register_buffer("spread_factor", torch.ones(()))

    def context(self, thumb: Tensor, thumb_valid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Thumbnail ``[B, 1 + F, 32, 32]`` in physical units and its valid shares; with V > 1 views, B is 1.

        Returns:
            k and v ``[V * B, C, 1024]``, gate ``[V * B, G]``, bias ``[B, 1]`` K.
        """
        moments = scene_moments(thumb, thumb_valid)
        aspect = behind_lst(self.config.aspect)
        thumbs = [(view.of(thumb, aspect), view.of_valid(thumb_valid, aspect)) for view in self.views]
        seen = [self._seen_context(*images, moments) for images in thumbs]
        k, v, gate = (torch.cat(parts) for parts in zip(*seen, strict=True))
        return k, v, gate, self.scene_bias(moments)

    def _seen_context(self, thumb: Tensor, thumb_valid: Tensor, moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k, v and gate of one view."""
        present = (thumb_valid > 0).to(thumb.dtype)
        lst = (thumb[:, :1] - moments[:, :1, None, None]) / self.config.detail_scale * present[:, :1]
        factors = self._standardise(thumb[:, 1:]) * present[:, 1:]
        lst, groups = self._group(lst, factors, thumb_valid)
        context: tuple[Tensor, Tensor, Tensor] = self.scene_context(lst, groups, present.amax(dim=1, keepdim=True))
        return context

    def forward(
        self, coarse: Tensor, factors: Tensor | None, valid: Tensor, k: Tensor, v: Tensor, gate: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One batch of tiles.

        Args:
            coarse: ``[B, 1, T, T]`` coarse LST interpolated to the fine grid, K, without NaN.
            factors: ``[B, F, T, T]`` in their units, anything where not valid; None when F is 0.
            valid: ``[B, 1 + F, T, T]`` 1 where usable, else 0.
            k, v, gate, bias: from :meth:`context` of one scene; with one view also of B scenes.

        Returns:
            LST and its spread (one standard deviation), K, both ``[B, 1, T, T]``. Pixels closer to the border than
            the receptive radius depend on the cut.
        """
        contexts = zip(*(part.chunk(len(self.views)) for part in (k, v, gate)), strict=True)
        answers = []
        for view, (seen_k, seen_v, seen_gate) in zip(self.views, contexts, strict=True):
            seen = None if factors is None else view.of(factors, self.config.aspect)
            seen_valid = view.of_valid(valid, behind_lst(self.config.aspect))
            answer = self.detail(view.of(coarse), seen, seen_valid, seen_k, seen_v, seen_gate, bias)
            answers.append([view.undo(image) for image in answer])
        lst, spread = (sum(images[1:], images[0]) / len(images) for images in zip(*answers, strict=True))
        return lst, self.spread_factor * (spread.square() + self.scene_bias.surprise.square()).sqrt()

    def detail(
        self, coarse: Tensor, factors: Tensor | None, valid: Tensor, k: Tensor, v: Tensor, gate: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """LST and the spread of its detail alone, uncalibrated, K, in one view; arguments as for :meth:`forward`.

        The spread learns from what the features are and never changes them.
        """
        patches = partial(functional.pixel_unshuffle, downscale_factor=self.config.patch_px)
        lst = (coarse - self._level(coarse)) / self.config.detail_scale
        standard = lst[:, :0] if factors is None else self._standardise(factors) * valid[:, 1:]
        lst, groups = self._group(lst, standard, valid)
        fused = gated_sum([stem(patches(x)) for stem, x in zip(self.group_stems, groups, strict=True)], gate)
        attended = self.attention(self.lst_stem(patches(lst)), k, v)
        features = self.unet(self.merge(attended, fused))
        answers = (self.head(features), self.spread_head(features.detach()).clamp(-MAX_LOG_SPREAD, MAX_LOG_SPREAD))
        detail, log_spread = (functional.pixel_shuffle(answer, self.config.patch_px) for answer in answers)
        scale = self.config.detail_scale
        return coarse + bias[:, :, None, None] + scale * detail, scale * log_spread.exp()

    def calibrate(self, errors: Tensor, spreads: Tensor) -> None:
        """Set :attr:`spread_factor` from errors and spreads ``[n]`` K of scenes that the training did not see."""
        self.spread_factor.mul_(torch.quantile(errors.abs() / spreads, ONE_SIGMA))

    def _level(self, coarse: Tensor) -> Tensor:
        """Mean LST round each patch, the same for all its pixels, K."""
        patch, side = self.config.patch_px, 2 * LEVEL_PATCHES + 1
        means = functional.avg_pool2d(coarse, patch)
        means = functional.avg_pool2d(means, side, 1, padding=LEVEL_PATCHES, count_include_pad=False)
        return functional.interpolate(means, scale_factor=float(patch), mode="nearest")

    def _standardise(self, factors: Tensor) -> Tensor:
        return (factors - self.factor_offset) / self.factor_scale

    def _group(self, lst: Tensor, factors: Tensor, valid: Tensor) -> tuple[Tensor, list[Tensor]]:
        """LST with its validity, and each group's channels with theirs."""
        with_valid = torch.cat([lst, valid[:, :1]], dim=1)
        if not self.config.groups:
            return with_valid, [with_valid]
        groups = []
        for group in self.channels:
            values = [factors[:, i : i + 1] for i in group]
            validity = [valid[:, 1 + i : 2 + i] for i in group]
            groups.append(torch.cat(values + validity, dim=1))
        return with_valid, groups
