"""What a result says about districts: one row of numbers for each named area.

A pixel belongs to a zone if its centre lies inside; pixels are not weighted by their share of area. For zones of
100 pixels and more that is well below the error of the values; a zone smaller than a pixel may hold no centre at all.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thermoscale.arrays import LST, REFLECTANCE, BoolArray, FloatArray, Quantity
from thermoscale.errors import InvalidInput
from thermoscale.geo.alignment import window_georeference
from thermoscale.geo.gdal import load_rasterio
from thermoscale.geo.geojson import Zone
from thermoscale.geo.rasters import NO_CRS, Raster

VALUES, SPREAD = "lst", "spread_k"
ZERO_CELSIUS_K = 273.15
NO_CENTRE, NO_VALID = "no pixel centre inside: smaller than a pixel", "no valid pixel"


@dataclass(frozen=True)
class ZoneRow:
    """Numbers of one zone, NaN where there are none.

    Attributes:
        name: of the zone.
        n_pixels: valid pixels inside.
        valid_share: of the zone's pixels; those of its area beyond the raster count as not valid.
        mean, p95: of the valid pixels, in :func:`unit_of` the table.
        share_above: of the valid pixels, strictly above the threshold; NaN without one.
        mean_spread_k: mean of the 1-sigma errors of the valid pixels, kelvin (reflectance: 1); NaN where the result has
            none.
        note: why there are no numbers; empty otherwise.
    """

    name: str
    n_pixels: int
    valid_share: float
    mean: float
    p95: float
    share_above: float
    mean_spread_k: float
    note: str = ""


def zone_rows(
    name: str, raster: Raster, zones: Sequence[Zone], *, above_k: float | None = None, celsius: bool = False
) -> list[ZoneRow]:
    """One row for each zone, in their order.

    Args:
        name: of the raster, for messages.
        raster: a result: its band ``lst`` (or its only band), and ``spread_k`` if it has one.
        zones: in the raster's CRS (:func:`thermoscale.geo.geojson.read_zones`).
        above_k: threshold in kelvin, also with ``celsius``; of a reflectance, in its own unit.
        celsius: means and percentiles in degrees Celsius.

    Raises:
        InvalidInput: no such band, no CRS, a zone that does not touch the raster, Celsius of what is not in kelvin, or
            a threshold that no value could have.
        Unavailable: rasterio is missing.
    """
    if raster.crs == NO_CRS:
        raise InvalidInput(f"{name} has no CRS: zones cannot be placed on it")
    values, spread = _band(raster, VALUES), _band(raster, SPREAD)
    if values is None:
        raise InvalidInput(f"{name} has the bands {list(raster.names)}, needed one named {VALUES!r}")
    quantity = _quantity(values)
    if celsius and quantity is not LST:
        raise InvalidInput(f"{name} holds values down to {np.nanmin(values):g}: no kelvin, so no Celsius either")
    if above_k is not None:
        _require_threshold(above_k, quantity)
    return [_row(name, raster, values, spread, zone, above_k, celsius) for zone in zones]


def unit_of(raster: Raster, *, celsius: bool = False) -> str:
    """Unit of means and percentiles: ``K``, ``C``, or ``1`` of a reflectance."""
    values = _band(raster, VALUES)
    if values is not None and _quantity(values) is not LST:
        return REFLECTANCE.unit
    return "C" if celsius else LST.unit


def zones_csv(rows: Sequence[ZoneRow], unit: str = LST.unit) -> str:
    """The rows as CSV with a header that names the units, those of a reflectance apart; NaN is an empty field.

    Args:
        unit: from :func:`unit_of`.
    """
    of_value, of_spread = {"K": ("_k", "_k"), "C": ("_c", "_k"), "1": ("", "")}[unit]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    header = f"name n_pixels valid_share mean{of_value} p95{of_value} share_above mean_spread{of_spread} note"
    writer.writerow(header.split())
    for row in rows:
        writer.writerow([_field(value) for value in vars(row).values()])
    return stream.getvalue()


def _row(
    name: str,
    raster: Raster,
    values: FloatArray,
    spread: FloatArray | None,
    zone: Zone,
    above_k: float | None,
    celsius: bool,
) -> ZoneRow:
    inside, top, left = _pixels_inside(name, raster, zone)
    window = slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1])
    own = values[window][inside]
    valid = own[~np.isnan(own)].astype(np.float64)
    expected = _expected_pixels(raster, zone, int(inside.sum()))
    share = min(valid.size / expected, 1.0) if expected else np.nan
    if not valid.size:
        return ZoneRow(zone.name, 0, share, np.nan, np.nan, np.nan, np.nan, NO_VALID if expected else NO_CENTRE)
    zero = ZERO_CELSIUS_K if celsius else 0.0
    errors = np.array([]) if spread is None else spread[window][inside & ~np.isnan(values[window])].astype(np.float64)
    known = errors[~np.isnan(errors)]
    return ZoneRow(
        name=zone.name,
        n_pixels=valid.size,
        valid_share=share,
        mean=float(valid.mean()) - zero,
        p95=float(np.percentile(valid, 95)) - zero,
        share_above=np.nan if above_k is None else float((valid > above_k).mean()),
        mean_spread_k=float(known.mean()) if known.size else np.nan,
    )


def _pixels_inside(name: str, raster: Raster, zone: Zone) -> tuple[BoolArray, int, int]:
    """Which pixels of a window have their centre in the zone, and the window's first row and column."""
    affine_of = load_rasterio().Affine
    from rasterio.features import geometry_mask

    height, width = raster.shape
    (first_row, last_row), (first_col, last_col) = _extent(raster, zone)
    top, left = max(first_row, 0), max(first_col, 0)
    bottom, right = min(last_row, height), min(last_col, width)
    if top >= bottom or left >= right:
        raise InvalidInput(
            f"zone {zone.name!r} lies outside {name}: its rows {first_row} to {last_row} and columns {first_col} to "
            f"{last_col} do not touch the raster's {height} x {width} pixels"
        )
    affine = affine_of(*window_georeference(raster.georeference, top, left).transform)
    inside: BoolArray = geometry_mask([zone.geometry], (bottom - top, right - left), affine, invert=True)
    return inside, top, left


