"""Rows of numbers for named areas."""

import csv
import io
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.geo.geojson import read_zones
from thermoscale.geo.rasters import Raster
from thermoscale.geo.zones import unit_of, zone_rows, zones_csv

CRS = "EPSG:32631"
SIDE, LEFT, TOP = 100.0, 500_000.0, 5_000_000.0
SHAPE = (30, 40)


def result(seed: int = 0, gaps: float = 0.0, transform=(SIDE, 0.0, LEFT, 0.0, -SIDE, TOP), crs: str = CRS) -> Raster:
    rng = np.random.default_rng(seed)
    values = rng.normal(300, 5, (2, *SHAPE)).astype(np.float32)
    values[1] = rng.uniform(0.5, 2, SHAPE)
    values[0, rng.random(SHAPE) < gaps] = np.nan
    return Raster(values, crs, transform, ("lst", "spread_k"))


def box(row: float, col: float, height: float, width: float) -> list[list[float]]:
    """A closed ring around pixels of the raster."""
    rows, cols = (row, row, row + height, row + height, row), (col, col + width, col + width, col, col)
    return [[LEFT + SIDE * c, TOP - SIDE * r] for r, c in zip(rows, cols, strict=True)]


def feature(name, *rings, kind="Polygon"):
    return {"type": "Feature", "properties": {"name": name}, "geometry": {"type": kind, "coordinates": list(rings)}}


