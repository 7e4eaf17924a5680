"""From the change ratios of coarse cells to the change ratios of HCRs, clip by clip. Training samples use this, too.

A clip is a rectangle of the fine grid given to DyNet as one sample. A coarse cell belongs to the clips that hold its
centre, and fills the slot it owns.
"""

import numpy as np

from thermoscale.arrays import BoolArray, FloatArray, IntArray, Network
from thermoscale.numerics.hcr import area_fractions
from thermoscale.numerics.triples import median_over_clips
from thermoscale.pipelines.iustfm_config import IustfmConfig
from thermoscale.pipelines.region import Region

BATCH_VALUES = 1 << 20
"""Inputs of DyNet made at once: 4 MB of float32, however many triples there are."""


def clip_cells(region: Region, clips: IntArray | None = None) -> BoolArray:
    """``[n_clips, n_cells]``: the centre of the cell's fine pixels lies in the clip (default: the region's clips)."""
    clips = region.clips if clips is None else clips
    rows, cols = np.nonzero(region.coarse_index >= 0)
    cells = region.coarse_index[rows, cols]
    counts = np.bincount(cells, minlength=region.slots.size)
    centres = np.full((2, region.slots.size), np.nan)
    for axis, position in zip(centres, (rows, cols), strict=True):
        total = np.bincount(cells, position + 0.5, region.slots.size)
        np.divide(total, counts, out=axis, where=counts > 0)
    corner, extent = clips[:, :2, None], clips[:, 2:, None]
    inside: BoolArray = np.logical_and.reduce((centres >= corner) & (centres < corner + extent), axis=1)
    return inside


def clip_hcr(region: Region, h_max: int, clips: IntArray | None = None) -> BoolArray:
    """``[n_clips, h_max]``: the HCR has a pixel in the clip (default: the region's clips)."""
    clips = region.clips if clips is None else clips
    present = np.zeros((len(clips), h_max), bool)
    for row, (top, left, height, width) in zip(present, clips, strict=True):
        labels = region.labels[top : top + height, left : left + width]
        row[np.unique(labels[labels >= 0])] = True
    return present


def clip_inputs(
    region: Region, alpha: FloatArray, m_max: int, *, cells: BoolArray | None = None
) -> tuple[FloatArray, BoolArray]:
    """DyNet's inputs for every triple and clip.

    Args:
        alpha: ``[n_triples, n_cells]`` change ratio of the coarse cells, NaN = not usable.
        m_max: slots of the network.
        cells: ``[n_clips, n_cells]`` from :func:`clip_cells`, which is the default.

    Returns:
        ``(alpha, valid)``, both ``[n_triples * n_clips, m_max]``, clips of one triple side by side; 0 where not valid.
    """
    cells = clip_cells(region) if cells is None else cells
    owners = np.flatnonzero(region.slots >= 0)
    slots = region.slots[owners]
    of_slot, in_clip = np.full((len(alpha), m_max), np.nan, np.float32), np.zeros((len(cells), m_max), bool)
    of_slot[:, slots], in_clip[:, slots] = alpha[:, owners], cells[:, owners]
    valid = in_clip & np.isfinite(of_slot)[:, None]
    values = np.where(valid, of_slot[:, None], np.float32(0))
    return values.reshape(-1, m_max), valid.reshape(-1, m_max)


def dynet_ratios(
    config: IustfmConfig,
    region: Region,
    dynet: Network,
    alpha: FloatArray,
    *,
    cells: BoolArray,
    hcr_present: BoolArray,
) -> FloatArray:
    """Change ratio of each HCR by DyNet, all clips of some triples in one batch, median over clips.

    Args:
        alpha: ``[n_triples, n_cells]``, NaN = not usable.
        cells, hcr_present: of the region's clips, from :func:`clip_cells` and :func:`clip_hcr`.

    Returns:
        ``[n_triples, n_hcr]``; NaN where no clip with a usable cell holds the HCR.
    """
    step = max(1, BATCH_VALUES // (len(cells) * config.m_max))
    answers = np.empty((len(cells), len(alpha), config.n_hcr), np.float32)
    for start in range(0, len(alpha), step):
        some = slice(start, start + step)
        inputs, valid = clip_inputs(region, alpha[some], config.m_max, cells=cells)
        present = np.tile(hcr_present, (len(alpha[some]), 1))
        by_clip = _ask_dynet(dynet, inputs, valid, present).reshape(-1, len(cells), config.h_max)
        answers[:, some] = by_clip[:, :, : config.n_hcr].swapaxes(0, 1)
    return median_over_clips(answers.reshape(len(cells), -1)).reshape(len(alpha), config.n_hcr)


def _ask_dynet(dynet: Network, inputs: FloatArray, valid: BoolArray, present: BoolArray) -> FloatArray:
    """``[B, h_max]``; samples without a usable cell or without an HCR never reach the network and are NaN."""
    answers = np.full(present.shape, np.nan, np.float32)
    asked = valid.any(axis=1) & present.any(axis=1)
    if asked.all():
        return dynet({"alpha": inputs, "valid": valid, "hcr_present": present})["alpha_hcr"]
    if asked.any():
        batch = {"alpha": inputs[asked], "valid": valid[asked], "hcr_present": present[asked]}
        answers[asked] = dynet(batch)["alpha_hcr"]
    return answers


def pooled_ratios(config: IustfmConfig, region: Region, alpha: FloatArray) -> FloatArray:
    """Change ratio of each HCR without a network: mean over the usable cells, weighted by the HCR's area share there.

    Args:
        alpha: ``[n_triples, n_cells]``, NaN = not usable.

    Returns:
        ``[n_triples, n_hcr]``; NaN where no usable cell holds the HCR.
    """
    shares = area_fractions(region.labels, region.coarse_index, region.slots.size, config.n_hcr).astype(np.float64)
    usable = np.isfinite(alpha)
    total = np.where(usable, alpha, 0.0) @ shares
    weight = usable.astype(np.float64) @ shares
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0).astype(np.float32)
