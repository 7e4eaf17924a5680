"""GeoTIFFs larger than memory: read by windows, written by rows, finished as a COG."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from thermoscale.arrays import FloatArray
from thermoscale.errors import InvalidInput, ThermoscaleError, Unavailable
from thermoscale.formats import Transform
from thermoscale.geo.alignment import Grid, parse_crs
from thermoscale.geo.gdal import georeference_checked_by_us, load_rasterio
from thermoscale.geo.rasters import IDENTITY, read_band
from thermoscale.geo.tiff_scan import require_whole_tiff

_MOST_PIXELS_OF_A_BLOCK = 2**24


class WindowedRaster:
    """An open GeoTIFF of which windows are read. Made by :func:`open_windowed`.

    Attributes:
        name: the path, for messages.
        grid: CRS, transform and shape of the file.
        names: one for each band, the band descriptions of the file.
        block_rows: height of the file's blocks: reading in multiples of it decodes every block once.
    """

    def __init__(self, name: str, dataset: Any) -> None:
        transform: Transform = tuple(dataset.transform)[:6]
        if dataset.crs is None or transform == IDENTITY:
            what = "CRS" if dataset.crs is None else "transform"
            raise InvalidInput(f"{name} has no {what}: write it with one (gdal_edit.py -a_srs EPSG:n -a_ullr ...)")
        if any(np.dtype(dtype).kind not in "fiu" for dtype in dataset.dtypes):
            raise InvalidInput(f"{name} has bands of type {list(dataset.dtypes)}, needed real numbers")
        self.name, self._dataset = name, dataset
        self.grid = Grid(dataset.crs.to_string(), transform, (dataset.height, dataset.width))
        self.names = tuple(text or f"band_{i}" for i, text in enumerate(dataset.descriptions, 1))
        self.block_rows = int(dataset.block_shapes[0][0])
        if self.block_rows * dataset.block_shapes[0][1] > _MOST_PIXELS_OF_A_BLOCK:
            raise InvalidInput(
                f"{name} is cut into blocks of {list(dataset.block_shapes[0])} pixels, which cannot be read piece by "
                "piece; write it in tiles (gdal_translate -co TILED=YES)"
            )

    def read(self, bands: Sequence[int], rows: slice, cols: slice) -> FloatArray:
        """``[len(bands), height, width]`` float32 in physical units, NaN = no data.

        Raises:
            InvalidInput: a fill value without its tag, or a damaged block.
        """
        window = load_rasterio().windows.Window.from_slices(rows, cols)
        values = np.empty((len(bands), rows.stop - rows.start, cols.stop - cols.start), np.float32)
        for place, band in enumerate(bands):
            name = f"{self.name}, {self.names[band]}"
            try:
                values[place] = read_band(name, self._dataset, band, window)
            except load_rasterio().errors.RasterioError as error:
                raise InvalidInput(f"cannot read {name}, {window}: {error}") from error
        return values


@contextmanager
def open_windowed(path: Path) -> Iterator[WindowedRaster]:
    """Open the GeoTIFF (or COG) at ``path``.

    Raises:
        InvalidInput: no such file, no GeoTIFF, truncated, no CRS or transform, or blocks too large for windows.
        Unavailable: rasterio is missing.
    """
    rasterio = load_rasterio()
    try:
        with path.open("rb") as stream:
            require_whole_tiff(str(path), stream)
        with georeference_checked_by_us():
            dataset = rasterio.open(path, driver="GTiff")
    except ThermoscaleError:
        raise
    except Exception as error:  # GDAL's errors have many classes
        raise InvalidInput(f"cannot read {path} as a GeoTIFF: {error}") from error
    with dataset:
        yield WindowedRaster(str(path), dataset)


@contextmanager
def block_cache(n_bytes: int) -> Iterator[None]:
    """Let GDAL keep at most ``n_bytes`` of decoded blocks: by default it takes 5 % of the machine's memory."""
    with load_rasterio().Env(GDAL_CACHEMAX=n_bytes):
        yield


def create_rows(path: Path, grid: Grid, names: Sequence[str]) -> None:
    """Create the GeoTIFF ``path`` for :func:`write_rows`: float32, nodata NaN, uncompressed so that rows stay in place.

    Raises:
        InvalidInput: the CRS is not understood.
        Unavailable: it cannot be written.
    """
    rasterio = load_rasterio()
    profile = {"count": len(names), "height": grid.shape[0], "width": grid.shape[1], "dtype": "float32"}
    profile |= {"nodata": np.nan, "interleave": "band", "blockysize": 1, "BIGTIFF": "IF_SAFER"}
    profile |= {"crs": parse_crs(str(path), grid.crs), "transform": rasterio.Affine(*grid.transform)}
    with _writing(path):
        with rasterio.open(path, "w", driver="GTiff", **profile) as dataset:
            dataset.descriptions = tuple(names)
        last_row = np.full((len(names), 1, grid.shape[1]), np.nan, np.float32)
        _require_stored(path, grid.shape[0] - 1, last_row)


def write_rows(path: Path, first_row: int, values: FloatArray) -> None:
    """Write ``values`` ``[B, n, W]`` from ``first_row`` on; they are on the disk when this returns.

    Raises:
        Unavailable: they cannot be written.
    """
    rasterio = load_rasterio()
    with _writing(path):
        with rasterio.open(path, "r+") as dataset:
            dataset.write(values, window=_rows(first_row, values))
        _to_disk(path)
        _require_stored(path, first_row, values)


def finish_cog(source: Path, tags: dict[str, str], partial: Path, path: Path) -> None:
    """Write the GeoTIFF ``source`` as the COG ``path`` in one step: deflate, tiles of 512, overviews.

    Overviews take the nearest pixel: a mean of flags would have no meaning.

    Args:
        tags: texts of the whole file.
        partial: where the file grows, on the same disk as ``path``; ``source`` is left as it is.

    Raises:
        Unavailable: it cannot be written.
    """
    rasterio = load_rasterio()
    options = {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "OVERVIEW_RESAMPLING": "NEAREST", "BIGTIFF": "IF_SAFER"}
    tagged = partial.with_suffix(".vrt")
    with _writing(path):
        rasterio.shutil.copy(source, tagged, driver="VRT")
        with rasterio.open(tagged, "r+") as dataset:
            dataset.update_tags(**tags)
        rasterio.shutil.copy(tagged, partial, driver="COG", **options)
        _to_disk(partial)
        _require_copy(source, partial)
        os.replace(partial, path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # GDAL's errors have many classes
        raise Unavailable(f"cannot write {path}: {error}") from error


def _require_stored(path: Path, first_row: int, values: FloatArray) -> None:
    """Read rows again: of what fails while a file is closed, as on a full disk, GDAL tells nobody."""
    with load_rasterio().open(path) as dataset:
        if not np.array_equal(dataset.read(window=_rows(first_row, values)), values, equal_nan=True):
            raise OSError(f"rows {first_row} to {first_row + values.shape[1]} are not there; is the disk full?")


def _require_copy(source: Path, copy: Path) -> None:
    """As :func:`_require_stored`, of a whole file."""
    rasterio = load_rasterio()
    with rasterio.open(source) as expected, rasterio.open(copy) as dataset:
        for _, window in dataset.block_windows(1):
            if not np.array_equal(dataset.read(window=window), expected.read(window=window), equal_nan=True):
                raise OSError(f"{window} is not there; is the disk full?")


def _rows(first_row: int, values: FloatArray) -> Any:
    _, height, width = values.shape
    return load_rasterio().windows.Window(0, first_row, width, height)


def _to_disk(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