def write(path, *features, crs: str | None = CRS):
    collection = {"type": "FeatureCollection", "features": list(features)}
    if crs:
        collection["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(collection))
    return path


def rows_of(tmp_path, raster, *features, crs: str | None = CRS, **options):
    return zone_rows(
        "result.tif", raster, read_zones(write(tmp_path / "z.geojson", *features, crs=crs), CRS), **options
    )


def inside_by_hand(rings, raster) -> np.ndarray:
    """Whether the centre of each pixel is inside, by counting the edges to its right."""
    a, b, c, d, e, f = raster.transform
    found = np.zeros(SHAPE, bool)
    for row in range(SHAPE[0]):
        for col in range(SHAPE[1]):
            x, y = a * (col + 0.5) + b * (row + 0.5) + c, d * (col + 0.5) + e * (row + 0.5) + f
            for ring in rings:
                for (x0, y0), (x1, y1) in pairwise(ring):
                    if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                        found[row, col] ^= True
    return found


corner = st.tuples(st.floats(2.003, 27.7), st.floats(2.003, 37.7))


@given(st.integers(0, 99), corner, corner, corner, st.floats(0, 0.6))
@settings(deadline=None, max_examples=25)
def test_a_zone_is_the_pixels_whose_centre_counting_edges_finds_inside(tmp_path_factory, seed, one, two, three, gaps):
    ring = [[LEFT + SIDE * col, TOP - SIDE * row] for row, col in (one, two, three, one)]
    hole = box(10, 10, 4.3, 4.3)
    area = abs(np.linalg.det(np.diff(np.array(ring[:3]), axis=0)))
    raster = result(seed, gaps)
    inside = inside_by_hand([ring, hole], raster)
    if area < 1.0 or not inside_by_hand([ring], raster).all(where=inside_by_hand([hole], raster)):
        return  # a hole lies inside its ring
    row = rows_of(tmp_path_factory.mktemp("z"), raster, feature("a", ring, hole), above_k=301.0)[0]
    values, spread = (band[inside & ~np.isnan(raster.values[0])] for band in raster.values)
    assert row.n_pixels == values.size
    if not values.size:
        assert np.isnan(row.mean)
        return
    assert row.valid_share == pytest.approx(values.size / inside.sum())
    assert row.mean == pytest.approx(values.mean(), abs=1e-3)
    assert row.p95 == pytest.approx(np.percentile(values, 95), abs=1e-3)
    assert row.share_above == pytest.approx((values > 301).mean())
    assert row.mean_spread_k == pytest.approx(spread.mean(), abs=1e-4)


def test_a_multipolygon_is_the_sum_of_its_parts_and_order_is_kept(tmp_path):
    one, two = box(1, 1, 4, 5), box(10, 20, 6, 3)
    both = feature("both", [one], [two], kind="MultiPolygon")
    rows = rows_of(tmp_path, result(), both, feature("two", two), feature("one", one))
    assert [row.name for row in rows] == ["both", "two", "one"]
    assert [row.n_pixels for row in rows] == [38, 18, 20]
    assert rows[0].mean == pytest.approx((rows[1].mean * 18 + rows[2].mean * 20) / 38)


def test_without_a_crs_member_the_coordinates_are_longitude_and_latitude(tmp_path):
    from rasterio.warp import transform

    ring = box(5, 5, 10, 10)
    degrees = np.stack(transform(CRS, "EPSG:4326", *np.array(ring).T), axis=1).tolist()
    kept = rows_of(tmp_path, result(), feature("a", ring))
    assert rows_of(tmp_path, result(), feature("a", degrees), crs=None) == kept
    assert rows_of(tmp_path, result(), feature("a", degrees), crs="urn:ogc:def:crs:OGC:1.3:CRS84") == kept
    assert rows_of(tmp_path, result(), feature("a", [[*xy, 7.0] for xy in ring])) == kept  # heights are ignored


def test_celsius_moves_mean_and_percentile_and_nothing_else(tmp_path):
    kelvin = rows_of(tmp_path, result(), feature("a", box(1, 1, 9, 9)), above_k=303.15)[0]
    celsius = rows_of(tmp_path, result(), feature("a", box(1, 1, 9, 9)), above_k=303.15, celsius=True)[0]
    assert celsius.mean == pytest.approx(kelvin.mean - 273.15)
    assert celsius.p95 == pytest.approx(kelvin.p95 - 273.15)
    assert (celsius.share_above, celsius.mean_spread_k) == (kelvin.share_above, kelvin.mean_spread_k)


def test_a_zone_without_valid_pixels_or_without_a_centre_has_a_row_that_says_so(tmp_path):
    raster = result()
    raster.values[0, :10] = np.nan
    rows = rows_of(tmp_path, raster, feature("clouds", box(0, 0, 8, 8)), feature("shed", box(20.1, 20.1, 0.2, 0.2)))
    assert [(row.name, row.n_pixels, row.note) for row in rows] == [
        ("clouds", 0, "no valid pixel"),
        ("shed", 0, "no pixel centre inside: smaller than a pixel"),
    ]
    assert rows[0].valid_share == 0.0
    table = list(csv.DictReader(io.StringIO(zones_csv(rows))))
    assert table[0]["mean_k"] == ""
    assert table[1]["valid_share"] == ""


def test_what_lies_beyond_the_raster_counts_as_not_valid(tmp_path):
    row = rows_of(tmp_path, result(), feature("half", box(10, -5, 10, 10)))[0]
    assert (row.n_pixels, row.valid_share) == (50, 0.5)


def test_a_result_without_spread_and_without_names_still_answers(tmp_path):
    raster = result()
    bare = Raster(raster.values[:1], CRS, raster.transform, ("band_1",))
    row = rows_of(tmp_path, bare, feature("a", box(1, 1, 3, 3)))[0]
    assert row.mean == pytest.approx(raster.values[0, 1:4, 1:4].mean(), abs=1e-3)
    assert np.isnan(row.mean_spread_k)
    assert np.isnan(row.share_above)


def test_a_rotated_raster_is_no_special_case(tmp_path):
    raster = result(1, transform=(80.0, 30.0, LEFT, 30.0, -80.0, TOP))
    ring = [[LEFT + x, TOP + y] for x, y in ((900, 100), (3000, 300), (1500, -900), (900, 100))]
    row = rows_of(tmp_path, raster, feature("a", ring))[0]
    inside = inside_by_hand([ring], raster)
    assert row.n_pixels == inside.sum() > 20
    assert row.mean == pytest.approx(raster.values[0][inside].mean(), abs=1e-3)


def test_the_csv_names_its_units_and_quotes_names(tmp_path):
    rows = rows_of(tmp_path, result(), feature('Nord, "Altstadt"', box(1, 1, 3, 3)), celsius=True)
    text = zones_csv(rows, "C")
    assert text.splitlines()[0] == "name,n_pixels,valid_share,mean_c,p95_c,share_above,mean_spread_k,note"
    assert next(csv.DictReader(io.StringIO(text)))["name"] == 'Nord, "Altstadt"'


def test_a_reflectance_claims_no_kelvin(tmp_path):
    raster = result()
    dim = Raster(raster.values / np.float32(1000), CRS, raster.transform, raster.names)
    assert (unit_of(raster), unit_of(raster, celsius=True), unit_of(dim)) == ("K", "C", "1")
    rows = rows_of(tmp_path, dim, feature("a", box(1, 1, 9, 9)), above_k=0.3)
    assert 0.0 < rows[0].share_above < 1.0
    header = zones_csv(rows, unit_of(dim)).splitlines()[0]
    assert header == "name,n_pixels,valid_share,mean,p95,share_above,mean_spread,note"


@pytest.mark.parametrize("celsius", [False, True])
@pytest.mark.parametrize(
    ("above", "words"),
    [
        (35.0, "needed lst in K between 150 and 400.*35 degrees Celsius are 308.15 K"),
        (float("nan"), "--above is nan"),
        (float("inf"), "--above is inf"),
        (500.0, "between 150 and 400, also with --celsius$"),
    ],
)
def test_a_threshold_that_no_value_could_have_is_refused_with_the_next_step(tmp_path, above, words, celsius):
    with pytest.raises(InvalidInput, match=words):
        rows_of(tmp_path, result(), feature("a", box(1, 1, 9, 9)), above_k=above, celsius=celsius)


OPEN = box(1, 1, 3, 3)[:-1]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (feature("a", OPEN), "needed 4 or more that end where they begin"),
        (feature("a", box(1, 1, 3, 3)[:2]), "ring of 2 positions"),
        (feature("a", box(1, 1, 0, 3)), "ring without area"),
        (feature("a", [[1, 2], [3, "x"], [4, 5], [1, 2]]), "pairs of numbers"),
        (feature("a", [[1, 2], [3], [4, 5], [1, 2]]), "pairs of numbers"),
        (feature("a", [[1, 2], [3, None], [4, 5], [1, 2]]), "pairs of finite numbers"),
        (feature("a"), "no rings"),
        (feature("a", box(1, 1, 3, 3), kind="MultiPolygon"), "broken geometry"),
        (feature("a", [1.0, 2.0], kind="Point"), "'Point', needed one of"),
        ({"type": "Feature", "properties": {"name": "a"}, "geometry": None}, "geometry None"),
    ],
)
def test_broken_geometry_is_refused_by_the_name_of_its_feature(tmp_path, broken, words):
    good = feature("good", box(1, 1, 3, 3))
    with pytest.raises(InvalidInput, match=words) as caught:
        rows_of(tmp_path, result(), good, broken)
    assert "feature 2 ('a')" in str(caught.value)


