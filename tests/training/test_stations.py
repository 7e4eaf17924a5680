"""Towers: what a CSV may look like, where and when they are compared, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Georeference, Series
from thermoscale.geo.datasets import write_series
from thermoscale.geo.rasters import read_raster
from thermoscale.testing.worlds import make_series
from thermoscale_train.cli import main
from thermoscale_train.evaluate_iustfm import StationTable, evaluate_iustfm
from thermoscale_train.scoring import load_schema
from thermoscale_train.stations import StationPlace, locate, read_towers, value_at

DEGREES = Georeference("EPSG:4326", (0.001, 0.0, 146.0, 0.0, -0.001, -34.8))
HALF_HOURS = "time,station,latitude,longitude,lst_k,other\n" + "\n".join(
    f"2016-02-05T0{hour}:00Z,{name},{latitude},146.2907,{300 + hour},x"
    for hour in range(3)
    for name, latitude in (("Yanco", -34.9893), ("Faraway", 12.0))
)
YANCO = StationPlace("Yanco", -34.9893, 146.2907, 10.0)


def written(folder: Path, text: str) -> Path:
    path = folder / "towers.csv"
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 399), st.integers(0, 399), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_a_tower_stands_in_the_pixel_that_holds_it(row: int, col: int, down: float, right: float) -> None:
    from thermoscale_train.stations import Tower

    place = (-34.8 - 0.001 * (row + down), 146.0 + 0.001 * (col + right))
    tower = Tower("t", *place, np.array(["2016-01-01"], "datetime64[m]"), np.array([300.0]))
    assert locate([tower], DEGREES, (400, 400)).pixels == ((row, col),)


def test_a_tower_outside_the_raster_is_named_and_skipped(tmp_path: Path) -> None:
    located = locate(read_towers(written(tmp_path, HALF_HOURS), StationPlace()), DEGREES, (400, 400))
    assert [tower.name for tower in located.towers] == ["Yanco"]
    assert located.pixels == ((189, 290),)
    assert located.skipped[0]["station"] == "Faraway"
    assert "outside the raster" in located.skipped[0]["reason"]


def test_a_value_between_two_measurements_is_linear_and_beyond_them_there_is_none(tmp_path: Path) -> None:
    tower = read_towers(written(tmp_path, HALF_HOURS), StationPlace())[0]
    assert tower.at("2016-02-05T01:15Z") == (pytest.approx(301.25), 15.0)
    assert tower.at("2016-02-05T02:00Z") == (302.0, 0.0)
    assert tower.at("2016-02-05T02:01Z") is None
    assert tower.at("2016-02-06T01:00Z") is None


def test_two_measurements_far_apart_say_nothing_about_the_time_between(tmp_path: Path) -> None:
    text = "time,lst_k\n2016-02-05T00:00Z,300\n2016-02-05T02:00Z,\n2016-02-05T04:00Z,304\n"
    assert read_towers(written(tmp_path, text), YANCO)[0].at("2016-02-05T01:00Z") is None


def test_local_times_need_the_offset_of_their_clock(tmp_path: Path) -> None:
    path = written(tmp_path, "local_time,lst_K\n2016-02-05 09:30,300.5\n")
    tower = read_towers(path, YANCO)[0]
    assert (str(tower.times[0]), tower.lst_k[0], tower.name) == ("2016-02-04T23:30", 300.5, "Yanco")
    with pytest.raises(InvalidInput, match="--station-utc-offset"):
        read_towers(path, StationPlace("Yanco", -34.9, 146.3))


def test_a_square_is_averaged_over_its_valid_pixels() -> None:
    image = np.arange(9, dtype=np.float32).reshape(3, 3)
    image[0, 0] = np.nan
    assert value_at(image, (1, 1), 1) == 4.0
    assert value_at(image, (1, 1), 3) == 4.5
    assert value_at(image, (2, 2), 3) == pytest.approx((4 + 5 + 7 + 8) / 4)
    assert np.isnan(value_at(image, (0, 0), 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,temperature\n", "needed time or local_time, and lst_k"),
        ("time,lst_k\n", "--station-at"),
        ("time,lst_k,latitude,longitude\n2016-02-05,warm,1,2\n", "line 2"),
        ("time,lst_k,latitude,longitude\nFebruary,300,1,2\n", "February"),
        ("time,lst_k,latitude,longitude\n2016-02-05,300,1,2\n2016-02-06,300,1,3\n", "several places"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_towers(written(tmp_path, text), StationPlace())


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read"):
        read_towers(tmp_path / "none.csv", YANCO)


def test_a_series_that_lies_nowhere_has_no_stations() -> None:
    with pytest.raises(InvalidInput, match="fine_crs"):
        locate([], None, (4, 4))


def test_towers_are_compared_on_targets_and_on_dates_without_a_fine_scene(tmp_path: Path) -> None:
    series = make_series(2, fine_shape=(36, 36), scale_factor=6, n_dates=9).series
    rows = [f"{time},P,47.83,99.0201,290" for time in series.coarse_time]
    path = written(tmp_path, "\n".join(["time,station,latitude,longitude,lst_k", *rows]))
    result = evaluate_iustfm(series, methods=["bilinear", "oracle_alpha"], stations=StationTable(path, YANCO, 3))
    jsonschema.validate(json.loads(json.dumps(result, allow_nan=False)), load_schema())
    stations = result["stations"]
    target = result["settings"]["targets"][0]
    without_fine = set(series.coarse_time) - set(series.fine_time)
    assert {row["time"] for row in stations["rows"] if row["method"] == "bilinear"} == {target, *without_fine}
    assert {row["time"] for row in stations["rows"] if row["method"] == "oracle_alpha"} == {target}
    assert stations["rows"][0]["difference"] == pytest.approx(stations["rows"][0]["value"] - 290)
    with pytest.raises(InvalidInput, match="odd"):
        evaluate_iustfm(series, stations=StationTable(path, YANCO, 2))


def test_a_tower_outside_is_named_even_where_nothing_else_can_be_judged(tmp_path: Path) -> None:
    series = make_series(2, fine_shape=(36, 36), scale_factor=6, n_dates=9).series
    two = series.select_fine([series.fine_time[0], series.fine_time[-1]])
    rows = [f"{time},Faraway,0,0,290" for time in series.coarse_time]
    path = written(tmp_path, "\n".join(["time,station,latitude,longitude,lst_k", *rows]))
    with pytest.raises(Undetermined, match=r"no target.*tower Faraway: outside the raster: .* beyond its CRS"):
        evaluate_iustfm(two, methods=["bilinear"], stations=StationTable(path, YANCO))


def test_the_table_without_targets_names_excluded_dates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series = make_series(2, fine_shape=(36, 36), scale_factor=6, n_dates=9).series
    fine = series.fine.copy()
    fine[1] = np.nan
    write_series(tmp_path / "s.npz", replace(series, fine=fine))
    rows = [f"{time},P,47.83,99.0201,290" for time in series.coarse_time]
    path = written(tmp_path, "\n".join(["time,station,latitude,longitude,lst_k", *rows]))
    words = [
        "evaluate",
        "iustfm",
        "--series",
        str(tmp_path / "s.npz"),
        "--methods",
        "bilinear",
        "--stations",
        str(path),
    ]
    assert main(words) == 0
    assert f"1 scenes excluded\n  {series.fine_time[1]}: fine coverage 0.000" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--station-window", "5"])


def test_the_yanco_tower_is_compared_although_no_date_can_be_held_out(data_folder: Path) -> None:
    """One of its two fine dates has a bad coarse partner, so the towers alone judge 2016-02-18."""
    folder = data_folder / "yanco_100m"

    def read(name: str) -> np.ndarray:
        return np.asarray(read_raster(folder / name).values[0])

    times = ["2016-02-05T00:15Z", "2016-02-18T00:15Z", "2016-03-08T00:15Z"]
    dates = ["20160205", "20160218", "20160308"]
    place = read_raster(folder / "MOD11A1_LST_cloudrm_20160218.tif")
    series = Series.from_arrays(
        {
            "coarse": np.stack([read(f"MOD11A1_LST_cloudrm_{date}.tif")[4::10, 4::10] for date in dates]),
            "coarse_time": times,
            "fine": np.stack([read(f"Landsat_LST_cloudrm_{date}.tif") for date in (dates[0], dates[2])]),
            "fine_time": [times[0], times[2]],
            "fine_crs": place.crs,
            "fine_transform": np.array(place.transform),
        }
    )
    table = StationTable(folder / "yanco_insitu_lst_overpass_rows.csv", YANCO, 3)
    result = evaluate_iustfm(series, methods=["bilinear", "fdc_nearest", "iustfm_closed_form"], stations=table)
    jsonschema.validate(json.loads(json.dumps(result, allow_nan=False)), load_schema())
    assert [item["id"] for item in result["excluded"]] == ["2016-03-08T00:15Z"]
    rows = {row["method"]: row for row in result["stations"]["rows"]}
    assert rows["bilinear"]["time"] == "2016-02-18T00:15Z"
    assert abs(rows["fdc_nearest"]["difference"]) < 10.0
    assert rows["iustfm_closed_form"]["value"] is None
