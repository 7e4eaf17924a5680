"""Scale invariance on norway_era5land, a factor of 12 both ways: python scale_invariance.py FOLDER > JSON.

1. Five days of 2 m temperature at 0.1 degree are averaged to 1.2 degree and brought back with elevation. What is fitted
   sees the truth of other ground only: three bands of coarse columns are held out in turn. The coarse image is
   known everywhere, as it is when a method is used; pixels at a band's border are neighbours of training pixels.
2. What was fitted to one band (the next one chose AMUN's weights) takes the field from 0.1 to 1/120 degree with the
   elevation of that grid. There is no truth at 1/120 degree: told are the RMSE of the 12 x 12 means against the
   field that went in, and K per km of the detail against that of elevation.

A test of the path, not of skill: five days of one winter, no fine truth. FOLDER holds CentralNorway.nc,
Covariates_Train.nc and Covariates_Target.nc, which rasterio's own NetCDF driver reads.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.arrays import FloatArray, IntArray
from thermoscale.formats import Pairs
from thermoscale.geo.gdal import load_rasterio
from thermoscale.geo.rasters import read_band
from thermoscale.numerics.bias import BiasRule
from thermoscale.numerics.grids import area_mean, interpolate, regular_index
from thermoscale.numerics.metrics import bias, rmse
from thermoscale_train.baselines import DOWNSCALING
from thermoscale_train.baselines.random_forest import fit_forest
from thermoscale_train.config import load_amun_settings, load_forest_settings
from thermoscale_train.data.folds import Turn, spatial_folds, turns
from thermoscale_train.downscaling_models import FORESTS, DownscalingSettings, coarse_index_of, of_checkpoint
from thermoscale_train.evaluate import choose_methods
from thermoscale_train.evaluate_amun import METHODS, evaluate_amun
from thermoscale_train.fit import fit_amun
from thermoscale_train.scoring import nulls_for_nan
from thermoscale_train.usable import UsableRule

SCALE_FACTOR = 12
WINDOW = (slice(3, 51), slice(5, 89))
"""48 x 84 pixels, whole coarse cells; of all such windows one with much land (the field has none over sea)."""

BANDS = (slice(0, 36), slice(36, 60), slice(60, 84))
"""Columns of the window: 3, 2 and 2 coarse cells wide; the west is sea."""

RULE = UsableRule(min_fine_coverage=0.0, pair=BiasRule(min_cells=1))
"""The truth of a scene is one band of it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default="all", help=f"all (default), or some of {','.join(METHODS)}")
    parser.add_argument("--amun-config", type=Path, help="TOML of the fits; default the shipped one")
    parser.add_argument("--forest-config", type=Path, help="TOML of the fits; default the shipped one")
    parser.add_argument("--seed", type=int, default=0, help="of the fits (default 0)")
    args = parser.parse_args()
    methods = choose_methods(args.methods, METHODS)
    settings = DownscalingSettings(load_amun_settings(args.amun_config), load_forest_settings(args.forest_config))

    field = read_netcdf(args.folder / "CentralNorway.nc")
    known = scenes_of_bands(field[:, *WINDOW], read_netcdf(args.folder / "Covariates_Train.nc")[0][WINDOW])
    folds = spatial_folds(known, len(BANDS))
    first = evaluate_amun(known, folds=folds, fitted=settings, seed=args.seed, methods=methods, rule=RULE)
    target = finer_scenes(field, read_netcdf(args.folder / "Covariates_Target.nc")[0])
    fitted = fit_all(known, turns(known, folds)[-1], target, methods, settings, args.seed)
    second = {name: judge(target, answer) for name, answer in fitted.items()}
    told = {"1.2 to 0.1 degree": first, "0.1 to 1/120 degree": second}
    sys.stdout.write(json.dumps(nulls_for_nan(told), indent=1, allow_nan=False) + "\n")


def read_netcdf(path: Path) -> FloatArray:
    """The bands ``[B, H, W]`` of a NetCDF file with one variable, NaN = no data."""
    with load_rasterio().open(path, driver="netCDF") as dataset:
        return np.stack([read_band(str(path), dataset, band) for band in range(dataset.count)]).astype(np.float32)


