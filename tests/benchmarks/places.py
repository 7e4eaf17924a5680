"""Places of any size with a memory-mapped library, and the coarse image of a target date."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thermoscale.arrays import Array
from thermoscale.numerics.change_ratio import Guards
from thermoscale.numerics.grids import area_mean, paint_cells, regular_index
from thermoscale.pipelines.iustfm import IustfmConfig, Region, encode_library
from thermoscale.pipelines.region import REGION_NAMES

N_HCR, M_MAX, H_MAX, CLIP = 245, 2500, 256, 256
TARGET = "2001-11-20T02:50Z"
SEASONS = (0.0, 0.08, 0.22, 0.3, 0.95, 0.85, 0.7)
"""Where between cold and warm each library date lies: four dates before the target, three after it."""
ADAPTIVE_SEASONS = (*SEASONS, 0.78)
MANY_SEASONS = (0.0, 0.08, 0.22, 0.3, 0.12, 0.05, 0.95, 0.85, 0.7, 0.78, 0.9, 1.0)


@dataclass(frozen=True)
class Case:
    """A place and the coarse image of the target date."""

    config: IustfmConfig
    region: Region
    coarse: Array


def make_case(side: int, seasons: tuple[float, ...], n_before: int, gaps: float, folder: Path) -> Case:
    """A place of ``side`` x ``side`` fine pixels, ``n_before`` of its dates before the target, memory-mapped."""
    rng = np.random.default_rng(0)
    n_cells = max(1, round(side / 31))
    index = regular_index((n_cells, n_cells), (side, side))
    blobs = rng.integers(0, N_HCR, (side // 6 + 1, side // 6 + 1), np.int32)
    labels = blobs.repeat(6, axis=0).repeat(6, axis=1)[:side, :side].copy()
    swing = rng.uniform(12.0, 22.0, N_HCR)[labels] + rng.normal(0, 1, (side, side))
    still = 280.0 + rng.normal(0, 2, (side, side))
    fine = np.stack([still + season * swing + rng.normal(0, 0.3, swing.shape) for season in seasons])
    coarse = area_mean(fine.astype(np.float32), index, (n_cells, n_cells))
    coarse += rng.normal(0, 0.3, coarse.shape).astype(np.float32)
    target = area_mean((still + 0.55 * swing).astype(np.float32)[None], index, (n_cells, n_cells))[0]
    if gaps:
        for scene in fine:
            scene[paint_cells((rng.random((n_cells, n_cells)) < gaps).astype(np.float32), index) > 0] = np.nan
        labels[rng.random(labels.shape) < gaps / 10] = -1
    times = [f"2001-{1 + i:02d}-01T02:50Z" for i in range(n_before)]
    times += [f"2002-{1 + i:02d}-01T02:50Z" for i in range(len(seasons) - n_before)]
    corners = [*range(0, max(1, side - CLIP), CLIP // 2), max(0, side - CLIP)]
    region = Region(
        labels=labels,
        coarse_index=index,
        slots=np.arange(n_cells**2, dtype=np.int32),
        clips=np.array([(row, col, min(CLIP, side), min(CLIP, side)) for row in corners for col in corners], np.int32),
        library_time=tuple(times),
        library_coarse=encode_library(coarse, 0.01),
        library_fine=encode_library(fine.astype(np.float32), 0.01),
    )
    return Case(_config(), _memory_mapped(region, folder), target)


def _config() -> IustfmConfig:
    return IustfmConfig(
        n_hcr=N_HCR,
        h_max=H_MAX,
        m_max=M_MAX,
        guards=Guards(),
        mode="closed_form",
        range_distance=(0.1, 22.0),
        range_a2_negative=(-5.9, -0.11),
        range_a2_positive=(0.12, 5.9),
    )


def _memory_mapped(region: Region, folder: Path) -> Region:
    folder.mkdir()
    for name, array in region.to_arrays().items():
        np.save(folder / f"{name}.npy", array)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in REGION_NAMES}
    return Region.from_arrays(arrays)
