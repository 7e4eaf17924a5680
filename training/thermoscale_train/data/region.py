"""The region of an I-USTFM bundle from a series: HCRs, slots, clips and the stored library."""

import numpy as np

from thermoscale.arrays import QUANTITIES, IntArray
from thermoscale.errors import InvalidInput
from thermoscale.formats import Series
from thermoscale.numerics.grids import cell_counts
from thermoscale.pipelines.iustfm import Region, encode_library
from thermoscale_train.config import RegionSettings
from thermoscale_train.data.hcr_clusters import fit_hcr

CELLS_PER_CLIP = 8
LIBRARY_STEP_K = 0.01


def library_step(quantity: str) -> float:
    """Unit of ``quantity`` per code of the stored library: 0.01 K, and what stands for it."""
    return LIBRARY_STEP_K * QUANTITIES[quantity].kelvin


def make_region(series: Series, settings: RegionSettings, m_max: int, seed: int) -> Region:
    """The region of all fine dates of ``series``.

    Raises:
        InvalidInput: more coarse cells than slots, or values the library cannot store.
        Undetermined: no HCR can be found.
    """
    order = np.argsort(series.fine_time)
    times = tuple(series.fine_time[i] for i in order)
    labels = fit_hcr(series.fine[order], settings.n_hcr, seed)
    step = library_step(series.quantity)
    return Region(
        labels=labels,
        coarse_index=series.coarse_index,
        slots=_slots(series, labels, m_max),
        clips=served_clips(fine_shape(series), clip_side(series, settings)),
        library_time=times,
        library_coarse=encode_library(np.stack([series.coarse_at(time) for time in times]), step),
        library_fine=encode_library(series.fine[order], step),
    )


def fine_shape(series: Series) -> tuple[int, int]:
    """(H, W)."""
    return series.fine.shape[1], series.fine.shape[2]


def clip_side(series: Series, settings: RegionSettings) -> int:
    """Side of a clip in fine pixels: as set, or 8 coarse cells."""
    if settings.clip_px:
        return settings.clip_px
    counts = cell_counts(series.coarse_index, (series.coarse.shape[1], series.coarse.shape[2]))
    return round(CELLS_PER_CLIP * float(np.sqrt(np.median(counts[counts > 0]))))


def served_clips(shape: tuple[int, int], clip_px: int) -> IntArray:
    """``[n, 4]`` clips that cover the scene, overlapping by half, the last ones moved back to its edge."""
    side = [min(clip_px, length) for length in shape]
    rows, cols = ([*range(0, n - s, max(1, s // 2)), n - s] for n, s in zip(shape, side, strict=True))
    return np.array([(row, col, *side) for row in rows for col in cols], np.int32)


def _slots(series: Series, labels: IntArray, m_max: int) -> IntArray:
    """One slot for every coarse cell that holds a labelled pixel."""
    n_cells = series.coarse.shape[1] * series.coarse.shape[2]
    owners = np.unique(series.coarse_index[(labels >= 0) & (series.coarse_index >= 0)])
    if len(owners) > m_max:
        raise InvalidInput(
            f"the place has {len(owners)} coarse cells, DyNet {m_max} slots: raise m_max or cut the place"
        )
    slots = np.full(n_cells, -1, np.int32)
    slots[owners] = np.arange(len(owners), dtype=np.int32)
    return slots
