"""Local mean solar time."""

import pytest

from thermoscale.errors import Unavailable
from thermoscale.geo import longitude
from thermoscale.geo.alignment import Grid
from thermoscale.geo.longitude import centre_longitude, local_time


def test_the_centre_of_a_utm_grid_on_its_meridian_is_that_meridian() -> None:
    grid = Grid("EPSG:32631", (100.0, 0.0, 499_000.0, 0.0, -100.0, 5_000_000.0), (30, 20))
    assert centre_longitude(grid) == pytest.approx(3.0, abs=1e-6)


def test_without_rasterio_there_is_no_longitude(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise Unavailable("no rasterio")

    monkeypatch.setattr(longitude, "load_rasterio", missing)
    assert centre_longitude(Grid("EPSG:4326", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), (2, 2))) is None


@pytest.mark.parametrize(
    ("degrees", "local"),
    [(0.0, "2020-01-01T00:30"), (15.0, "2020-01-01T01:30"), (-90.0, "2019-12-31T18:30"), (3.1, "2020-01-01T00:42")],
)
def test_fifteen_degrees_are_one_hour(degrees: float, local: str) -> None:
    assert local_time("2020-01-01T00:30Z", degrees) == local
