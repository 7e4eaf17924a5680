"""Fit AMUN on pairs."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs
from thermoscale.numerics.normalize import fit_channel_stats
from thermoscale.pipelines.amun_config import AmunConfig
from thermoscale_train import losses
from thermoscale_train.checkpoint import AmunCheckpoint
from thermoscale_train.config import AmunLoss, AmunSamples, AmunSettings, TrainingSettings, settings_to_json
from thermoscale_train.data.amun_samples import AmunBatch, AmunScene, draw_batch, prepare_scenes
from thermoscale_train.data.factor_groups import aspect_channels, factor_groups
from thermoscale_train.devices import torch_device
from thermoscale_train.known_ground import scene_digests
from thermoscale_train.loop import OnScore, Outcome, train
from thermoscale_train.models.amun import THUMBNAIL_PX, Amun, AmunNetConfig
from thermoscale_train.models.receptive import halo_px
from thermoscale_train.models.scene_bias import scene_moments

GOLDEN_CELLS = 16
SPREAD_WEIGHT = 0.1
"""Of the loss of the spread, whose gradient reaches its own head only but counts in the clipping of all gradients."""
CALIBRATION_PIXELS = 4096
"""Of each validation scene, so that every scene weighs the same."""


def fit_amun(
    pairs_train: Pairs,
    pairs_valid: Pairs,
    settings: AmunSettings,
    *,
    seed: int,
    progress: bool = False,
    resume: Path | None = None,
    sky: str = "clear-sky",
    on_score: OnScore | None = None,
    device: str = "auto",
) -> AmunCheckpoint:
    """Train on the scenes of ``pairs_train``; those of ``pairs_valid`` choose the best weights and scale the spread.

    Then both are training scenes: the bias of the coarse sensor is fitted to all of them, and the network trains some
    last steps (``settings.refit``). The metrics and the mean spread are those before, on scenes unseen.

    Deterministic for a seed and a number of threads, on the CPU. On CUDA the batches are the same, but some sums have
    no fixed order.

    Args:
        resume: file that keeps the state of an unfinished run.
        on_score: told the RMSE on ``pairs_valid``, without what no scene foretells of its mean, at every evaluation;
            may end the run.
        device: where the steps are computed, one of :data:`thermoscale_train.devices.DEVICES`.

    Raises:
        InvalidInput: no such device, no truth, a scale factor that is not whole, different factors, or sizes that leave
            no tile.
    """
    place = torch_device(device)
    torch.manual_seed(seed)
    structure = _structure(pairs_train, settings)
    config = _pipeline_config(pairs_train, pairs_valid, structure, settings)
    samples = _rounded_samples(settings.samples, structure.multiple_px)
    known = prepare_scenes(config, pairs_train, samples)
    judged = prepare_scenes(config, pairs_valid, samples)
    network = Amun(_with_detail_scale(structure, known))
    network.scene_bias.fit(*_scene_means(known))
    scenes, scored = (_on(place, _without_surprise(network, part)) for part in (known, judged))

    def loss_of(drawn: list[AmunScene], step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        batch = draw_batch(drawn, settings.training.batch, samples, structure.multiple_px, rng, structure.aspect)
        return _loss(network, batch, settings.loss, samples.margin_px, config.scale_factor**2)

    outcome = train(
        network.to(place),
        lambda step: loss_of(scenes, step),
        lambda: mean_rmse(network, scored),
        settings.training,
        name="AMUN",
        progress=progress,
        resume=resume,
        on_score=on_score,
    )
    _calibrate(network.cpu(), judged, seed)
    with torch.no_grad():
        rmse = mean_rmse(network, judged)
    both = [*known, *judged]
    network.scene_bias.fit(*_scene_means(both))
    if settings.refit.steps:
        last = _on(place, _without_surprise(network, both))
        with torch.no_grad():
            log_spread = mean_log_spread(network, judged)
        train(
            network.to(place),
            lambda step: loss_of(last, settings.training.steps + step),
            lambda: mean_rmse(network, last),
            _refit_settings(settings),
            name="AMUN, all scenes",
            progress=progress,
            resume=resume and resume.with_suffix(".refit.pt"),
        )
        with torch.no_grad():  # a network that trains on a scene is sure of it, and soon of others, too
            network.spread_factor.mul_(math.exp(log_spread - mean_log_spread(network.cpu(), judged)))
    return AmunCheckpoint(
        config=config,
        network=network.config,
        state=network.state_dict(),
        golden=_golden(pairs_valid, config),
        training={**_training_record(pairs_train, pairs_valid, settings, seed, outcome), "device": place.type},
        metrics={"valid": {"rmse": rmse, "rmse_detail": outcome.best_score, "rmse_bicubic": _bicubic_rmse(judged)}},
        sky=sky,
    )


def _refit_settings(settings: AmunSettings) -> TrainingSettings:
    """Scored once, at the end: no scene is left that could choose."""
    steps, rate = settings.refit.steps, settings.refit.learning_rate
    return replace(settings.training, steps=steps, learning_rate=rate, evaluate_every=steps)


def mean_rmse(network: Amun, scenes: list[AmunScene]) -> float:
    """Mean over the scenes of each one's RMSE, K."""
    errors = []
    for scene in scenes:
        lst, _ = _answer(network, scene)
        errors.append(_rmse(lst, scene.truth))
    return float(np.mean(errors))


