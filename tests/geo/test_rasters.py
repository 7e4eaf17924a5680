"""GeoTIFF in and out."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio import Affine

from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.geo.gdal import georeference_checked_by_us
from thermoscale.geo.rasters import (
    NO_CRS,
    Raster,
    decode_geotiff,
    encode_geotiff,
    is_geotiff,
    read_raster,
    write_raster,
)

UTM = "EPSG:32611"
TRANSFORM = (70.0, 0.0, 649980.0, 0.0, -70.0, 3659840.0)
SINUSOIDAL = (
    'PROJCS["MODIS sinusoidal",GEOGCS["unknown",DATUM["unknown",SPHEROID["unknown",6371007.181,0]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Sinusoidal"],'
    'PARAMETER["longitude_of_center",0],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)
VALUES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(-1e9, 1e9, width=32) | st.just(np.float32(np.nan)),
)
NUMBERS = st.floats(-1e6, 1e6)
TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=8)
PIXELS = 10_000
# rasterio drops messages of GDAL that quote bytes which are no UTF-8, and reports that as an unraisable exception.
GDAL_MESSAGES = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def scene(height=8, width=9, crs=UTM) -> Raster:
    values = np.random.default_rng(0).normal(300, 5, (1, height, width)).astype(np.float32)
    return Raster(values, crs, TRANSFORM, ("lst",))


def foreign(values, *, nodata=None, scale=1.0, offset=0.0, mask=None, **profile) -> bytes:
    """A one-band GeoTIFF written by rasterio alone."""
    place = {"crs": UTM, "transform": Affine(30, 0, 0, 0, -30, 0)}
    height, width = values.shape
    with rasterio.MemoryFile() as memory:
        options = {"count": 1, "height": height, "width": width, "dtype": values.dtype, "nodata": nodata}
        with memory.open(driver="GTiff", **{**options, **place, **profile}) as dataset:
            dataset.write(values, 1)
            dataset.scales, dataset.offsets = (scale,), (offset,)
            if mask is not None:
                dataset.write_mask(mask)
        return bytes(memory.read())


def decode(body: bytes) -> Raster:
    return decode_geotiff(body, max_pixels=PIXELS)


@given(
    VALUES,
    st.sampled_from([UTM, "EPSG:4326", "EPSG:3857"]),
    st.tuples(st.floats(0.1, 1000), NUMBERS, NUMBERS, NUMBERS, st.floats(-1000, -0.1), NUMBERS),
    st.dictionaries(st.from_regex(r"\A[A-Z]{1,8}\Z"), TEXT, max_size=3),
    st.data(),
)
@settings(deadline=None, max_examples=40)
def test_decode_after_encode_keeps_values_gaps_place_names_and_tags(values, crs, transform, tags, data):
    names = tuple(data.draw(st.lists(TEXT, min_size=len(values), max_size=len(values))))
    got = decode(encode_geotiff(Raster(values, crs, transform, names, tags)))
    np.testing.assert_array_equal(got.values, values)
    assert got.values.dtype == np.float32
    assert (got.crs, got.names, got.tags) == (crs, names, tags)
    np.testing.assert_allclose(got.transform, transform, rtol=1e-12)


@pytest.mark.parametrize("crs", [UTM, SINUSOIDAL])
def test_read_after_write_keeps_the_raster_and_a_second_time_too(tmp_path, crs):
    write_raster(tmp_path / "a.tif", scene(crs=crs))
    first = read_raster(tmp_path / "a.tif")
    write_raster(tmp_path / "a.tif", first)
    second = read_raster(tmp_path / "a.tif")
    assert first.grid == second.grid
    np.testing.assert_array_equal(second.values, scene().values)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_large_raster_is_cut_into_tiles_that_gis_programs_read_in_part(tmp_path):
    write_raster(tmp_path / "a.tif", scene(300, 310))
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.block_shapes == [(256, 256)]
        assert dataset.descriptions == ("lst",)
        assert np.isnan(dataset.nodata)
    np.testing.assert_array_equal(read_raster(tmp_path / "a.tif").values, scene(300, 310).values)


def test_codes_keep_every_value_within_half_a_step_and_zeros_of_counts():
    values = np.random.default_rng(0).uniform(200, 350, (2, 20, 30)).astype(np.float32)
    values[1] = np.rint(values[1]) - 200
    values[0, 3, 4], values[1, 0, 0] = np.nan, 0
    body = encode_geotiff(Raster(values, UTM, scene().transform, ("lst", "flags")), steps=(0.01, 1.0))
    got = decode(body)
    np.testing.assert_allclose(got.values[0], values[0], atol=0.00502)
    np.testing.assert_array_equal(got.values[1], values[1])
    with rasterio.MemoryFile(body) as memory, memory.open() as dataset:
        assert dataset.dtypes == ("uint16", "uint16")
        assert (dataset.scales, dataset.offsets, dataset.nodata) == ((0.01, 1.0), (0.0, 0.0), 65535)


@pytest.mark.parametrize("value", [-0.01, 655.36, np.inf])
def test_a_value_that_is_no_code_is_refused_and_named(value):
    with pytest.raises(InvalidInput, match=r"lst holds .*: ask for float32"):
        encode_geotiff(Raster(np.full((1, 2, 2), value, np.float32), UTM, scene().transform, ("lst",)), steps=(0.01,))


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_a_truncated_file_is_refused(cut):
    body = encode_geotiff(scene(20, 20))
    with pytest.raises(InvalidInput, match="is not a complete GeoTIFF"):
        decode(body[: len(body) - 1 - cut])


def test_a_nodata_tag_beyond_the_end_is_refused_since_gdal_would_drop_it(tmp_path):
    body = bytearray(foreign(np.array([[300.0, -9999.0]], np.float32), nodata=-9999.0))
    entry = body.rindex(b"\x81\xa4\x02\x00")  # tag 42113 (GDAL_NODATA), type text
    body[entry + 8 : entry + 12] = (len(body) - 2).to_bytes(4, "little")
    with rasterio.MemoryFile(bytes(body)) as memory, memory.open() as dataset:
        assert dataset.nodata is None
        assert dataset.read().min() == -9999.0
    (tmp_path / "a.tif").write_bytes(body)
    for read in (lambda: decode(bytes(body)), lambda: read_raster(tmp_path / "a.tif")):
        with pytest.raises(InvalidInput, match="value of tag 42113 lies beyond the end"):
            read()


@pytest.mark.parametrize(
    "options", [{"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {"BIGTIFF": "YES", "ENDIANNESS": "BIG"}]
)
def test_all_four_kinds_of_tiff_are_read_and_their_truncations_refused(options):
    values = np.arange(400, dtype=np.float32).reshape(20, 20)
    body = foreign(values, **options)
    np.testing.assert_array_equal(decode(body).values[0], values)
    for cut in range(1, len(body), 97):
        with pytest.raises(InvalidInput):
            decode(body[:-cut])


def test_directories_in_a_circle_are_refused():
    body = bytearray(encode_geotiff(scene()))
    first = int.from_bytes(body[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(body[first : first + 2], "little")
    body[end : end + 4] = body[4:8]
    with pytest.raises(InvalidInput, match="more than 64 TIFF directories"):
        decode(bytes(body))


@GDAL_MESSAGES
@given(st.integers(0, 599), st.integers(0, 7))
@settings(deadline=None, max_examples=100)
def test_a_flipped_bit_is_refused_or_gives_a_raster(position, bit):
    body = bytearray(encode_geotiff(scene()))
    body[position % len(body)] ^= 1 << bit
    with contextlib.suppress(InvalidInput):
        assert decode(bytes(body)).values.size <= PIXELS * 64


@GDAL_MESSAGES
@given(st.binary(max_size=200), st.sampled_from([b"", b"II*\x00", b"MM\x00*", b"II+\x00\x08\x00\x00\x00"]))
@settings(deadline=None, max_examples=40)
def test_any_bytes_are_refused(content, magic):
    with pytest.raises(InvalidInput):
        decode(magic + content)


def test_other_formats_of_gdal_are_refused_since_they_may_name_other_files():
    vrt = b'<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    assert not is_geotiff(vrt)
    with pytest.raises(InvalidInput, match="not a GeoTIFF"):
        decode(vrt)


def test_a_vrt_on_disk_is_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(b'<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    with pytest.raises(InvalidInput, match=r"a\.tif .*not a complete GeoTIFF"):
        read_raster(tmp_path / "a.tif")


def test_nodata_of_floats_and_integers_becomes_nan():
    floats = np.array([[300.0, -3.4e38], [301.0, np.nan]], np.float32)
    np.testing.assert_array_equal(decode(foreign(floats, nodata=-3.4e38)).values[0], [[300, np.nan], [301, np.nan]])
    integers = np.array([[15000, 0]], np.uint16)
    got = decode(foreign(integers, nodata=0, scale=0.02)).values
    np.testing.assert_allclose(got[0], [[300.0, np.nan]])


def test_scale_and_offset_are_applied():
    got = decode(foreign(np.array([[44000, 0]], np.uint16), nodata=0, scale=0.00341802, offset=149.0))
    np.testing.assert_allclose(got.values[0], [[299.39288, np.nan]], rtol=1e-6)


def test_a_mask_band_becomes_nan():
    mask = np.array([[255, 0]], np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        body = foreign(np.array([[300.0, 301.0]], np.float32), mask=mask)
    np.testing.assert_array_equal(decode(body).values[0], [[300.0, np.nan]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fill_value_without_its_tag_is_refused_and_named(dtype):
    with pytest.raises(InvalidInput, match=r"band_1 holds -3\.4e\+38 in 1 pixels and no nodata tag"):
        decode(foreign(np.array([[300.0, -3.4e38]], dtype)))


def test_a_file_without_crs_or_transform_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="has no CRS"):
        decode(encode_geotiff(scene(crs=NO_CRS)))
    write_raster(tmp_path / "a.tif", scene(crs=NO_CRS))
    with pytest.raises(InvalidInput, match=r"a\.tif has no CRS"):
        read_raster(tmp_path / "a.tif")
    with georeference_checked_by_us():
        nowhere = foreign(np.ones((2, 2), np.float32), transform=Affine.identity())
    with pytest.raises(InvalidInput, match="has no transform"):
        decode(nowhere)


@pytest.mark.parametrize("numbers", [(3, 3, 0, 3, 3, 0), (1e200, 0, 0, 0, -1, 0), (np.inf, 1, 0, 0, -1, 0)])
def test_a_transform_whose_pixels_are_nowhere_is_refused(numbers):
    with pytest.raises(InvalidInput, match="pixels without area, or beyond every map"):
        decode(foreign(scene().values[0], transform=Affine(*numbers)))


def test_a_file_without_crs_is_read_where_that_is_asked_for():
    got = decode_geotiff(encode_geotiff(scene(crs=NO_CRS)), max_pixels=PIXELS, georeferenced=False)
    assert got.crs == NO_CRS
    np.testing.assert_array_equal(got.values, scene().values)


def test_a_file_that_declares_more_pixels_or_bands_than_allowed_is_refused_unread():
    with rasterio.MemoryFile() as memory:
        size = {"width": 50_000, "height": 40_000, "count": 1, "dtype": "float32"}
        with memory.open(driver="GTiff", crs=UTM, transform=Affine(30, 0, 0, 0, -30, 0), sparse_ok=True, **size):
            pass
        body = bytes(memory.read())
    assert len(body) < 2**21
    with pytest.raises(InvalidInput, match="1 bands of 40000 x 50000 pixels, at most 64 bands of 10000 pixels"):
        decode(body)
    with pytest.raises(InvalidInput, match="at most 0 bands"):
        decode_geotiff(encode_geotiff(scene()), max_pixels=PIXELS, max_bands=0)


def test_complex_bands_are_refused():
    with pytest.raises(InvalidInput, match="needed real numbers"):
        decode(foreign(np.ones((2, 2), np.complex64)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"none\.tif"):
        read_raster(tmp_path / "none.tif")


def test_an_unknown_crs_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(InvalidInput, match="CRS 'mars'"):
        write_raster(tmp_path / "a.tif", scene(crs="mars"))
    assert list(tmp_path.iterdir()) == []


def test_values_and_names_must_fit():
    with pytest.raises(InvalidInput, match=r"\[1, 8, 9\] and 2 names"):
        Raster(scene().values, UTM, TRANSFORM, ("a", "b"))


def test_a_killed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom thermoscale.geo.atomic import write_atomically\n"
        "with write_atomically(Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'new'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_a_missing_rasterio_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(Unavailable, match=r"thermoscale\[geo\].*libexpat"):
        read_raster(Path("a.tif"))


@pytest.mark.data
def test_the_fill_value_of_yanco_is_nan_with_its_tag_and_refused_without(data_folder, tmp_path):
    source = data_folder / "yanco_100m" / "Landsat_LST_cloudrm_20160205.tif"
    values = read_raster(source).values
    assert np.isnan(values).sum() == 1
    assert np.nanmin(values) > 290
    with rasterio.open(source) as dataset:
        profile, stored = dataset.profile, dataset.read()
    with rasterio.open(tmp_path / "a.tif", "w", **{**profile, "nodata": None}) as dataset:
        dataset.write(stored)
    with pytest.raises(InvalidInput, match="undeclared fill value"):
        read_raster(tmp_path / "a.tif")
