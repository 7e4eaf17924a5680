"""From two fine scenes and a change ratio to the fine scene between them: one triple, any part of the grid.

:func:`assemble_triple` is the definition, written to be read. Whole scenes go through :mod:`iustfm_blocks`, which gives
the same answers faster and comes back here for every pixel it cannot decide.
"""

import numpy as np

from thermoscale.arrays import Array, BoolArray, FloatArray, Network
from thermoscale.numerics.change_ratio import (
    apply_transform,
    closed_form,
    lst_from_delta,
    usable_pixels,
    within_range,
)
from thermoscale.pipelines.flags import CLIPPED_TO_TRAINING_RANGE, FALLBACK_USED
from thermoscale.pipelines.iustfm_config import IustfmConfig, Range

NORMAL_IQR = 1.349
"""Interquartile range of a normal distribution with sigma 1."""


def assemble_triple(
    config: IustfmConfig,
    pre: FloatArray,
    post: FloatArray,
    alpha: FloatArray,
    *,
    baseline_k: float,
    bounds: tuple[float, float],
    mode: str,
    ratio_net: Network | None,
) -> tuple[FloatArray, Array]:
    """The target scene by one triple.

    Args:
        pre, post: ``[H, W]`` fine values, NaN = no data.
        alpha: ``[H, W]`` change ratio of each pixel's HCR, NaN = none.
        baseline_k: thermal distance of the triple's whole fine scenes.
        bounds: smallest and largest value of the triple's whole fine scenes; results further out than the guard's
            margin are dropped.
        mode: ``closed_form`` or ``rationet``.
        ratio_net: needed for ``rationet``.

    Returns:
        ``(lst, flags)``: ``[H, W]`` float32, NaN where a guard of the config forbids an answer, and flag bits 2
        and 4 uint8.
    """
    guards = config.guards.scaled(config.physical)
    usable = usable_pixels(pre, post, alpha, guards, baseline_k=baseline_k)
    lst, flags = np.full(pre.shape, np.nan, np.float32), np.zeros(pre.shape, np.uint8)
    pixels = pre[usable], post[usable], alpha[usable]
    if mode == "closed_form":
        values, bits = closed_form(*pixels), np.zeros(pixels[0].shape, np.uint8)
    else:
        assert ratio_net is not None
        values, bits = _by_ratio_net(config, *pixels, ratio_net)
    inside = within_range(values, *bounds, guards)
    lst[usable], flags[usable] = np.where(inside, values, np.nan), np.where(inside, bits, 0)
    return lst, flags


def _by_ratio_net(
    config: IustfmConfig, pre: FloatArray, post: FloatArray, alpha: FloatArray, ratio_net: Network
) -> tuple[FloatArray, Array]:
    """Values and flags of ``[n]`` usable pixels; the closed form where training saw no a2 of that sign.

    Outside its training range RatioNet keeps the difference from the closed form that it has at the range's edge: it
    would extrapolate wildly there, and the edge itself as an answer errs by kelvins near the pole.
    """
    distance, a2 = np.abs(post - pre), apply_transform(alpha, pre, post)
    near, known = clip_a2(config, a2)
    reach = np.clip(distance, *config.range_distance)
    values = np.full(pre.shape, np.nan, np.float32)
    values[~known] = closed_form(pre[~known], post[~known], alpha[~known])
    if known.any():
        inputs = {"distance": reach[known].astype(np.float32), "a2": near[known].astype(np.float32)}
        beyond = distance[known] / a2[known] - reach[known] / near[known]
        values[known] = lst_from_delta(pre[known], ratio_net(inputs)["delta"] + beyond)
    clipped = (near != a2) | (reach != distance)
    return values, np.where(known, np.where(clipped, CLIPPED_TO_TRAINING_RANGE, 0), FALLBACK_USED).astype(np.uint8)


def clip_a2(config: IustfmConfig, a2: FloatArray) -> tuple[FloatArray, BoolArray]:
    """``a2`` clipped to the training range of its own side of the pole, and where that side has a range."""
    sides: tuple[tuple[BoolArray, Range | None], ...] = (
        (a2 < 0, config.range_a2_negative),
        (a2 > 0, config.range_a2_positive),
    )
    clipped, known = a2.copy(), np.zeros(a2.shape, bool)
    for side, bounds in sides:
        if bounds is not None:
            clipped[side] = np.clip(a2[side], *bounds)
            known |= side
    return clipped, known


def calibrated_spread(iqr: FloatArray, count: Array, spread_factor: float) -> FloatArray:
    """1 sigma of the median over triples, from their interquartile range; NaN where fewer than two triples agree."""
    spread: FloatArray = iqr * np.float32(spread_factor / NORMAL_IQR)
    alone = count < 2
    if alone.any():
        spread[alone] = np.nan
    return spread
