"""Parts of a request: decoded by what they are, and no name twice."""

import numpy as np
import pytest

from thermoscale.errors import InvalidInput
from thermoscale.geo.rasters import Raster, encode_geotiff
from thermoscale.request_parts import decode_parts
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import encode_npz


def coarse_tif(value: float = 290.0) -> bytes:
    values = np.full((1, 3, 4), value, np.float32)
    return encode_geotiff(Raster(values, "EPSG:4326", (0.1, 0.0, 5.0, 0.0, -0.1, 48.0), ("lst",)))


@pytest.mark.parametrize("name", ["body", "coarse"])
def test_a_geotiff_in_the_body_is_coarse(name: str) -> None:
    request = decode_parts({name: coarse_tif(), "time": b"2020-05-15"}, Limits())
    assert set(request.values) == {"coarse", "time"}
    np.testing.assert_array_equal(request.values["coarse"], np.full((3, 4), 290.0))


@pytest.mark.parametrize(
    "parts",
    [
        {"body": coarse_tif(290), "coarse": coarse_tif(300)},
        {"coarse": coarse_tif(300), "body": coarse_tif(290)},
        {"body": encode_npz({"coarse": np.zeros((3, 4))}), "coarse": coarse_tif()},
        {"body": encode_npz({"coarse": np.zeros((3, 4))}), "coarse": b"290"},
    ],
    ids=["two GeoTIFFs", "two GeoTIFFs, body last", "npz and GeoTIFF", "npz and text"],
)
def test_a_name_given_twice_is_refused(parts: dict[str, bytes]) -> None:
    with pytest.raises(InvalidInput, match=r"gives \['coarse'\] twice"):
        decode_parts(parts, Limits())
