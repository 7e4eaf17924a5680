"""Pairs as a folder: ``coarse_<id>.tif``, ``fine_<id>.tif``, ``factors_<id>.tif``; other keys in ``pairs.json``.

The bands of a factors raster are described by the factors' names. Every scene has its own transform, all have one CRS.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.errors import InvalidInput
from thermoscale.formats import Georeference, Pairs
from thermoscale.geo.alignment import require_same_bounds
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

JSON_NAME = "pairs.json"
_FROM_RASTERS = {"coarse", "fine", "factors", "factor_names", "id", "crs", "transform"}


def read_pairs_folder(folder: Path) -> dict[str, Any]:
    """The keys of the Pairs in ``folder``, scenes in the order of their ids.

    Raises:
        InvalidInput: as in :func:`thermoscale.geo.datasets.read_pairs`.
    """
    arrays = read_json(folder / JSON_NAME)
    require_known_files(folder, ("coarse", "fine", "factors"))
    coarse = read_scenes(folder, "coarse")
    if not coarse:
        raise InvalidInput(f"{folder} holds no coarse_<id>.tif")
    add_from_rasters(arrays, "id", list(coarse))
    add_from_rasters(arrays, "coarse", _stack("coarse", coarse)[:, 0])
    fine, factors = read_scenes(folder, "fine"), read_scenes(folder, "factors", bands=None)
    if fine:
        _require_partners("fine", fine, coarse)
        add_from_rasters(arrays, "fine", _stack("fine", fine)[:, 0])
    if factors:
        _require_partners("factors", factors, coarse)
        add_from_rasters(arrays, "factors", _stack("factors", factors))
        add_from_rasters(arrays, "factor_names", _common("band names", [r.names for r in factors.values()]))
    placed = list((fine or factors).values())
    if placed:
        add_from_rasters(arrays, "crs", _common("CRS", [raster.crs for raster in placed]))
        add_from_rasters(arrays, "transform", [raster.transform for raster in placed])
    return arrays


def write_pairs_folder(folder: Path, pairs: Pairs) -> None:
    """Write ``pairs`` into the new ``folder``.

    Raises:
        InvalidInput: no id, crs or transform, or the folder exists.
    """
    places = [pairs.fine_georeference(scene) for scene in range(len(pairs))]
    if pairs.id is None or None in places:
        raise InvalidInput("pairs without id, crs and transform cannot be a folder of GeoTIFFs: write an .npz")
    make_folder(folder)
    for scene, (name, place) in enumerate(zip(pairs.id, places, strict=True)):
        if place is not None:
            _write_one(folder, pairs, scene, name, place)
    write_json(folder / JSON_NAME, {k: v for k, v in pairs.to_arrays().items() if k not in _FROM_RASTERS})


def _write_one(folder: Path, pairs: Pairs, scene: int, name: str, place: Georeference) -> None:
    coarse_place = _with_larger_pixels(place, pairs.scale_factor)
    write_scene(folder, "coarse", name, pairs.coarse[scene][None], coarse_place, ("lst",))
    if pairs.fine is not None:
        write_scene(folder, "fine", name, pairs.fine[scene][None], place, ("lst",))
    if pairs.factors is not None and pairs.factor_names is not None:
        write_scene(folder, "factors", name, pairs.factors[scene], place, pairs.factor_names)


def _with_larger_pixels(place: Georeference, scale_factor: float) -> Georeference:
    a, b, c, d, e, f = place.transform
    return Georeference(place.crs, (a * scale_factor, b * scale_factor, c, d * scale_factor, e * scale_factor, f))


def _require_partners(kind: str, rasters: Mapping[str, Raster], coarse: Mapping[str, Raster]) -> None:
    """Every scene has a raster of this kind, on the ground of its coarse raster."""
    alone = sorted(rasters.keys() ^ coarse.keys())
    if alone:
        raise InvalidInput(f"scenes {alone} have no coarse or no {kind} raster; give every scene both")
    for name, raster in rasters.items():
        require_same_bounds(f"{kind}_{name}.tif", raster, f"coarse_{name}.tif", coarse[name])


def _stack(kind: str, rasters: Mapping[str, Raster]) -> Any:
    _common(f"shape of {kind}", [raster.values.shape for raster in rasters.values()])
    return np.stack([raster.values for raster in rasters.values()])


def _common(what: str, values: list[Any]) -> Any:
    if any(value != values[0] for value in values):
        raise InvalidInput(f"the scenes differ in {what}: {sorted(map(str, set(values)))}; one data set has one")
    return values[0]