def mean_log_spread(network: Amun, scenes: list[AmunScene]) -> float:
    """Mean over the scenes of each one's mean logarithm of the spread, K."""
    return float(np.mean([float(_answer(network, scene)[1].log().mean()) for scene in scenes]))


def _answer(network: Amun, scene: AmunScene) -> tuple[Tensor, Tensor]:
    """LST and spread ``[1, H, W]`` of a whole scene."""
    context = network.context(scene.thumb[None], scene.thumb_valid[None])
    factors = scene.factors[None] if network.config.n_factors else None
    lst, spread = network(scene.coarse[None], factors, scene.valid[None], *context)
    return lst[0], spread[0]


def _calibrate(network: Amun, scenes: list[AmunScene], seed: int) -> None:
    """Make the spread one standard deviation on ``scenes``, which the training did not see."""
    draw = np.random.default_rng(seed)
    errors, spreads = [], []
    with torch.no_grad():
        for scene in scenes:
            lst, spread = _answer(network, scene)
            known = torch.nonzero(torch.isfinite(scene.truth).flatten())[:, 0]
            chosen = known[torch.from_numpy(draw.integers(len(known), size=CALIBRATION_PIXELS))]
            errors.append((lst - scene.truth).flatten()[chosen])
            spreads.append(spread.flatten()[chosen])
        network.calibrate(torch.cat(errors), torch.cat(spreads))


def _loss(network: Amun, batch: AmunBatch, weights: AmunLoss, margin_px: int, pixels_per_cell: int) -> Tensor:
    context = network.context(batch.thumb, batch.thumb_valid)
    factors = batch.factors if network.config.n_factors else None
    inner = (slice(None), 0, slice(margin_px, -margin_px or None), slice(margin_px, -margin_px or None))
    answers = network.detail(batch.coarse, factors, batch.valid, *context)
    lst, spread, truth = (image[inner] for image in (*answers, batch.truth))
    known = torch.isfinite(truth)
    loss = losses.huber(lst, truth, known, weights.huber_k)
    loss = loss + SPREAD_WEIGHT * losses.laplace(lst.detach() - truth, spread, known)
    if weights.closure_weight == 0.0:
        return loss
    closure = losses.closure(lst, batch.cells[inner], batch.coarse_cells, pixels_per_cell)
    return loss + weights.closure_weight * closure


def _structure(pairs: Pairs, settings: AmunSettings) -> AmunNetConfig:
    names = pairs.factor_names or ()
    scale_factor = _scale_factor(pairs)
    factors = None if pairs.factors is None else fit_channel_stats(pairs.factors.swapaxes(0, 1))
    sizes = settings.network
    patch = max(side for side in range(1, sizes.max_patch_px + 1) if scale_factor % side == 0)
    return AmunNetConfig(
        groups=factor_groups(names),
        factor_offset=() if factors is None else tuple(factors.offset.tolist()),
        factor_scale=() if factors is None else tuple(factors.scale.tolist()),
        detail_scale=1.0,
        width=sizes.width,
        depth=sizes.depth,
        growth=sizes.growth,
        heads=sizes.heads,
        pool=sizes.token_patches * patch,
        patch_px=patch,
        aspect=aspect_channels(names),
    )


def _with_detail_scale(structure: AmunNetConfig, scenes: list[AmunScene]) -> AmunNetConfig:
    """The network works in units of what interpolation misses of the detail of the training scenes."""
    missed = float(np.nanmedian([float(np.nanstd((scene.truth - scene.coarse).numpy())) for scene in scenes]))
    return AmunNetConfig(**{**vars(structure), "detail_scale": max(missed, 0.1)})


