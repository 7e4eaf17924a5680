"""Series and Pairs: what is read comes back; everything else is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.formats import Pairs, Series, format_time, parse_time
from thermoscale.numerics.grids import regular_index

LAW = settings(max_examples=50, deadline=None)
UTM = "EPSG:32611"
NORTH_UP = (30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0)


def series_arrays(**changes: Any) -> dict[str, Any]:
    """Three coarse dates, fine scenes on the first and the last; h, w = 2, 3 and H, W = 4, 6."""
    arrays: dict[str, Any] = {
        "coarse": np.linspace(280, 300, 18, dtype=np.float32).reshape(3, 2, 3),
        "coarse_time": ["2020-01-01T10:30Z", "2020-01-05", "2020-02-01T10:30Z"],
        "fine": np.linspace(280, 300, 48, dtype=np.float32).reshape(2, 4, 6),
        "fine_time": ["2020-01-01T10:30Z", "2020-02-01T10:30Z"],
    }
    return arrays | changes


def full_series_arrays() -> dict[str, Any]:
    return series_arrays(
        coarse_index=np.full((4, 6), -1, np.int32) + np.arange(6, dtype=np.int32),
        fine_crs=UTM,
        fine_transform=NORTH_UP,
        coarse_crs="EPSG:4326",
        coarse_transform=[0.01, 0.0, -116.0, 0.0, -0.01, 36.0],
        quantity="lst",
        coarse_error=[0.5, 1.0, 2.0],
        coarse_local_hour=[10.5, 12.0, 10.5],
        fine_local_hour=[10.5, 10.5],
    )


def pairs_arrays(**changes: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "coarse": np.linspace(280, 300, 12, dtype=np.float32).reshape(3, 2, 2),
        "fine": np.linspace(280, 300, 108, dtype=np.float32).reshape(3, 6, 6),
        "factors": np.linspace(-1, 1, 216, dtype=np.float32).reshape(3, 2, 6, 6),
        "factor_names": ["ndvi", "elevation"],
        "factor_units": ["1", "m"],
        "group": [4, 4, 7],
        "corner": [[0, 0], [0, 1], [9, 9]],
        "id": ["a", "b", "c"],
        "time": ["2020-01-01", "2020-01-02", "2020-01-03"],
        "crs": UTM,
        "transform": NORTH_UP,
    }
    return arrays | changes


minutes = st.integers(min_value=-30_000_000, max_value=200_000_000)  # 1912 to 2350


@LAW
@given(minutes)
def test_parsing_a_formatted_time_gives_the_moment(minute: int) -> None:
    moment = np.datetime64(minute, "m")
    assert parse_time(format_time(moment)) == moment


@LAW
@given(minutes, minutes)
def test_formatted_times_sort_like_their_moments(first: int, second: int) -> None:
    a, b = format_time(np.datetime64(first, "m")), format_time(np.datetime64(second, "m"))
    assert (a < b) == (first < second)


def test_a_bare_date_means_noon() -> None:
    assert format_time(parse_time("2020-10-02")) == "2020-10-02T12:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2020",
        "2020-10",
        "20201002",
        "2020-13-01",
        "2021-02-29",
        "2020-10-02T24:30Z",
        "2020-10-02T18:30",
        "2020-10-02T18:30+02:00",
        "2020-10-02T18:30:00Z",
        "2020-10-02 18:30Z",
        "2020-10-02\n",
        "٢٠٢٠-10-02",
        "NaT",
        "now",
    ],
)
def test_other_time_syntax_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match="2020-10-02T18:30Z"):
        parse_time(text)


@pytest.mark.parametrize("arrays", [series_arrays(), full_series_arrays()], ids=["needed keys", "all keys"])
def test_a_series_survives_its_arrays(arrays: dict[str, Any]) -> None:
    once = Series.from_arrays(arrays).to_arrays()
    again = Series.from_arrays(once).to_arrays()
    assert set(arrays) <= set(once)
    assert once.keys() == again.keys()
    for name, value in once.items():
        np.testing.assert_array_equal(value, again[name])
        assert value.dtype.kind in "fiU", f"{name} would need pickle"


def test_pairs_survive_their_arrays() -> None:
    once = Pairs.from_arrays(pairs_arrays()).to_arrays()
    again = Pairs.from_arrays(once).to_arrays()
    assert once.keys() == pairs_arrays().keys() == again.keys()
    for name, value in once.items():
        np.testing.assert_array_equal(value, again[name])
        assert value.dtype.kind in "fiU", f"{name} would need pickle"


def test_without_index_the_blocks_are_regular() -> None:
    series = Series.from_arrays(series_arrays())
    np.testing.assert_array_equal(series.coarse_index, regular_index((2, 3), (4, 6)))
    assert series.coarse_index.dtype == np.int32


def test_a_given_index_is_kept() -> None:
    arrays = full_series_arrays()
    np.testing.assert_array_equal(Series.from_arrays(arrays).coarse_index, arrays["coarse_index"])


def test_scenes_are_found_by_any_spelling_of_their_time() -> None:
    series = Series.from_arrays(series_arrays())
    np.testing.assert_array_equal(series.coarse_at("2020-01-05T12:00Z"), series.coarse[1])
    np.testing.assert_array_equal(series.coarse_at("2020-01-05"), series.coarse[1])
    np.testing.assert_array_equal(series.fine_at("2020-02-01T10:30Z"), series.fine[1])
    with pytest.raises(InvalidInput, match="no fine scene of 2020-01-05T12:00Z"):
        series.fine_at("2020-01-05")


def test_a_held_out_time_leaves_no_trace() -> None:
    series = Series.from_arrays(full_series_arrays())
    rest = series.without("2020-01-01T10:30Z")
    assert rest.coarse_time == series.coarse_time[1:]
    assert rest.fine_time == series.fine_time[1:]
    np.testing.assert_array_equal(rest.coarse, series.coarse[1:])
    np.testing.assert_array_equal(rest.fine, series.fine[1:])
    assert rest.coarse_error is not None
    assert rest.coarse_local_hour is not None
    assert rest.fine_local_hour is not None
    np.testing.assert_array_equal(rest.coarse_error, [1.0, 2.0])
    np.testing.assert_array_equal(rest.coarse_local_hour, [12.0, 10.5])
    np.testing.assert_array_equal(rest.fine_local_hour, [10.5])
    assert series.coarse.shape[0] == 3, "the series itself stays as it was"


def test_a_time_with_only_a_coarse_scene_can_be_left_out() -> None:
    rest = Series.from_arrays(series_arrays()).without("2020-01-05")
    assert len(rest.coarse_time) == 2
    assert len(rest.fine_time) == 2


def test_selected_fine_scenes_come_in_the_order_asked_for() -> None:
    series = Series.from_arrays(series_arrays())
    chosen = series.select_fine(["2020-02-01T10:30Z", "2020-01-01T10:30Z"])
    np.testing.assert_array_equal(chosen.fine, series.fine[::-1])
    assert chosen.fine_time == series.fine_time[::-1]
    assert chosen.coarse_time == series.coarse_time


def test_georeferences_are_whole_or_absent() -> None:
    bare, full = Series.from_arrays(series_arrays()), Series.from_arrays(full_series_arrays())
    assert bare.fine_georeference is None
    assert bare.coarse_georeference is None
    assert full.fine_georeference is not None
    assert full.fine_georeference.crs == UTM
    assert full.fine_georeference.transform == NORTH_UP
    assert full.coarse_georeference is not None
    assert full.coarse_georeference.crs == "EPSG:4326"


def test_a_subset_of_pairs_takes_every_column_along() -> None:
    pairs = Pairs.from_arrays(pairs_arrays())
    few = pairs.subset([2, 0])
    assert len(few) == 2
    assert few.id == ("c", "a")
    assert few.group == ("7", "4")
    assert few.time == ("2020-01-03T12:00Z", "2020-01-01T12:00Z")
    assert few.factor_names == pairs.factor_names
    for name in ("coarse", "fine", "factors", "corner", "transform"):
        np.testing.assert_array_equal(getattr(few, name), getattr(pairs, name)[[2, 0]])


def test_the_scale_factor_need_not_be_whole() -> None:
    arrays = {"coarse": np.full((1, 2, 2), 290.0), "fine": np.full((1, 5, 5), 290.0)}
    assert Pairs.from_arrays(arrays).scale_factor == 2.5


def test_factors_alone_fix_the_fine_grid() -> None:
    arrays = pairs_arrays()
    del arrays["fine"]
    assert Pairs.from_arrays(arrays).scale_factor == 3.0
    with pytest.raises(InvalidInput, match="neither fine nor factors"):
        _ = Pairs.from_arrays({"coarse": arrays["coarse"]}).scale_factor


def test_each_scene_of_pairs_may_have_its_own_transform() -> None:
    shifted = [NORTH_UP, (30.0, 0.0, 0.0, 0.0, -30.0, 0.0), NORTH_UP]
    pairs = Pairs.from_arrays(pairs_arrays(transform=shifted))
    georeference = pairs.fine_georeference(1)
    assert georeference is not None
    assert georeference.transform == shifted[1]


def test_a_single_date_may_be_all_nan_but_not_the_whole_stack() -> None:
    coarse = series_arrays()["coarse"].copy()
    coarse[1] = np.nan
    Series.from_arrays(series_arrays(coarse=coarse))
    with pytest.raises(InvalidInput, match="coarse is all NaN"):
        Series.from_arrays(series_arrays(coarse=np.full_like(coarse, np.nan)))


def test_reflectance_has_its_own_plausible_range() -> None:
    arrays = series_arrays(coarse=np.full((3, 2, 3), 0.3), fine=np.full((2, 4, 6), 0.3))
    assert Series.from_arrays(arrays | {"quantity": np.array("reflectance")}).quantity == "reflectance"
    with pytest.raises(InvalidInput, match="needed lst in K"):
        Series.from_arrays(arrays)


SERIES_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"fine_date": []}, r"unknown keys \['fine_date'\]; needed \['coarse', .*optional"),
    "Celsius": ({"coarse": np.full((3, 2, 3), 20.0)}, "coarse .*degrees Celsius"),
    "a fill value": ({"fine": np.full((2, 4, 6), -3.4e38)}, "fine ranges from -3.4e"),
    "infinite": ({"fine": np.full((2, 4, 6), np.inf)}, "fine holds 48 infinite"),
    "texts for pixels": ({"coarse": np.full((3, 2, 3), "x")}, "coarse has type"),
    "one coarse scene without a date axis": ({"coarse": np.full((2, 3), 290.0)}, r"\[Tc, h, w\]"),
    "no pixels": ({"fine": np.full((2, 0, 6), 290.0)}, "fine is empty"),
    "ragged lists": ({"coarse": [[[290.0], [290.0, 291.0]]]}, "coarse is not a regular array"),
    "too few times": ({"coarse_time": ["2020-01-01T10:30Z"]}, "coarse_time .*needed 3 texts"),
    "times that are numbers": ({"fine_time": [0.5, 1.5]}, "fine_time is float64"),
    "bad time syntax": ({"fine_time": ["2020-01-01T10:30Z", "yesterday"]}, "fine_time: time 'yesterday'"),
    "a coarse time twice": (
        {"coarse_time": ["2020-01-01T10:30Z", "2020-02-01T10:30Z", "2020-02-01T10:30Z"]},
        r"coarse_time names \['2020-02-01T10:30Z'\] more than once",
    ),
    "a fine time twice, spelt differently": (
        {"fine_time": ["2020-01-05", "2020-01-05T12:00Z"]},
        "fine_time names .* more than once",
    ),
    "a fine time without coarse partner": (
        {"fine_time": ["2020-01-01T10:30Z", "2020-02-01T10:31Z"]},
        r"\['2020-02-01T10:31Z'\] have no coarse scene",
    ),
    "an index beyond the last cell": ({"coarse_index": np.full((4, 6), 6)}, "6 to 6, needed -1"),
    "an index below -1": ({"coarse_index": np.full((4, 6), -2)}, "-2 to -2"),
    "an index without any cell": ({"coarse_index": np.full((4, 6), -1)}, "-1 to -1"),
    "an index of another shape": ({"coarse_index": np.zeros((6, 4), int)}, r"shape \[4, 6\]"),
    "an index with fractions": ({"coarse_index": np.zeros((4, 6))}, "whole numbers"),
    "an index too large for int32": ({"coarse_index": np.full((4, 6), 2**40)}, "too large for int32"),
    "a CRS alone": ({"fine_crs": UTM}, "fine_crs comes without fine_transform"),
    "a transform alone": ({"coarse_transform": NORTH_UP}, "coarse_transform comes without coarse_crs"),
    "a transform with nine numbers": (
        {"fine_crs": UTM, "fine_transform": [*NORTH_UP, 0.0, 0.0, 1.0]},
        r"fine_transform is float64 of shape \[9\]",
    ),
    "a transform without area": (
        {"fine_crs": UTM, "fine_transform": [0.0] * 6},
        "pixels without area",
    ),
    "an empty CRS": ({"fine_crs": "", "fine_transform": NORTH_UP}, "fine_crs .*one text"),
    "an unknown quantity": ({"quantity": "albedo"}, "'albedo', needed one of"),
    "a negative error": ({"coarse_error": [0.5, -0.5, 0.5]}, "coarse_error ranges from -0.5"),
    "an error that is NaN": ({"coarse_error": [0.5, np.nan, 0.5]}, "coarse_error .*finite"),
    "the 25th hour": ({"fine_local_hour": [10.0, 25.0]}, "fine_local_hour ranges from 10 to 25"),
}


@pytest.mark.parametrize("case", SERIES_REFUSALS)
def test_a_series_refuses(case: str) -> None:
    changes, message = SERIES_REFUSALS[case]
    with pytest.raises(InvalidInput, match=message):
        Series.from_arrays(series_arrays(**changes))


@pytest.mark.parametrize("key", ["coarse", "coarse_time", "fine", "fine_time"])
def test_a_missing_key_of_a_series_is_named(key: str) -> None:
    arrays = series_arrays()
    del arrays[key]
    with pytest.raises(InvalidInput, match=rf"missing keys \['{key}'\], unknown keys \[\]; needed .*optional"):
        Series.from_arrays(arrays)


def test_times_that_are_not_in_the_series_are_refused() -> None:
    series = Series.from_arrays(series_arrays())
    with pytest.raises(InvalidInput, match="no scene of 2021"):
        series.without("2021-01-01")
    with pytest.raises(InvalidInput, match="no fine scene of 2020-01-05"):
        series.select_fine(["2020-01-05"])
    with pytest.raises(InvalidInput, match="more than once"):
        series.select_fine(["2020-02-01T10:30Z", "2020-02-01T10:30Z"])


PAIRS_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"ndvi": 1}, r"unknown keys \['ndvi'\]; needed \['coarse'\], optional"),
    "another number of fine scenes": ({"fine": np.full((2, 6, 6), 290.0)}, r"needed \[3, H, W\]"),
    "Celsius": ({"fine": np.full((3, 6, 6), 20.0)}, "fine .*degrees Celsius"),
    "factors on another grid": ({"factors": np.zeros((3, 2, 4, 4))}, "fine is 6 x 6"),
    "factors that are infinite": ({"factors": np.full((3, 2, 6, 6), np.inf)}, "factor ndvi holds 108 infinite"),
    "too few factor names": ({"factor_names": ["ndvi"]}, "factor_names .*needed 2 texts"),
    "a factor twice": ({"factor_names": ["ndvi", "ndvi"]}, r"factor_names names \['ndvi'\] more than once"),
    "a stretched grid": ({"fine": np.full((3, 6, 8), 290.0), "factors": np.zeros((3, 2, 6, 8))}, "scale factor"),
    "a fine grid coarser than coarse": (
        {"fine": np.full((3, 1, 1), 290.0), "factors": np.zeros((3, 2, 1, 1))},
        "scale factor >= 1",
    ),
    "a corner with three numbers": ({"corner": np.zeros((3, 3), int)}, r"corner .*\[3, 2\]"),
    "a group for some scenes": ({"group": ["a"]}, "group .*needed 3 texts"),
    "a time nobody reads": ({"time": ["a", "b", "c"]}, "time: time 'a'"),
    "a transform for some scenes": ({"transform": [NORTH_UP] * 2}, r"transform .*\[3, 6\]"),
}


@pytest.mark.parametrize("case", PAIRS_REFUSALS)
def test_pairs_refuse(case: str) -> None:
    changes, message = PAIRS_REFUSALS[case]
    with pytest.raises(InvalidInput, match=message):
        Pairs.from_arrays(pairs_arrays(**changes))


@pytest.mark.parametrize("key", ["factors", "factor_names", "factor_units"])
def test_factors_come_with_names_and_units_or_not_at_all(key: str) -> None:
    arrays = pairs_arrays()
    del arrays[key]
    with pytest.raises(InvalidInput, match=f"without .*{key}.*all three or none"):
        Pairs.from_arrays(arrays)


def test_reading_leaves_the_given_arrays_alone() -> None:
    arrays = series_arrays()
    before = {name: np.array(value, copy=True) for name, value in arrays.items()}
    Series.from_arrays(arrays)
    for name, value in before.items():
        np.testing.assert_array_equal(value, arrays[name])


@pytest.mark.data
def test_the_real_pairs_are_read(data_folder: Path) -> None:
    with np.load(data_folder / "aster_modis_europe" / "pairs.npz") as file:
        pairs = Pairs.from_arrays(file)
    assert len(pairs) == 60
    assert pairs.scale_factor == 4.0
    assert pairs.factor_names == ("ndvi",)
