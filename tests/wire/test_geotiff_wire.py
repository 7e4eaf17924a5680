"""Requests and replies as GeoTIFF."""

import json
import tracemalloc

import numpy as np
import pytest
import rasterio

from thermoscale.errors import InvalidInput
from thermoscale.formats import Georeference
from thermoscale.geo.rasters import NO_CRS, Raster, decode_geotiff, encode_geotiff
from thermoscale.wire.geotiff import META_TAG, decode_geotiff_reply, decode_geotiff_request, encode_geotiff_reply
from thermoscale.wire.limits import InflatedBudget, Limits

LIMITS = Limits()
COARSE_TRANSFORM = (0.1, 0.0, 5.0, 0.0, -0.1, 48.0)
FINE = Georeference("EPSG:4326", (0.01, 0.0, 5.0, 0.0, -0.01, 48.0))


def coarse_tif(crs="EPSG:4326", transform=COARSE_TRANSFORM, bands=1, **tags) -> bytes:
    values = np.linspace(280, 300, bands * 12, dtype=np.float32).reshape(bands, 3, 4)
    values[0, 0, 0] = np.nan
    return encode_geotiff(Raster(values, crs, transform, ("lst",) * bands, tags))


def factors_tif(transform=FINE.transform) -> bytes:
    values = np.random.default_rng(0).random((2, 30, 40), np.float32)
    return encode_geotiff(Raster(values, "EPSG:4326", transform, ("ndvi", "elevation")))


def test_a_coarse_raster_with_a_time_tag_is_a_whole_request():
    request = decode_geotiff_request({"coarse": coarse_tif(time="2020-10-02T18:30Z")}, LIMITS)
    assert request.arrays["coarse"].shape == (3, 4)
    assert np.isnan(request.arrays["coarse"][0, 0])
    assert str(request.arrays["time"]) == "2020-10-02T18:30Z"
    assert request.grids["coarse"].transform == COARSE_TRANSFORM


def test_factors_come_with_their_names_and_their_grid():
    request = decode_geotiff_request({"coarse": coarse_tif(), "factors": factors_tif()}, LIMITS)
    assert request.arrays["factors"].shape == (2, 30, 40)
    assert request.arrays["factor_names"].tolist() == ["ndvi", "elevation"]
    assert request.grids["factors"].transform == FINE.transform
    assert "time" not in request.arrays


def test_a_reply_keeps_values_gaps_numbers_meta_and_place():
    lst = np.linspace(280, 300, 1200, dtype=np.float32).reshape(30, 40)
    lst[3, 4] = np.nan
    flags = np.arange(1200, dtype=np.uint8).reshape(30, 40) % 32
    result = {
        "flags": flags,
        "lst": lst,
        "closure": 0.25,
        "n": np.float32("nan"),
        "k": np.zeros((1, 4)),
        "meta": {"unit": "K"},
    }
    body = encode_geotiff_reply(result, FINE)
    got = decode_geotiff_reply(body, LIMITS)
    np.testing.assert_array_equal(got["lst"], lst)
    np.testing.assert_array_equal(got["flags"], flags)
    assert got["flags"].dtype == np.uint8
    assert got["closure"] == 0.25
    assert np.isnan(got["n"])
    said = {"unit": "K", "left_out": ["k"], "georeferenced": True, "encoding": "float32", "rounded_to": None}
    assert json.loads(str(got["meta"])) == said
    raster = decode_geotiff(body, max_pixels=10_000)
    assert raster.names == ("lst", "flags")
    assert (raster.crs, raster.transform) == (FINE.crs, FINE.transform)


def test_a_reply_without_a_place_says_so_and_is_read_all_the_same():
    got = decode_geotiff_reply(
        encode_geotiff_reply({"lst": np.full((2, 3), 300.0, np.float32), "meta": {}}, None), LIMITS
    )
    assert json.loads(str(got["meta"]))["georeferenced"] is False
    np.testing.assert_array_equal(got["lst"], np.full((2, 3), 300.0))


def test_factors_on_other_ground_are_refused_with_both_grids():
    shifted = factors_tif((0.01, 0.0, 5.02, 0.0, -0.01, 48.0))
    with pytest.raises(InvalidInput, match=r"do not cover the same ground.*5\.02.*shape \[3, 4\]"):
        decode_geotiff_request({"coarse": coarse_tif(), "factors": shifted}, LIMITS)


