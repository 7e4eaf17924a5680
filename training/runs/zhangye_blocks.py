"""zhangye_30m as Pairs of blocks for the simulated experiment: python zhangye_blocks.py FOLDER PAIRS.npz.

FOLDER holds lst.tif and ndvi.tif. NDVI (30.03 m) is brought to the grid of LST (30.00 m) bilinearly. Blocks of 200 px
(20 cells of 10 px, room for training crops of 160 px) make 5 x 5 scenes, and so 5 bands of 5 blocks in
``evaluate amun --split ground``. Blocks touch but do not overlap.
"""

import argparse
from pathlib import Path

import numpy as np

from thermoscale.arrays import FloatArray
from thermoscale.geo.alignment import Grid, parse_crs
from thermoscale.geo.datasets import write_pairs
from thermoscale.geo.rasters import Raster, read_raster
from thermoscale_train.data.blocks import cut_blocks

BLOCK_PX, SCALE_FACTOR = 200, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pairs", type=Path, help=".npz to write")
    args = parser.parse_args()
    lst = read_raster(args.folder / "lst.tif")
    ndvi = on_grid(read_raster(args.folder / "ndvi.tif"), lst.grid)
    pairs = cut_blocks(
        lst.values[0], ndvi, ["ndvi"], ["1"], lst.georeference, block_px=BLOCK_PX, scale_factor=SCALE_FACTOR
    )
    write_pairs(args.pairs, pairs)


def on_grid(raster: Raster, grid: Grid) -> FloatArray:
    """The bands of ``raster`` ``[B, H, W]`` at the pixels of ``grid``, bilinear; NaN outside."""
    from rasterio import Affine
    from rasterio.warp import Resampling, reproject

    values = np.full((len(raster.values), *grid.shape), np.nan, np.float32)
    reproject(
        raster.values,
        values,
        src_transform=Affine(*raster.transform),
        src_crs=parse_crs("the raster", raster.crs),
        src_nodata=np.nan,
        dst_transform=Affine(*grid.transform),
        dst_crs=parse_crs("the grid", grid.crs),
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    return values


if __name__ == "__main__":
    main()
