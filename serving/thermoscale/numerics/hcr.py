"""Homogeneous change regions: from pixels to one value per HCR and back.

``labels`` is ``[H, W]`` int32, the HCR of every fine pixel, -1 = none. NaN pixels take no part in a
mean; an HCR without a valid pixel is NaN. Sums run in float64.
"""

from typing import Literal

import numpy as np

from thermoscale.arrays import Array, FloatArray, IntArray
from thermoscale.errors import InvalidInput

AlphaDefinition = Literal["ratio_of_sums", "mean_of_ratios"]


def mean_per_hcr(values: Array, labels: IntArray, n_hcr: int) -> FloatArray:
    """Mean of ``values [H, W]`` over the valid pixels of every HCR: ``[n_hcr]``."""
    total, count = _sums(values, labels, n_hcr)
    return _quotient(total, count).astype(np.float32)


def paint_hcr(values: Array, labels: IntArray) -> FloatArray:
    """Give every pixel the value of its HCR: ``[n_hcr]`` to ``[H, W]``, NaN where ``labels`` is -1."""
    _require_labels(labels, len(values))
    with_none = np.append(np.asarray(values, dtype=np.float32), np.float32(np.nan))
    painted: FloatArray = with_none[labels]  # label -1 picks the NaN at the end
    return painted


def hcr_alpha(
    pre: Array,
    target: Array,
    post: Array,
    labels: IntArray,
    n_hcr: int,
    definition: AlphaDefinition = "ratio_of_sums",
) -> FloatArray:
    """Change ratio of every HCR from three fine scenes ``[H, W]``: ``[n_hcr]``, NaN where it does not exist.

    Args:
        definition: ``ratio_of_sums`` is sum(post - target) / sum(target - pre) over the pixels valid on all
            three dates; ``mean_of_ratios`` is the mean of the pixels' own ratios, where pixels that did
            not change from pre to target have none.

    Raises:
        InvalidInput: another definition.
    """
    after = np.asarray(post, dtype=np.float64) - target
    before = np.asarray(target, dtype=np.float64) - pre
    if definition == "mean_of_ratios":
        return mean_per_hcr(_quotient(after, before), labels, n_hcr)
    if definition != "ratio_of_sums":
        raise InvalidInput(f"definition is {definition!r}, needed ratio_of_sums or mean_of_ratios")
    complete = ~np.isnan(after) & ~np.isnan(before)
    numerator, _ = _sums(np.where(complete, after, np.nan), labels, n_hcr)
    denominator, _ = _sums(np.where(complete, before, np.nan), labels, n_hcr)
    return _quotient(numerator, denominator).astype(np.float32)


def area_fractions(labels: IntArray, coarse_index: IntArray, n_cells: int, n_hcr: int) -> FloatArray:
    """Share of each HCR in the labelled fine pixels of each coarse cell.

    Args:
        coarse_index: ``[H, W]``, the coarse cell of every fine pixel, -1 = none.

    Returns:
        ``[n_cells, n_hcr]``; rows sum to 1, or are all 0 where a cell has no labelled pixel.
    """
    _require_labels(labels, n_hcr)
    linked = (labels >= 0) & (coarse_index >= 0)
    pair = coarse_index[linked].astype(np.int64) * n_hcr + labels[linked]
    counts = np.bincount(pair, minlength=n_cells * n_hcr).reshape(n_cells, n_hcr)
    shares: FloatArray = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return shares


def _sums(values: Array, labels: IntArray, n_hcr: int) -> tuple[Array, Array]:
    """Sum and number of the valid pixels of every HCR, both ``[n_hcr]``."""
    _require_labels(labels, n_hcr)
    valid = (labels >= 0) & ~np.isnan(values)
    total = np.bincount(labels[valid], weights=values[valid], minlength=n_hcr)
    return total, np.bincount(labels[valid], minlength=n_hcr)


def _quotient(numerator: Array, denominator: Array) -> Array:
    """float64 quotient, NaN where the denominator is 0 or the quotient leaves float32."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = numerator / denominator
    return np.where(np.abs(quotient) <= np.finfo(np.float32).max, quotient, np.nan)


def _require_labels(labels: IntArray, n_hcr: int) -> None:
    if labels.dtype.kind not in "iu":
        raise InvalidInput(f"labels have type {labels.dtype}, needed int32")
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (-1, -1)
    if low < -1 or high >= n_hcr:
        raise InvalidInput(f"labels range from {low} to {high}, needed -1 (none) or 0 to {n_hcr - 1}")