def scenes_of_bands(field: FloatArray, elevation: FloatArray) -> Pairs:
    """Every day once for each band: coarse image and elevation whole, the truth in that band only."""
    days, (height, width) = len(field), elevation.shape
    cells = height // SCALE_FACTOR, width // SCALE_FACTOR
    truth = np.full((len(BANDS), *field.shape), np.nan, np.float32)
    for number, columns in enumerate(BANDS):
        truth[number, :, :, columns] = field[:, :, columns]
    coarse = area_mean(field, regular_index(cells, elevation.shape), cells)
    return Pairs.from_arrays(
        {
            "coarse": np.tile(coarse, (len(BANDS), 1, 1)),
            "fine": truth.reshape(-1, height, width),
            **elevation_factor(elevation, days * len(BANDS)),
            "group": [f"band {number}" for number in range(len(BANDS)) for _ in range(days)],
            "id": [f"day {day}, band {number}" for number in range(len(BANDS)) for day in range(days)],
        }
    )


def finer_scenes(field: FloatArray, elevation: FloatArray) -> Pairs:
    """The days at 0.1 degree as coarse images of the grid of ``elevation``, without truth."""
    return Pairs.from_arrays({"coarse": field, **elevation_factor(elevation, len(field))})


def elevation_factor(elevation: FloatArray, scenes: int) -> dict[str, Any]:
    """The factor's three keys of Pairs, the same for every scene."""
    return {
        "factors": np.repeat(elevation[None, None], scenes, axis=0),
        "factor_names": ["elevation"],
        "factor_units": ["m"],
    }


def fit_all(
    known: Pairs, turn: Turn, target: Pairs, methods: tuple[str, ...], settings: DownscalingSettings, seed: int
) -> dict[str, Callable[[int], FloatArray]]:
    """Method -> row of ``target`` -> ``[H, W]``, fitted to the training and validation scenes of one turn."""
    index, factors = coarse_index_of(target), target.factors
    assert factors is not None
    found = {name: _plain(target, name) for name in DOWNSCALING}
    train = known.subset(turn.train)
    if set(FORESTS) & set(methods):
        forest = fit_forest(known.subset((*turn.train, *turn.valid)), settings.forest, seed=seed)
        found["random_forest"] = lambda row: forest.predict(target.coarse[row], factors[row], index)
        found["random_forest_residual"] = lambda row: forest.predict_with_residual(
            target.coarse[row], factors[row], index
        )
    if "amun" in methods:
        checkpoint = fit_amun(train, known.subset(turn.valid), settings.amun, seed=seed, progress=True)
        amun = of_checkpoint(checkpoint, target)
        found["amun"] = lambda row: amun(row).lst
    return {name: found[name] for name in methods if name in found}


def _plain(target: Pairs, name: str) -> Callable[[int], FloatArray]:
    method, index = DOWNSCALING[name], coarse_index_of(target)
    return lambda row: method(target.coarse[row], None, index)


def judge(target: Pairs, answer: Callable[[int], FloatArray]) -> dict[str, float]:
    """Means over the days, of what can be known without truth."""
    cells, index = (target.coarse.shape[1], target.coarse.shape[2]), coarse_index_of(target)
    assert target.factors is not None
    rows = []
    for row, coarse in enumerate(target.coarse):
        fine, elevation = answer(row), target.factors[row, 0]
        means = area_mean(fine, index, cells)
        inside = detail(elevation, index, cells)
        rows.append(
            (rmse(means, coarse), bias(means, coarse), slope(inside, fine - interpolate(coarse, index, order=3)))
        )
    closure, offset, per_m = np.mean(rows, axis=0).tolist()
    return {"closure_rmse": closure, "closure_bias": offset, "detail_k_per_km": 1000.0 * per_m}


def detail(fine: FloatArray, index: IntArray, cells: tuple[int, int]) -> FloatArray:
    """What ``fine`` has beyond the bicubic image of its own cell means."""
    return fine - interpolate(area_mean(fine, index, cells), index, order=3)


def slope(x: FloatArray, y: FloatArray) -> float:
    """Of ``y`` against ``x`` through the origin, where both are known."""
    both = np.isfinite(x) & np.isfinite(y)
    return float((x[both].astype(np.float64) @ y[both]) / (x[both].astype(np.float64) @ x[both]))


if __name__ == "__main__":
    main()
