"""The region of an I-USTFM bundle from a series: HCRs, slots, clips and the stored library."""

import warnings
from typing import Any

import numpy as np

from thermoscale.arrays import QUANTITIES, BoolArray, FloatArray, IntArray
from thermoscale.formats import Series
from thermoscale.numerics.grids import cell_counts
from thermoscale.pipelines.iustfm import Region, encode_library
from thermoscale_train.config import RegionSettings
from thermoscale_train.data.hcr_clusters import Regroup, fit_hcr

CELLS_PER_CLIP = 32
"""The paper's clips are 8 cells wide; an HCR seen through all its cells is steadier (training/docs/dynet.md)."""
LIBRARY_STEP_K = 0.01


def library_step(quantity: str) -> float:
    """Unit of ``quantity`` per code of the stored library: 0.01 K, and what stands for it."""
    return LIBRARY_STEP_K * QUANTITIES[quantity].kelvin


def make_region(series: Series, settings: RegionSettings, m_max: int, seed: int, h_max: int = 256) -> Region:
    """The region of all fine dates of ``series``. Warns of HCRs that no slot covers.

    Args:
        m_max: slots. With more coarse cells than that, ``seed`` draws them so that they cover as many HCRs as they can.
        h_max: HCRs at most, where splitting makes more.

    Raises:
        InvalidInput: values the library cannot store.
        Undetermined: no HCR can be found.
    """
    order = np.argsort(series.fine_time)
    times = tuple(series.fine_time[i] for i in order)
    labels = hcr_labels(series.fine[order], settings, seed, h_max)
    step = library_step(series.quantity)
    region = Region(
        labels=labels,
        coarse_index=series.coarse_index,
        slots=_slots(cells_of_hcr(labels, series.coarse_index, series.coarse[0].size), m_max, seed),
        clips=served_clips(fine_shape(series), clip_side(series, settings)),
        library_time=times,
        library_coarse=encode_library(np.stack([series.coarse_at(time) for time in times]), step),
        library_fine=encode_library(series.fine[order], step),
    )
    facts = slot_facts(region, seed)
    if facts["slots"]["hcr_uncovered"]:
        warnings.warn(
            f"{facts['slots']['used']} of {facts['slots']['cells']} coarse cells have a slot, and none of them holds "
            f"any of the HCRs {facts['slots']['hcr_uncovered']}: DyNet can only guess these; raise m_max",
            stacklevel=2,
        )
    return region


def hcr_labels(fine: FloatArray, settings: RegionSettings, seed: int, h_max: int = 256) -> IntArray:
    """``[H, W]`` HCRs as ``settings`` want them; dates that are judged later must not be in ``fine``."""
    regroup = Regroup(settings.merge_closer, settings.split_wider, h_max)
    return fit_hcr(fine, settings.n_hcr, seed, regroup)


def slot_facts(region: Region, seed: int) -> dict[str, Any]:
    """For the training record: cells that hold an HCR, how many have a slot, who drew them, HCRs without a slot."""
    held = cells_of_hcr(region.labels, region.coarse_index, region.slots.size)
    uncovered = np.flatnonzero(~held[region.slots >= 0].any(axis=0)).tolist()
    cells, used = int(held.any(axis=1).sum()), int((region.slots >= 0).sum())
    return {"slots": {"cells": cells, "used": used, "seed": seed, "hcr_uncovered": uncovered}}


def cells_of_hcr(labels: IntArray, coarse_index: IntArray, n_cells: int) -> BoolArray:
    """``[n_cells, n_hcr]``: the coarse cell holds a pixel of the HCR."""
    linked = (labels >= 0) & (coarse_index >= 0)
    held = np.zeros((n_cells, int(labels.max()) + 1), bool)
    held[coarse_index[linked], labels[linked]] = True
    return held


def fine_shape(series: Series) -> tuple[int, int]:
    """(H, W)."""
    return series.fine.shape[1], series.fine.shape[2]


def clip_side(series: Series, settings: RegionSettings) -> int:
    """Side of a clip in fine pixels: as set, or 32 coarse cells."""
    if settings.clip_px:
        return settings.clip_px
    counts = cell_counts(series.coarse_index, (series.coarse.shape[1], series.coarse.shape[2]))
    return round(CELLS_PER_CLIP * float(np.sqrt(np.median(counts[counts > 0]))))


def served_clips(shape: tuple[int, int], clip_px: int) -> IntArray:
    """``[n, 4]`` clips that cover the scene, overlapping by half, the last ones moved back to its edge."""
    side = [min(clip_px, length) for length in shape]
    rows, cols = ([*range(0, n - s, max(1, s // 2)), n - s] for n, s in zip(shape, side, strict=True))
    return np.array([(row, col, *side) for row in rows for col in cols], np.int32)


def _slots(held: BoolArray, m_max: int, seed: int) -> IntArray:
    """``[n_cells]`` one slot for every coarse cell that holds an HCR; where they are too many, for a draw of them."""
    owners = np.flatnonzero(held.any(axis=1))
    if len(owners) > m_max:
        cover = _cover(held, m_max)
        others = np.setdiff1d(owners, cover)
        drawn = np.random.default_rng(seed).choice(others, m_max - len(cover), replace=False)
        owners = np.sort(np.concatenate([cover, drawn]))
    slots = np.full(len(held), -1, np.int32)
    slots[owners] = np.arange(len(owners), dtype=np.int32)
    return slots


def _cover(held: BoolArray, m_max: int) -> IntArray:
    """At most ``m_max`` cells that together hold every HCR, or many: always the cell with most HCRs still missing.

    Each cell taken adds one HCR or more, so ``m_max`` of at least the number of HCRs always suffices.
    """
    missing = held.any(axis=0)
    chosen: list[int] = []
    while missing.any() and len(chosen) < m_max:
        chosen.append(int((held & missing).sum(axis=1).argmax()))
        missing &= ~held[chosen[-1]]
    return np.array(chosen, np.int32)