def _extent(raster: Raster, zone: Zone) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns (from, to) that the zone spans on the raster's grid, which it may leave."""
    a, b, c, d, e, f = raster.transform
    xy: Any = np.concatenate([rings[0] for rings in zone.polygons]) - [c, f]
    cols, rows = np.linalg.solve([[a, b], [d, e]], xy.T)
    return (int(np.floor(rows.min())), int(np.ceil(rows.max()))), (int(np.floor(cols.min())), int(np.ceil(cols.max())))


def _expected_pixels(raster: Raster, zone: Zone, inside: int) -> int:
    """Pixels of the whole zone: counted where it lies within the raster, from its area where it leaves it."""
    (first_row, last_row), (first_col, last_col) = _extent(raster, zone)
    if first_row >= 0 and first_col >= 0 and last_row <= raster.shape[0] and last_col <= raster.shape[1]:
        return inside
    a, b, _, d, e, _ = raster.transform
    return max(inside, round(zone.area / abs(a * e - b * d)))


def _quantity(values: FloatArray) -> Quantity:
    """A temperature, unless some value is too small for one."""
    too_small = not np.isnan(values).all() and float(np.nanmin(values)) < LST.low
    return REFLECTANCE if too_small else LST


def _require_threshold(above: float, quantity: Quantity) -> None:
    if quantity.low <= above <= quantity.high:
        return
    hint = ""
    if quantity is LST and LST.low <= above + ZERO_CELSIUS_K <= LST.high:
        hint = f"; {above:g} degrees Celsius are {above + ZERO_CELSIUS_K:g} K"
    raise InvalidInput(
        f"--above is {above:g}, needed {quantity.name} in {quantity.unit} between {quantity.low:g} and "
        f"{quantity.high:g}{', also with --celsius' if quantity is LST else ''}{hint}"
    )


def _band(raster: Raster, wanted: str) -> FloatArray | None:
    """The band called ``wanted``; the only band is the values whatever it is called."""
    if wanted in raster.names:
        band: FloatArray = raster.values[raster.names.index(wanted)]
        return band
    return raster.values[0] if wanted == VALUES and len(raster.values) == 1 else None


def _field(value: object) -> object:
    """``value`` for a CSV: six digits are more than a mean of temperatures knows."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return value
