"""What the folders of Series and of Pairs have in common: ``<kind>_<name>.tif`` and one JSON file."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.formats import Georeference
from thermoscale.geo.rasters import Raster, read_raster, write_raster


def read_scenes(folder: Path, kind: str, *, bands: int | None = 1) -> dict[str, Raster]:
    """The rasters ``<kind>_<name>.tif`` by name, in the order of their names; none if there is no such file.

    Args:
        bands: how many bands each must have; None allows any number.
    """
    paths = sorted(folder.glob(f"{kind}_*.tif"))
    rasters = {path.stem.removeprefix(f"{kind}_"): read_raster(path) for path in paths}
    for name, raster in rasters.items():
        if bands is not None and len(raster.values) != bands:
            raise InvalidInput(f"{folder / f'{kind}_{name}.tif'} has {len(raster.values)} bands, needed {bands}")
    return rasters


def require_known_files(folder: Path, kinds: Collection[str]) -> None:
    """Check that every .tif of ``folder`` is one of ``kinds``."""
    unknown = [p.name for p in sorted(folder.glob("*.tif")) if p.name.split("_")[0] not in kinds]
    if unknown:
        raise InvalidInput(f"{folder} holds unknown rasters {unknown}, needed names like {sorted(kinds)}_<name>.tif")


def write_scene(folder: Path, kind: str, name: str, bands: Array, place: Georeference, names: tuple[str, ...]) -> None:
    """Write ``bands`` [B, H, W] to ``<kind>_<name>.tif``."""
    write_raster(folder / f"{kind}_{name}.tif", Raster(bands, place.crs, place.transform, names))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file ``path``."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot read {path}: {error}; write {{}} to it if there is nothing to say") from error
    if not isinstance(values, dict):
        raise InvalidInput(f"{path} is a JSON {type(values).__name__}, needed an object")
    return values


def write_json(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write ``arrays`` as nested lists."""
    path.write_text(json.dumps({key: array.tolist() for key, array in arrays.items()}, indent=2) + "\n")


def add_from_rasters(arrays: dict[str, Any], key: str, value: Any) -> None:
    """Put ``value`` under ``key``, which the JSON file must not give as well."""
    if key in arrays:
        raise InvalidInput(f"the JSON file gives {key}, which is taken from the GeoTIFFs: remove it there")
    arrays[key] = value


def make_folder(path: Path) -> None:
    """Make the new folder ``path``."""
    if path.exists():
        raise InvalidInput(f"{path} exists: choose a new folder")
    path.mkdir(parents=True)