@pytest.mark.parametrize("properties", [None, {}, {"name": ""}, {"name": 7}, {"Name": "a"}])
def test_a_feature_without_a_name_is_refused_by_its_number(tmp_path, properties):
    nameless = {**feature("a", box(1, 1, 3, 3)), "properties": properties}
    with pytest.raises(InvalidInput, match="feature 1 has no property 'name'"):
        rows_of(tmp_path, result(), nameless)


def test_zones_elsewhere_are_refused_by_name(tmp_path):
    with pytest.raises(InvalidInput, match=r"zone 'far' lies outside result.tif"):
        rows_of(tmp_path, result(), feature("near", box(1, 1, 3, 3)), feature("far", box(1, 41, 3, 3)))


def test_metres_without_a_crs_and_places_beyond_the_crs_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"\('a'\) has coordinates .* no longitude and latitude"):
        rows_of(tmp_path, result(), feature("a", box(1, 1, 3, 3)), crs=None)
    far = [[-100, 0], [-90, 0], [-95, 90], [-100, 0]]
    with pytest.raises(InvalidInput, match="'a'"):
        rows_of(tmp_path, result(), feature("a", far), crs=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot read"),
        ("[]", "holds a list"),
        ('{"type": "Feature"}', "holds a Feature"),
        ('{"type": "FeatureCollection", "features": []}', "has no features"),
        ('{"type": "FeatureCollection", "features": [3]}', "feature 1 has no property"),
        ('{"type": "FeatureCollection", "features": [3], "crs": "x"}', "crs member"),
        ('{"type": "FeatureCollection", "features": [3], "crs": {"properties": {"name": "mars"}}}', "CRS 'mars'"),
    ],
)
def test_what_is_no_feature_collection_is_refused(tmp_path, text, words):
    path = tmp_path / "z.geojson"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=words):
        read_zones(path, CRS)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@settings(deadline=None, max_examples=50)
def test_any_bytes_are_zones_or_invalid_input(tmp_path_factory, body):
    path = tmp_path_factory.mktemp("z") / "z.geojson"
    path.write_bytes(body)
    with pytest.raises(InvalidInput):
        read_zones(path, CRS)


def test_a_missing_file_a_raster_without_place_or_band_and_reflectance_in_celsius_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="cannot read"):
        read_zones(tmp_path / "none.geojson", CRS)
    zones = read_zones(write(tmp_path / "z.geojson", feature("a", box(1, 1, 3, 3))), CRS)
    raster = result()
    with pytest.raises(InvalidInput, match="has no CRS"):
        zone_rows("r.tif", Raster(raster.values, "", raster.transform, raster.names), zones)
    with pytest.raises(InvalidInput, match=r"bands \['a', 'b'\]"):
        zone_rows("r.tif", Raster(raster.values, CRS, raster.transform, ("a", "b")), zones)
    dim = Raster(raster.values / np.float32(1000), CRS, raster.transform, raster.names)
    with pytest.raises(InvalidInput, match="no Celsius either"):
        zone_rows("r.tif", dim, zones, celsius=True)
