"""Whether rasters lie on one grid."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscale.errors import InvalidInput
from thermoscale.formats import Georeference
from thermoscale.geo.alignment import Grid, require_same_bounds, require_same_grid, same_bounds, window_georeference
from thermoscale.geo.links import link_grids
from thermoscale.numerics.grids import regular_index

FINE = Grid("EPSG:32611", (70.0, 0.0, 649980.0, 0.0, -70.0, 3659840.0), (140, 210))
COARSE = Grid("EPSG:32611", (490.0, 0.0, 649980.0, 0.0, -490.0, 3659840.0), (20, 30))
SINUSOIDAL = "+proj=sinu +R=6371007.181 +units=m +no_defs"


def moved(grid: Grid, x: float, y: float) -> Grid:
    a, b, c, d, e, f = grid.transform
    return replace(grid, transform=(a, b, c + x, d, e, f + y))


@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6))
@settings(deadline=None, max_examples=25)
def test_a_grid_is_itself_even_after_rounding_by_a_hundredth_of_a_pixel(x, y):
    require_same_grid("a", FINE, "b", moved(FINE, x, y))
    require_same_bounds("fine", FINE, "coarse", moved(COARSE, x, y))
    assert same_bounds(FINE, moved(COARSE, x, y))


def test_two_spellings_of_one_crs_are_one():
    wkt = __import__("rasterio").crs.CRS.from_epsg(32611).to_wkt()
    require_same_grid("a", FINE, "b", replace(FINE, crs=wkt))


@pytest.mark.parametrize(
    "other",
    [
        replace(FINE, crs="EPSG:32612"),
        replace(FINE, shape=(140, 209)),
        moved(FINE, 5.0, 0.0),
        replace(FINE, transform=(70.01, 0.0, 649980.0, 0.0, -70.0, 3659840.0)),
    ],
)
def test_another_grid_is_refused_and_both_are_shown(other):
    with pytest.raises(InvalidInput) as caught:
        require_same_grid("library.tif", FINE, "target.tif", other)
    message = str(caught.value)
    assert "target.tif is on another grid than library.tif" in message
    for grid in (FINE, other):
        assert grid.crs in message
        assert str(list(grid.shape)) in message
        assert f"{grid.transform[2]:.10g}" in message


@pytest.mark.parametrize(
    "coarse", [moved(COARSE, 35.0, 0.0), replace(COARSE, shape=(20, 31)), replace(COARSE, crs="EPSG:4326")]
)
def test_other_bounds_are_refused(coarse):
    assert not same_bounds(FINE, coarse)
    with pytest.raises(InvalidInput, match="do not cover the same ground"):
        require_same_bounds("factors", FINE, "coarse", coarse)


@pytest.mark.parametrize("transform", [(70.0, 70.0, 0.0, 70.0, 70.0, 0.0), (1e300, 0.0, 0.0, 0.0, -70.0, 1e300)])
def test_pixels_that_are_nowhere_are_on_no_grid(transform):
    for check in (require_same_grid, require_same_bounds):
        with pytest.raises(InvalidInput, match=r"b has the transform .* pixels without area"):
            check("a", FINE, "b", Grid(FINE.crs, transform, FINE.shape))


def test_an_unknown_crs_is_named():
    with pytest.raises(InvalidInput, match="CRS 'mars'"):
        require_same_grid("a", FINE, "b", replace(FINE, crs="mars"))


@given(st.integers(0, 20), st.integers(0, 20), st.tuples(*[st.floats(-9, 9)] * 6))
def test_the_first_pixel_of_a_window_lies_where_it_lay_in_the_whole(row, col, transform):
    a, b, c, d, e, f = transform
    got = window_georeference(Georeference("EPSG:4326", transform), row, col)
    assert got.transform == pytest.approx((a, b, a * col + b * row + c, d, e, d * col + e * row + f))


def test_grids_of_the_same_bounds_are_linked_by_regular_blocks():
    np.testing.assert_array_equal(link_grids(COARSE, FINE), regular_index((20, 30), (140, 210)))


def test_pixels_outside_the_coarse_grid_are_linked_to_nothing():
    index = link_grids(moved(COARSE, 490.0, 0.0), FINE)
    assert (index[:, :7] == -1).all()
    assert (index[:, 7:] >= 0).all()


def test_cells_of_another_crs_are_sheared_and_hold_about_the_square_of_the_scale_factor():
    fine = Grid("EPSG:32611", (30.0, 0.0, 650_000.0, 0.0, -30.0, 3_660_000.0), (300, 300))
    rasterio = __import__("rasterio.warp")
    x, y = rasterio.warp.transform("EPSG:32611", SINUSOIDAL, [654_500.0], [3_655_500.0])
    side, n = 926.625, 40
    coarse = Grid(SINUSOIDAL, (side, 0.0, x[0] - side * n / 2, 0.0, -side, y[0] + side * n / 2), (n, n))
    index = link_grids(coarse, fine)
    assert (index >= 0).all()
    counts = np.unique(index, return_counts=True)[1]
    assert counts.max() == pytest.approx((926.625 / 30) ** 2, rel=0.02)
    assert len(np.unique(index[:, 150] % n)) > 1  # a column of the fine grid crosses cells: they are sheared


def test_grids_that_do_not_overlap_are_refused():
    with pytest.raises(InvalidInput, match="do not overlap"):
        link_grids(moved(COARSE, 1e6, 0.0), FINE)
