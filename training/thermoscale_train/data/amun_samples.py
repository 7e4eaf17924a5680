"""Training samples of AMUN: scenes as the served pipeline prepares them, and random crops of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs
from thermoscale.pipelines.amun import fine_to_coarse, prepare_tile_inputs, thumbnail
from thermoscale.pipelines.amun_config import AmunConfig
from thermoscale_train.config import AmunSamples
from thermoscale_train.models.views import Compass, View, behind_lst


@dataclass(frozen=True)
class AmunScene:
    """One scene, ready for the network. Images are padded with their edge, like the tiles of the pipeline.

    Attributes:
        coarse: ``[1, H, W]`` K interpolated. factors: ``[F, H, W]``. valid: ``[1 + F, H, W]``.
        truth: ``[1, H, W]`` K, NaN where there is none or in the padding.
        cells: ``[1, H, W]`` int64, coarse cell of each pixel, -1 in the padding.
        thumb, thumb_valid: ``[1 + F, 32, 32]``, of the whole scene.
        coarse_cells: ``[h * w]`` K, NaN where there is none.
    """

    coarse: Tensor
    factors: Tensor
    valid: Tensor
    truth: Tensor
    cells: Tensor
    thumb: Tensor
    thumb_valid: Tensor
    coarse_cells: Tensor


@dataclass(frozen=True)
class AmunBatch:
    """B crops, each with the context of its own scene; attributes of :class:`AmunScene` with a batch axis in front."""

    coarse: Tensor
    factors: Tensor
    valid: Tensor
    truth: Tensor
    cells: Tensor
    thumb: Tensor
    thumb_valid: Tensor
    coarse_cells: Tensor


def prepare_scenes(config: AmunConfig, pairs: Pairs, samples: AmunSamples) -> list[AmunScene]:
    """Every scene of ``pairs`` that has both a coarse value and a truth.

    Raises:
        InvalidInput: no such scene, or no fine scenes at all.
    """
    if pairs.fine is None:
        raise InvalidInput("pairs have no fine scenes: there is nothing to learn from")
    scenes = []
    for number, (coarse, fine) in enumerate(zip(pairs.coarse, pairs.fine, strict=True)):
        if np.isfinite(coarse).any() and np.isfinite(fine).any():
            factors = None if pairs.factors is None else pairs.factors[number]
            scenes.append(_prepare(config, coarse, fine, factors, samples))
    if not scenes:
        raise InvalidInput("no scene has both coarse and fine values")
    return scenes


def draw_batch(
    scenes: Sequence[AmunScene],
    size: int,
    samples: AmunSamples,
    multiple_px: int,
    rng: np.random.Generator,
    aspect: Compass | None = None,
) -> AmunBatch:
    """Random crops of random scenes, each turned and mirrored at random together with its thumbnail and its ``aspect``.

    Their corners are multiples of ``multiple_px``, as those of the served tiles are, so that the network sees coarse
    cells where it will see them.
    """
    chosen = rng.choice(len(scenes), size, replace=size > len(scenes))
    crops = [_crop(scenes[i], samples.crop_px, multiple_px, rng, aspect) for i in chosen]
    return AmunBatch(*(torch.stack(parts) for parts in zip(*crops, strict=True)))


def _prepare(config: AmunConfig, coarse: Array, fine: Array, factors: Array | None, samples: AmunSamples) -> AmunScene:
    coarse_fine, filled, valid = prepare_tile_inputs(config, coarse, factors)
    thumb, thumb_valid = thumbnail(config, coarse, factors)
    pads = [_padding(length, samples, config.multiple_px) for length in fine.shape]
    index = fine_to_coarse(config, coarse)[None].astype(np.int64)
    edge, nan = {"mode": "edge"}, {"mode": "constant", "constant_values": np.nan}
    outside = {"mode": "constant", "constant_values": -1}
    padded = [
        np.pad(image, [(0, 0), *pads], **how)
        for image, how in (
            (coarse_fine, edge),
            (filled, edge),
            (valid, edge),
            (fine[None].astype(np.float32), nan),
            (index, outside),
        )
    ]
    others = (thumb[0], thumb_valid[0], coarse.ravel())
    return AmunScene(*(torch.from_numpy(np.ascontiguousarray(array)) for array in (*padded, *others)))


def _padding(length: int, samples: AmunSamples, multiple_px: int) -> tuple[int, int]:
    """A margin on both sides, then enough for one crop and for whole pooling cells."""
    wanted = max(length + 2 * samples.margin_px, samples.crop_px)
    wanted = -(-wanted // multiple_px) * multiple_px
    return samples.margin_px, wanted - length - samples.margin_px


def _crop(
    scene: AmunScene, side: int, multiple_px: int, rng: np.random.Generator, aspect: Compass | None
) -> list[Tensor]:
    height, width = scene.coarse.shape[-2:]
    row, col = (multiple_px * int(rng.integers((length - side) // multiple_px + 1)) for length in (height, width))
    view = View(int(rng.integers(4)), bool(rng.integers(2)))
    window = (..., slice(row, row + side), slice(col, col + side))
    behind = behind_lst(aspect)
    return [
        view.of(scene.coarse[window]),
        view.of(scene.factors[window], aspect),
        view.of_valid(scene.valid[window], behind),
        view.of(scene.truth[window]),
        view.of(scene.cells[window]),
        view.of(scene.thumb, behind),
        view.of_valid(scene.thumb_valid, behind),
        scene.coarse_cells,
    ]
