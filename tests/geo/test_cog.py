"""COGs: what a reader of parts and overviews relies on."""

import struct
from typing import NamedTuple

import numpy as np
import pytest
import rasterio

from thermoscale.errors import Unavailable
from thermoscale.geo.cog import encode_cog, largest_cog_bytes, overview_factors
from thermoscale.geo.gdal import georeference_checked_by_us

NAMES = ("lst", "flags")


class Directory(NamedTuple):
    position: int
    width: int
    first_tile: int


def directories(body: bytes) -> list[Directory]:
    """Position, image width and first tile's position of each directory of a little-endian TIFF."""
    found = []
    (position,) = struct.unpack("<I", body[4:8])
    while position:
        (count,) = struct.unpack_from("<H", body, position)
        entries = {e[0]: e for e in (struct.unpack_from("<HHII", body, position + 2 + 12 * i) for i in range(count))}
        width = entries[256][3] & (0xFFFF if entries[256][1] == 3 else 0xFFFFFFFF)
        _, _, n_tiles, where = entries[324]
        first_tile = struct.unpack_from("<I", body, where)[0] if n_tiles > 1 else where
        found.append(Directory(position, width, first_tile))
        (position,) = struct.unpack_from("<I", body, position + 2 + 12 * count)
    return found


def scene(height: int, width: int, dtype: type = np.float32) -> np.ndarray:
    noise = np.random.default_rng(0).normal(300, 5, (len(NAMES), height, width))
    return noise.astype(dtype)


def encode(values: np.ndarray) -> bytes:
    def annotate(dataset: rasterio.io.DatasetWriter) -> None:
        dataset.descriptions = NAMES
        dataset.update_tags(META="x" * 3000)

    return encode_cog(values, {"nodata": 65535}, annotate)


def read(body: bytes, overview: int | None = None) -> tuple[np.ndarray, dict[str, str]]:
    where = {} if overview is None else {"OVERVIEW_LEVEL": overview}
    with georeference_checked_by_us(), rasterio.MemoryFile(body) as memory, memory.open(**where) as dataset:
        return dataset.read(), {**dataset.tags(), "bands": dataset.descriptions}


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (7, 90), (256, 256), (300, 512), (513, 40), (600, 1100)])
def test_directories_come_first_and_overviews_lie_before_the_image(shape: tuple[int, int], dtype: type) -> None:
    body = encode(scene(*shape, dtype))
    found = directories(body)
    assert found[0].position == 8
    assert [d.position for d in found] == sorted(d.position for d in found)
    assert [d.first_tile for d in found] == sorted((d.first_tile for d in found), reverse=True)
    assert found[-1].first_tile > found[-1].position
    assert len(found) == 1 + len(overview_factors(max(shape)))
    values, tags = read(body)
    np.testing.assert_array_equal(values, scene(*shape, dtype))
    assert tags["bands"] == NAMES
    assert tags["META"] == "x" * 3000
    assert len(body) <= largest_cog_bytes(*shape, values.itemsize * len(NAMES)) + 6000


def test_overviews_hold_pixels_of_the_image() -> None:
    values = scene(600, 1100)
    coarser, _ = read(encode(values), overview=0)
    assert coarser.shape[1:] == (300, 550)
    assert np.isin(coarser, values).all()


def test_overviews_halve_until_512_pixels() -> None:
    sides = (1, 512, 513, 1024, 1025, 5000)
    assert [overview_factors(side) for side in sides] == [[], [], [2], [2], [2, 4], [2, 4, 8, 16]]


def test_what_gdal_cannot_make_is_unavailable() -> None:
    def fail(dataset: rasterio.io.DatasetWriter) -> None:
        raise rasterio.errors.RasterioIOError("no memory")

    with pytest.raises(Unavailable, match="cannot make a GeoTIFF of 2 x 4 x 4 pixels: no memory"):
        encode_cog(scene(4, 4), {"nodata": 0}, fail)
