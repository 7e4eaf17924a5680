"""Series and Pairs on disk: one .npz, or a folder of GeoTIFFs with a JSON file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs, Series
from thermoscale.geo.atomic import write_atomically
from thermoscale.geo.fill import require_no_fill
from thermoscale.geo.pairs_folder import read_pairs_folder, write_pairs_folder
from thermoscale.geo.series_folder import read_series_folder, write_series_folder


def read_series(path: Path) -> Series:
    """Read a Series from an .npz file or a folder (:mod:`thermoscale.geo.series_folder`).

    Raises:
        InvalidInput: missing, damaged, a missing or unknown key, rasters of one kind on different grids, a fill value
            without nodata tag, or values outside the plausible range.
        Unavailable: a folder, and rasterio is missing.
    """
    return Series.from_arrays(read_series_folder(path) if path.is_dir() else _read_npz(path))


def read_pairs(path: Path) -> Pairs:
    """Read Pairs from an .npz file or a folder (:mod:`thermoscale.geo.pairs_folder`).

    Raises:
        InvalidInput: as in :func:`read_series`, or coarse and fine rasters of one scene with other bounds.
        Unavailable: a folder, and rasterio is missing.
    """
    return Pairs.from_arrays(read_pairs_folder(path) if path.is_dir() else _read_npz(path))


def write_series(path: Path, series: Series) -> None:
    """Write a Series: to one .npz if ``path`` ends so, else into the new folder ``path``.

    Raises:
        InvalidInput: a folder for a series without both georeferences (GeoTIFFs need them), or one that exists.
    """
    if path.suffix == ".npz":
        _write_npz(path, series.to_arrays())
    else:
        write_series_folder(path, series)


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Write Pairs: to one .npz if ``path`` ends so, else into the new folder ``path``.

    Raises:
        InvalidInput: a folder for pairs without id, crs or transform, or one that exists.
    """
    if path.suffix == ".npz":
        _write_npz(path, pairs.to_arrays())
    else:
        write_pairs_folder(path, pairs)


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # numpy and zipfile raise many kinds over bad bytes
        raise InvalidInput(f"cannot read {path} as an .npz: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            require_no_fill(f"{path}, {name}", array)
    return arrays


def _write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    with write_atomically(path) as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
