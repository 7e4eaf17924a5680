"""The layout of the GeoTIFFs we make: a COG, so that a reader gets a part or a coarser view with few ranged reads.

Directories first, then tiles, overviews before the full image (https://docs.ogc.org/is/21-026/21-026.html). Band after
band, deflate with a predictor. GDAL's own COG driver interleaves pixels, which takes twice the bytes of noisy floats
and 2 to 13 times the time (measured, 64 to 1024 pixels).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from thermoscale.arrays import Array
from thermoscale.errors import Unavailable
from thermoscale.geo.gdal import georeference_checked_by_us, load_rasterio

LARGEST_WITHOUT_OVERVIEW_PX = 512
_BLOCK_PX = 256
_BLOCK_STEP_PX = 16  # TIFF 6.0, section 15: sides of tiles are multiples of it
_FAST_DEFLATE = 1  # noisy floats are 1 % larger than with the default, 6, at two thirds of the time


def encode_cog(values: Array, profile: dict[str, Any], annotate: Callable[[Any], None]) -> bytes:
    """The bytes of a COG with the bands ``values`` ``[B, H, W]``, float32 or uint16.

    Overviews take the nearest pixel: a mean of flags would have no meaning.

    Args:
        profile: rasterio's options of the file: place and nodata value.
        annotate: is given the open dataset, to set names and tags before a pixel is written.

    Raises:
        Unavailable: rasterio is missing, or GDAL fails, for example for want of memory.
    """
    rasterio = load_rasterio()
    count, height, width = values.shape
    whole = {**profile, "count": count, "height": height, "width": width, "dtype": values.dtype.name}
    whole |= {"interleave": "band"}
    options = _options(values)
    factors = overview_factors(max(height, width))
    try:
        with georeference_checked_by_us(), rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", **(whole if factors else {**whole, **options})) as dataset:
                annotate(dataset)  # before the pixels: afterwards the directory would move behind them
                dataset.write(values)
                if factors:
                    dataset.build_overviews(factors, rasterio.enums.Resampling.nearest)
            if not factors:
                return bytes(memory.read())
            with rasterio.MemoryFile() as ordered:  # a copy puts the overviews before the full image
                with memory.open() as source:
                    rasterio.shutil.copy(source, ordered.name, driver="GTiff", copy_src_overviews=True, **options)
                return bytes(ordered.read())
    except rasterio.errors.RasterioError as error:
        raise Unavailable(f"cannot make a GeoTIFF of {count} x {height} x {width} pixels: {error}") from error


def overview_factors(side_px: int) -> list[int]:
    """2, 4, ... until an image of this longer side has at most 512 pixels; empty if it has them already."""
    factors: list[int] = []
    while side_px > LARGEST_WITHOUT_OVERVIEW_PX * 2 ** len(factors):
        factors.append(2 ** (len(factors) + 1))
    return factors


def largest_cog_bytes(height: int, width: int, bytes_per_pixel: int) -> int:
    """More than the bytes of such a COG without its tags: nothing compressed, tiles filled, overviews added."""
    tiles = [
        -(-side // _BLOCK_PX) * _BLOCK_PX if side > _BLOCK_PX else side + _BLOCK_STEP_PX for side in (height, width)
    ]
    share = sum(factor**-2 for factor in [1, *overview_factors(max(height, width))])
    return int(1.02 * share * tiles[0] * tiles[1] * bytes_per_pixel)


def _options(values: Array) -> dict[str, Any]:
    """Tiles no larger than the image needs."""
    side = min(_BLOCK_PX, -(-max(values.shape[1:]) // _BLOCK_STEP_PX) * _BLOCK_STEP_PX)
    predictor = 3 if np.issubdtype(values.dtype, np.floating) else 2
    tiles = {"tiled": True, "blockxsize": side, "blockysize": side}
    return {**tiles, "compress": "deflate", "zlevel": _FAST_DEFLATE, "predictor": predictor, "interleave": "band"}
