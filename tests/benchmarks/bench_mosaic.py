"""Benchmark of downscaling from file to file: peak memory of the process at one height and at twice the height.

The networks have the shipped sizes and next to no training. Each run is a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from measuring import peak_mb, say

from thermoscale.formats import Pairs
from thermoscale.geo.rasters import Raster, write_raster
from thermoscale.mosaic import downscale

GOAL_MB = 500
SCALE_FACTOR, BLOCK_PX = 10, 512
FACTORS = tuple(f"factor_{i}" for i in range(12))
PIXEL_M = 100.0


def write_scene(folder: Path, height: int, width: int) -> None:
    """Coarse image with a gap, and factors in tiles of 512 pixels, deflate, written block row by block row."""
    rng = np.random.default_rng(0)
    place = {"crs": "EPSG:32631", "transform": rasterio.Affine(PIXEL_M, 0, 5e5, 0, -PIXEL_M, 6e6)}
    shape = {"height": height, "width": width, "count": len(FACTORS), "dtype": "float32", "nodata": np.nan}
    layout = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "compress": "deflate", "predictor": 3}
    with rasterio.open(folder / "factors.tif", "w", driver="GTiff", BIGTIFF="YES", **place, **shape, **layout) as file:
        for row in range(0, height, BLOCK_PX):
            rows = min(BLOCK_PX, height - row)
            values = rng.integers(0, 1000, (len(FACTORS), rows, width)).astype(np.float32) / 1000
            values[:, : rows // 8, : width // 8] = np.nan
            file.write(values, window=rasterio.windows.Window(0, row, width, rows))
        file.descriptions = FACTORS
    coarse = rng.normal(290, 5, (1, height // SCALE_FACTOR, width // SCALE_FACTOR)).astype(np.float32)
    coarse[:, 30:60, 30:90] = np.nan
    cell = PIXEL_M * SCALE_FACTOR
    write_raster(folder / "coarse.tif", Raster(coarse, "EPSG:32631", (cell, 0, 5e5, 0, -cell, 6e6), ("lst",)))


def write_bundle(folder: Path) -> Path:
    """A bundle of the shipped settings, fitted to noise for two steps."""
    from thermoscale_train.config import load_amun_settings
    from thermoscale_train.export import export_amun
    from thermoscale_train.fit_amun import fit_amun

    rng, cells = np.random.default_rng(0), 24
    pixels = cells * SCALE_FACTOR
    pairs = Pairs(
        coarse=rng.normal(290, 5, (2, cells, cells)).astype(np.float32),
        fine=rng.normal(290, 5, (2, pixels, pixels)).astype(np.float32),
        factors=rng.uniform(0, 1, (2, len(FACTORS), pixels, pixels)).astype(np.float32),
        factor_names=FACTORS,
        factor_units=("1",) * len(FACTORS),
    )
    settings = load_amun_settings()
    settings = replace(settings, training=replace(settings.training, steps=2, evaluate_every=2))
    return export_amun(fit_amun(pairs, pairs, settings, seed=0), folder, version="0.0.1")


def measure_here(bundle: Path, folder: Path) -> dict[str, float]:
    """One run in this process: seconds and the peak of its resident memory."""
    start = time.perf_counter()
    downscale(bundle, folder / "coarse.tif", folder / "factors.tif", folder / "lst.tif")
    seconds = time.perf_counter() - start
    return {"s": seconds, "peak_mb": peak_mb()}


def run(height: int, width: int) -> dict[str, Any]:
    """Measure a scene and one twice as high."""
    heights: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        bundle = write_bundle(Path(place))
        for rows in (height, 2 * height):
            with tempfile.TemporaryDirectory(dir=place) as folder:
                say(f"scene of {rows} x {width}")
                write_scene(Path(folder), rows, width)
                say(f"downscaling of {rows} x {width}")
                command = [sys.executable, __file__, "--measure", str(bundle), folder]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            heights[rows] = json.loads(done.stdout)
            heights[rows]["pixels_per_s"] = rows * width / heights[rows]["s"]
    worst = max(entry["peak_mb"] for entry in heights.values())
    facts = {"width": width, "factors": len(FACTORS), "heights": heights}
    return {**facts, "goal_mb": GOAL_MB, "reached": worst <= GOAL_MB}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--height", type=int, default=6200)
    parser.add_argument("--width", type=int, default=3600)
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure_here(*args.measure)))
        return
    result = run(args.height, args.width)
    say("")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