def test_a_raster_without_crs_is_refused():
    with pytest.raises(InvalidInput, match="coarse has no CRS"):
        decode_geotiff_request({"coarse": coarse_tif(crs=NO_CRS)}, LIMITS)


def test_two_coarse_bands_are_refused():
    with pytest.raises(InvalidInput, match="coarse has 2 bands of 3 x 4 pixels, at most 1 bands"):
        decode_geotiff_request({"coarse": coarse_tif(bands=2)}, LIMITS)


@pytest.mark.parametrize("names", [["factors"], ["coarse", "fine"], []])
def test_other_parts_are_refused(names):
    with pytest.raises(InvalidInput, match="needed coarse and optionally factors"):
        decode_geotiff_request({name: coarse_tif() for name in names}, LIMITS)


def test_a_raster_above_the_limits_is_refused():
    with pytest.raises(InvalidInput, match="bytes, at most 100"):
        decode_geotiff_request({"coarse": coarse_tif()}, Limits(max_body_bytes=100))
    with pytest.raises(InvalidInput, match="at most 1 bands of 11 pixels"):
        decode_geotiff_request({"coarse": coarse_tif()}, Limits(max_pixels=11))


def sparse_tif(bands: int, side: int) -> bytes:
    """A file of a few hundred bytes that declares bands of side x side pixels and holds none of them."""
    size = {"count": bands, "height": side, "width": side, "dtype": "uint8", "blockxsize": 4096, "blockysize": 4096}
    place = {"crs": "EPSG:4326", "transform": rasterio.Affine(*COARSE_TRANSFORM)}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", sparse_ok=True, tiled=True, **size, **place):
            pass
        return bytes(memory.read())


@pytest.mark.parametrize(
    ("part", "bands", "side", "says"),
    [
        ("coarse", 20, 5000, "coarse has 20 bands of 5000 x 5000 pixels, at most 1 bands"),
        ("coarse", 1, 5000, "coarse inflates from .* to 100000000 bytes, more than 200 times"),
        ("factors", 20, 5000, "factors inflates from .* to 2000000000 bytes.* at most 268435456 are allowed"),
    ],
)
def test_a_raster_that_inflates_too_much_is_refused_before_a_band_is_read(part, bands, side, says):
    parts = {"coarse": coarse_tif(), part: sparse_tif(bands, side)}
    assert len(parts[part]) < 2000
    tracemalloc.start()
    with pytest.raises(InvalidInput, match=says):
        decode_geotiff_request(parts, LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_small_empty_raster_may_inflate_any_number_of_times():
    request = decode_geotiff_request({"coarse": sparse_tif(1, 1000)}, LIMITS)
    assert request.arrays["coarse"].shape == (1000, 1000)


def test_rasters_share_the_budget_of_their_request():
    parts, sizes = {"coarse": coarse_tif(), "factors": factors_tif()}, 4 * 12 + 4 * 2400
    decode_geotiff_request(parts, Limits(max_inflated_bytes=sizes))
    with pytest.raises(InvalidInput, match=f"factors inflates .* all parts so far to {sizes}, at most {sizes - 1}"):
        decode_geotiff_request(parts, Limits(max_inflated_bytes=sizes - 1))
    budget = InflatedBudget(Limits(max_inflated_bytes=sizes))
    budget.charge("the .npz before", 1, 1)
    with pytest.raises(InvalidInput, match="factors inflates"):
        decode_geotiff_request(parts, LIMITS, budget)


def test_a_reply_inflates_within_the_limits_too():
    body = encode_geotiff_reply({"lst": np.full((20, 30), 300.0, np.float32), "meta": {}}, FINE)
    with pytest.raises(InvalidInput, match=r"the reply inflates from .* to 2400 bytes.*at most 2399"):
        decode_geotiff_reply(body, Limits(max_inflated_bytes=2399))


def test_a_geotiff_of_someone_else_is_no_reply():
    with pytest.raises(InvalidInput, match=META_TAG):
        decode_geotiff_reply(coarse_tif(), LIMITS)
