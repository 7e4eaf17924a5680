"""Series and Pairs on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs, Series
from thermoscale.geo.datasets import read_pairs, read_series, write_pairs, write_series
from thermoscale.geo.rasters import Raster, read_raster, write_raster
from thermoscale.numerics.grids import regular_index

FINE_TRANSFORM = (70.0, 0.0, 649980.0, 0.0, -70.0, 3659840.0)
COARSE_TRANSFORM = (210.0, 0.0, 649980.0, 0.0, -210.0, 3659840.0)
PLACE = {
    "fine_crs": "EPSG:32611",
    "fine_transform": FINE_TRANSFORM,
    "coarse_crs": "EPSG:32611",
    "coarse_transform": COARSE_TRANSFORM,
}


def series(seed=0, **extra) -> Series:
    rng = np.random.default_rng(seed)
    fine = rng.normal(300, 5, (2, 12, 15)).astype(np.float32)
    fine[rng.random(fine.shape) < 0.1] = np.nan
    coarse = rng.normal(300, 5, (3, 4, 5)).astype(np.float32)
    times = {
        "coarse_time": ["2020-10-02", "2020-10-03T18:30Z", "2020-10-09"],
        "fine_time": ["2020-10-02", "2020-10-09"],
    }
    return Series.from_arrays({"coarse": coarse, "fine": fine, **times, **PLACE, **extra})


def pairs(seed=0, **extra) -> Pairs:
    rng = np.random.default_rng(seed)
    arrays = {
        "coarse": rng.normal(300, 5, (2, 3, 4)),
        "fine": rng.normal(300, 5, (2, 6, 8)),
        "factors": rng.random((2, 2, 6, 8)),
        "factor_names": ["ndvi", "elevation"],
        "factor_units": ["1", "m"],
        "group": ["a", "b"],
        "corner": np.array([[0, 0], [10, 20]]),
        "id": ["s1", "s2"],
        "crs": "EPSG:32611",
        "transform": np.array([FINE_TRANSFORM, (70.0, 0.0, 0.0, 0.0, -70.0, 0.0)]),
    }
    arrays["factors"][0, 0, 0, 0] = np.nan
    return Pairs.from_arrays({**arrays, **extra})


def assert_equal(got, wanted):
    got, wanted = got.to_arrays(), wanted.to_arrays()
    assert got.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)
        assert got[name].dtype == array.dtype, name


@given(st.integers(0, 2**32 - 1), st.sampled_from(["s.npz", "s"]), st.booleans())
@settings(deadline=None, max_examples=15)
def test_read_after_write_gives_the_same_series(tmp_path_factory, seed, name, with_extras):
    extras = {"coarse_error": [0.5, 0.1, 0.7], "coarse_local_hour": [10.5, 11.0, 13.25], "fine_local_hour": [1.0, 2.0]}
    irregular = np.roll(regular_index((4, 5), (12, 15)), 1, axis=1)
    wanted = series(seed, **({**extras, "coarse_index": irregular} if with_extras else {}))
    path = tmp_path_factory.mktemp("series") / name
    write_series(path, wanted)
    assert_equal(read_series(path), wanted)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["p.npz", "p"]))
@settings(deadline=None, max_examples=15)
def test_read_after_write_gives_the_same_pairs(tmp_path_factory, seed, name):
    path = tmp_path_factory.mktemp("pairs") / name
    write_pairs(path, pairs(seed))
    assert_equal(read_pairs(path), pairs(seed))


def test_pairs_without_truth_or_without_factors_are_kept(tmp_path):
    whole = pairs()
    without_truth = replace(whole, fine=None)
    without_factors = replace(whole, factors=None, factor_names=None, factor_units=None)
    for name, wanted in {"a": without_truth, "b": without_factors}.items():
        write_pairs(tmp_path / name, wanted)
        assert_equal(read_pairs(tmp_path / name), wanted)


def test_a_series_without_place_goes_to_npz_only(tmp_path):
    nowhere = replace(series(), fine_crs=None, fine_transform=None)
    write_series(tmp_path / "s.npz", nowhere)
    assert_equal(read_series(tmp_path / "s.npz"), nowhere)
    with pytest.raises(InvalidInput, match=r"write an \.npz"):
        write_series(tmp_path / "s", nowhere)
    with pytest.raises(InvalidInput, match=r"write an \.npz"):
        write_pairs(tmp_path / "p", replace(pairs(), id=None))
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


def test_an_existing_folder_is_not_written_into(tmp_path):
    for write, data in ((write_series, series()), (write_pairs, pairs())):
        with pytest.raises(InvalidInput, match="exists"):
            write(tmp_path, data)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_series(tmp_path / "s", series())
    return tmp_path / "s"


def change_raster(path: Path, **changes) -> None:
    write_raster(path, replace(read_raster(path), **changes))


def test_grids_of_other_bounds_are_linked_by_their_transforms(folder):
    shifted = (210.0, 0.0, 649980.0 - 210.0, 0.0, -210.0, 3659840.0)
    for path in folder.glob("coarse_*.tif"):
        change_raster(path, transform=shifted)
    index = read_series(folder).coarse_index
    np.testing.assert_array_equal(index[:, :12], regular_index((4, 5), (12, 15))[:, :12] + 1)
    assert (index[:, 12:] == -1).all()


def test_one_scene_on_another_grid_is_refused_by_name(folder):
    change_raster(folder / "fine_2020-10-09T12:00Z.tif", transform=(70.0, 0.0, 650000.0, 0.0, -70.0, 3659840.0))
    with pytest.raises(InvalidInput, match=r"fine_2020-10-09T12:00Z\.tif is on another grid than fine_2020-10-02"):
        read_series(folder)


def test_a_fill_value_never_leaks(folder, tmp_path):
    scene = read_raster(folder / "fine_2020-10-02T12:00Z.tif").values.copy()
    scene[0, 0, 0] = -3.4e38
    change_raster(folder / "fine_2020-10-02T12:00Z.tif", values=scene)
    with pytest.raises(InvalidInput, match=r"fine_2020-10-02.*undeclared fill value"):
        read_series(folder)
    arrays = pairs().to_arrays()
    arrays["factors"] = arrays["factors"].copy()
    arrays["factors"][0, 0, 1, 1] = -3.4e38
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(InvalidInput, match=r"factors holds.*undeclared fill value"):
        read_pairs(tmp_path / "p.npz")


def test_smaller_fill_values_are_refused_by_the_plausible_range(folder):
    scene = read_raster(folder / "fine_2020-10-02T12:00Z.tif").values.copy()
    scene[0, 0, 0] = -9999
    change_raster(folder / "fine_2020-10-02T12:00Z.tif", values=scene)
    with pytest.raises(InvalidInput, match="fine ranges from -9999"):
        read_series(folder)


def test_unknown_files_keys_and_bands_are_refused(folder):
    change_raster(folder / "coarse_2020-10-03T18:30Z.tif", values=np.zeros((2, 4, 5), np.float32), names=("a", "b"))
    with pytest.raises(InvalidInput, match="has 2 bands, needed 1"):
        read_series(folder)
    (folder / "coarse_2020-10-03T18:30Z.tif").rename(folder / "other.tif")
    with pytest.raises(InvalidInput, match=r"unknown rasters \['other.tif'\]"):
        read_series(folder)
    (folder / "other.tif").unlink()
    (folder / "series.json").write_text('{"colour": 1}')
    with pytest.raises(InvalidInput, match=r"unknown keys \['colour'\]"):
        read_series(folder)
    (folder / "series.json").write_text('{"fine_crs": "EPSG:4326"}')
    with pytest.raises(InvalidInput, match="gives fine_crs, which is taken from the GeoTIFFs"):
        read_series(folder)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_json_file_that_is_no_object_is_refused(folder, text):
    (folder / "series.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"series\.json"):
        read_series(folder)


def test_missing_rasters_and_files_are_named(folder, tmp_path):
    for path in folder.glob("fine_*.tif"):
        path.unlink()
    with pytest.raises(InvalidInput, match=r"no fine_<time>\.tif"):
        read_series(folder)
    with pytest.raises(InvalidInput, match=r"series\.json"):
        read_series(tmp_path)
    (tmp_path / "pairs.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"no coarse_<id>\.tif"):
        read_pairs(tmp_path)
    with pytest.raises(InvalidInput, match=r"none\.npz"):
        read_pairs(tmp_path / "none.npz")


def test_a_broken_or_pickled_npz_is_refused(tmp_path):
    (tmp_path / "s.npz").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(InvalidInput, match=r"s\.npz"):
        read_series(tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", coarse=np.array([None], dtype=object))
    with pytest.raises(InvalidInput, match="pickle"):
        read_series(tmp_path / "s.npz")


def test_scenes_of_pairs_must_be_whole_and_alike(tmp_path):
    path = tmp_path / "p"
    write_pairs(path, pairs())
    raster = read_raster(path / "factors_s2.tif")
    change_raster(path / "factors_s2.tif", names=("elevation", "ndvi"))
    with pytest.raises(InvalidInput, match="differ in band names"):
        read_pairs(path)
    write_raster(path / "factors_s2.tif", replace(raster, transform=FINE_TRANSFORM))
    with pytest.raises(InvalidInput, match=r"factors_s2\.tif and coarse_s2\.tif do not cover the same ground"):
        read_pairs(path)
    (path / "factors_s2.tif").unlink()
    with pytest.raises(InvalidInput, match=r"scenes \['s2'\] have no coarse or no factors"):
        read_pairs(path)
    small = Raster(np.full((1, 2, 2), 300.0, np.float32), "EPSG:32611", FINE_TRANSFORM, ("lst",))
    write_raster(path / "coarse_s3.tif", small)
    with pytest.raises(InvalidInput, match="differ in shape of coarse"):
        read_pairs(path)


@pytest.mark.data
def test_the_saltonsea_series_is_read_and_written(data_folder, tmp_path):
    got = read_series(data_folder / "saltonsea_nir")
    assert got.coarse.shape == (92, 20, 20)
    assert got.fine.shape == (20, 140, 140)
    assert got.quantity == "reflectance"
    assert got.fine_crs == "EPSG:32611"
    assert got.fine_time[0] == "2020-10-02T12:00Z"
    np.testing.assert_array_equal(got.coarse_index, regular_index((20, 20), (140, 140)))
    few = got.select_fine(got.fine_time[:3])
    write_series(tmp_path / "s", few)
    assert_equal(read_series(tmp_path / "s"), few)


@pytest.mark.data
def test_the_aster_pairs_are_read(data_folder):
    got = read_pairs(data_folder / "aster_modis_europe" / "pairs.npz")
    assert got.coarse.shape == (60, 64, 64)
    assert got.factor_names == ("ndvi",)
    assert got.scale_factor == 4
