"""A Series as a folder: ``coarse_<time>.tif`` and ``fine_<time>.tif``, one band each; other keys in ``series.json``."""

from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.errors import InvalidInput
from thermoscale.formats import Series, canonical_time
from thermoscale.geo.alignment import require_same_grid, same_bounds
from thermoscale.geo.links import link_grids
from thermoscale.geo.rasters import Raster
from thermoscale.geo.scene_files import (
    add_from_rasters,
    make_folder,
    read_json,
    read_scenes,
    require_known_files,
    write_json,
    write_scene,
)
from thermoscale.numerics.grids import regular_index

JSON_NAME = "series.json"
_KINDS = ("coarse", "fine")


def read_series_folder(folder: Path) -> dict[str, Any]:
    """The keys of the Series in ``folder``, scenes in the order of time.

    Where ``series.json`` has no ``coarse_index`` and the two grids do not have the same bounds, it is computed from
    their georeferences.

    Raises:
        InvalidInput: as in :func:`thermoscale.geo.datasets.read_series`.
    """
    arrays = read_json(folder / JSON_NAME)
    require_known_files(folder, _KINDS)
    scenes = {kind: _read_kind(folder, kind) for kind in _KINDS}
    for kind, by_time in scenes.items():
        add_from_rasters(arrays, kind, np.stack([raster.values[0] for _, raster in by_time]))
        add_from_rasters(arrays, f"{kind}_time", [time for time, _ in by_time])
        add_from_rasters(arrays, f"{kind}_crs", by_time[0][1].crs)
        add_from_rasters(arrays, f"{kind}_transform", by_time[0][1].transform)
    coarse, fine = scenes["coarse"][0][1], scenes["fine"][0][1]
    if "coarse_index" not in arrays and not same_bounds(fine, coarse):
        arrays["coarse_index"] = link_grids(coarse, fine)
    return arrays


def write_series_folder(folder: Path, series: Series) -> None:
    """Write ``series`` into the new ``folder``; ``coarse_index`` only where it is not the regular one.

    Raises:
        InvalidInput: a grid without georeference, or the folder exists.
    """
    coarse_place, fine_place = series.coarse_georeference, series.fine_georeference
    if coarse_place is None or fine_place is None:
        raise InvalidInput("a series without both georeferences cannot be a folder of GeoTIFFs: write an .npz")
    make_folder(folder)
    for time, scene in zip(series.coarse_time, series.coarse, strict=True):
        write_scene(folder, "coarse", time, scene[None], coarse_place, (series.quantity,))
    for time, scene in zip(series.fine_time, series.fine, strict=True):
        write_scene(folder, "fine", time, scene[None], fine_place, (series.quantity,))
    from_rasters = {f"{kind}{key}" for kind in _KINDS for key in ("", "_time", "_crs", "_transform")}
    arrays = {key: array for key, array in series.to_arrays().items() if key not in from_rasters}
    (h, w), (height, width) = series.coarse.shape[1:], series.fine.shape[1:]
    if np.array_equal(series.coarse_index, regular_index((h, w), (height, width))):
        del arrays["coarse_index"]
    write_json(folder / JSON_NAME, arrays)


def _read_kind(folder: Path, kind: str) -> list[tuple[str, Raster]]:
    """(time, raster) of every scene of one kind, by time, all on one grid."""
    rasters = read_scenes(folder, kind)
    if not rasters:
        raise InvalidInput(f"{folder} holds no {kind}_<time>.tif")
    first_name, first = next(iter(rasters.items()))
    for name, raster in rasters.items():
        require_same_grid(f"{kind}_{first_name}.tif", first, f"{kind}_{name}.tif", raster)
    return sorted(((canonical_time(name), raster) for name, raster in rasters.items()), key=lambda scene: scene[0])