def _pipeline_config(train: Pairs, valid: Pairs, structure: AmunNetConfig, settings: AmunSettings) -> AmunConfig:
    scale_factor = _scale_factor(train)
    if (valid.factor_names, valid.scale_factor) != (train.factor_names, scale_factor):
        raise InvalidInput(
            f"pairs to train with have factors {train.factor_names} and scale factor {scale_factor:g}, "
            f"pairs to validate with {valid.factor_names} and {valid.scale_factor:g}"
        )
    return AmunConfig(
        factor_names=train.factor_names or (),
        factor_units=train.factor_units or (),
        scale_factor=scale_factor,
        halo_px=halo_px(structure),
        multiple_px=structure.multiple_px,
        context_px=train.fine_shape,
        thumbnail_px=THUMBNAIL_PX,
        tile_px=_rounded_down(settings.tiles.tile_px, structure.multiple_px),
        overlap_px=_rounded_down(settings.tiles.overlap_px, structure.multiple_px),
    )


def _scale_factor(pairs: Pairs) -> int:
    if pairs.scale_factor != round(pairs.scale_factor):
        raise InvalidInput(f"scale factor {pairs.scale_factor:g} is not whole; AMUN needs whole coarse pixels")
    return int(pairs.scale_factor)


def _rounded_samples(samples: AmunSamples, multiple_px: int) -> AmunSamples:
    """Crops whose corners lie where tiles may lie: a patch always covers the same part of its cell."""
    crop_px, margin_px = (_rounded_down(px, multiple_px) for px in (samples.crop_px, samples.margin_px))
    if crop_px <= 2 * margin_px:
        raise InvalidInput(
            f"crop_px {samples.crop_px} and margin_px {samples.margin_px} are {crop_px} and {margin_px} in multiples "
            f"of {multiple_px}, and leave nothing to score; needed crop_px > 2 * margin_px"
        )
    return AmunSamples(crop_px, margin_px)


def _rounded_down(px: int, multiple_px: int) -> int:
    return px // multiple_px * multiple_px


def _scene_means(scenes: list[AmunScene]) -> tuple[Tensor, Tensor]:
    """Moments of each scene, and K by which its coarse image misses the truth in the mean."""
    thumbs, shares = (torch.stack([getattr(scene, name) for scene in scenes]) for name in ("thumb", "thumb_valid"))
    missed = torch.stack([(scene.truth - scene.coarse).nanmean() for scene in scenes])
    return scene_moments(thumbs, shares), missed


def _on(place: torch.device, scenes: list[AmunScene]) -> list[AmunScene]:
    return [AmunScene(**{name: image.to(place) for name, image in vars(scene).items()}) for scene in scenes]


def _without_surprise(network: Amun, scenes: list[AmunScene]) -> list[AmunScene]:
    """The scenes with what their bias does not foretell of their mean taken off their truth.

    Kelvins by which a whole scene is off teach nothing of its detail, and weigh more than all detail: in the loss,
    and in the score, where they would choose weights by chance.
    """
    moments, missed = _scene_means(scenes)
    surprise = missed - network.scene_bias(moments)[:, 0]
    return [replace(scene, truth=scene.truth - off) for scene, off in zip(scenes, surprise, strict=True)]


def _golden(pairs: Pairs, config: AmunConfig) -> dict[str, Array]:
    """The first scene's upper left corner that holds most coarse values, at most 16 x 16 cells."""
    coarse = pairs.coarse[0]
    h, w = (min(GOLDEN_CELLS, length) for length in coarse.shape)
    corners = [(r, c) for r in range(0, coarse.shape[0] - h + 1, h) for c in range(0, coarse.shape[1] - w + 1, w)]
    row, col = max(corners, key=lambda at: np.isfinite(coarse[at[0] : at[0] + h, at[1] : at[1] + w]).sum())
    golden: dict[str, Array] = {"coarse": coarse[row : row + h, col : col + w].copy()}
    if pairs.factors is not None:
        s = config.scale_factor
        window = (slice(row * s, (row + h) * s), slice(col * s, (col + w) * s))
        golden["factors"] = pairs.factors[0][:, window[0], window[1]].copy()
    return golden


def _training_record(
    train_pairs: Pairs, valid_pairs: Pairs, settings: AmunSettings, seed: int, outcome: Outcome
) -> dict[str, object]:
    return {
        "settings": settings_to_json(settings),
        "seed": seed,
        "train_ids": list(train_pairs.id or range(len(train_pairs))),
        "valid_ids": list(valid_pairs.id or range(len(valid_pairs))),
        "train_scenes": list(scene_digests(train_pairs)),
        "valid_scenes": list(scene_digests(valid_pairs)),
        "best_step": outcome.best_step,
        "history": [list(row) for row in outcome.history],
    }


def _bicubic_rmse(scenes: list[AmunScene]) -> float:
    return float(np.mean([_rmse(scene.coarse, scene.truth) for scene in scenes]))


def _rmse(lst: Tensor, truth: Tensor) -> float:
    valid = torch.isfinite(truth)
    return float((lst[valid] - truth[valid]).double().square().mean().sqrt())
