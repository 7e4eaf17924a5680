"""Local time on the ground: mean solar time, which needs a longitude and nothing political."""

import numpy as np

from thermoscale.errors import Unavailable
from thermoscale.geo.alignment import Grid, parse_crs
from thermoscale.geo.gdal import load_rasterio
from thermoscale.times import format_time, parse_time

_MINUTES_PER_DEGREE = 4.0


def centre_longitude(grid: Grid) -> float | None:
    """Degrees east of the centre of ``grid``; None where rasterio is missing or the CRS has no longitude there."""
    try:
        load_rasterio()
    except Unavailable:
        return None
    from rasterio.warp import transform

    a, b, c, d, e, f = grid.transform
    row, col = grid.shape[0] / 2, grid.shape[1] / 2
    x, y = a * col + b * row + c, d * col + e * row + f
    longitudes, _ = transform(parse_crs("the grid", grid.crs), "EPSG:4326", [x], [y])
    return float(longitudes[0]) if np.isfinite(longitudes[0]) else None


def local_time(utc: str, longitude: float) -> str:
    """Local mean solar time ``YYYY-MM-DDTHH:MM`` of the moment ``utc`` at ``longitude`` degrees east."""
    shift = np.timedelta64(round(longitude * _MINUTES_PER_DEGREE), "m")
    return format_time(parse_time(utc) + shift).removesuffix("Z")
