"""Towers that measure surface temperature on the ground, compared with predictions at their pixels.

The table is a CSV with one row per measurement: ``time`` (ISO 8601, UTC) or ``local_time``; ``lst_k`` (or ``lst_K``);
optionally ``station``, ``latitude`` and ``longitude``. Other columns are ignored. Where the CSV does not say where the
tower stands, the caller does.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import InvalidInput
from thermoscale.formats import Georeference, parse_time

MAX_GAP_MINUTES = 90
"""Two measurements further apart are not interpolated between."""

Pixel = tuple[int, int]
"""Row and column on the fine grid."""


@dataclass(frozen=True)
class StationPlace:
    """Where the one tower of a CSV without coordinates stands, and what its clock shows."""

    name: str = "station"
    latitude: float | None = None
    longitude: float | None = None
    utc_offset_hours: float | None = None


@dataclass(frozen=True)
class Tower:
    """Measurements of one tower, in order of time: ``times [n]`` datetime64[m] UTC, ``lst_k [n]`` K."""

    name: str
    latitude: float
    longitude: float
    times: Array
    lst_k: Array

    def at(self, time: str) -> tuple[float, float] | None:
        """Value at ``time``, linear between the two neighbours, and the minutes to the nearest; None without them."""
        minutes = (self.times - parse_time(time)) / np.timedelta64(1, "m")
        nearest = float(np.abs(minutes).min())
        before, after = minutes[minutes <= 0.0], minutes[minutes >= 0.0]
        if not before.size or not after.size or after[0] - before[-1] > MAX_GAP_MINUTES:
            return None
        return float(np.interp(0.0, minutes, self.lst_k)), nearest


class Located(NamedTuple):
    """Towers within the raster with their pixels, and the others with reasons."""

    towers: tuple[Tower, ...]
    pixels: tuple[Pixel, ...]
    skipped: list[dict[str, str]]


def read_towers(path: Path, place: StationPlace) -> list[Tower]:
    """Towers of the CSV at ``path``, rows without a value left out.

    Raises:
        InvalidInput: a missing column or coordinate, or a value that is not a number or a time; with the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            columns = tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"cannot read stations {path}: {error}") from error
    _require_columns(path, columns, place)
    measured: dict[str, list[tuple[Any, float, float, float]]] = {}
    for line, row in enumerate(rows, start=2):
        try:
            name, *measurement = _measurement(row, place)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"stations {path}, line {line}: {error}") from error
        if np.isfinite(measurement[1]):
            measured.setdefault(name, []).append((measurement[0], *measurement[1:]))
    return [_tower(name, sorted(values)) for name, values in measured.items()]


def locate(towers: Iterable[Tower], grid: Georeference | None, shape: tuple[int, int]) -> Located:
    """Pixels of the towers on the fine grid.

    Args:
        shape: (H, W).

    Raises:
        InvalidInput: the series has no georeference.
    """
    if grid is None:
        raise InvalidInput("stations need a series with fine_crs and fine_transform: it does not say where it lies")
    inside: list[tuple[Tower, Pixel]] = []
    skipped = []
    for tower in towers:
        pixel = _row_col(tower, grid)
        if pixel is not None and 0 <= pixel[0] < shape[0] and 0 <= pixel[1] < shape[1]:
            inside.append((tower, pixel))
        else:
            place = "beyond its CRS" if pixel is None else f"row {pixel[0]}, column {pixel[1]} of {list(shape)}"
            where = f"latitude, longitude {tower.latitude:g}, {tower.longitude:g} is {place}"
            skipped.append({"station": tower.name, "reason": f"outside the raster: {where}"})
    return Located(tuple(tower for tower, _ in inside), tuple(pixel for _, pixel in inside), skipped)


def value_at(image: FloatArray, pixel: Pixel, side_px: int) -> float:
    """Mean of the valid pixels of a square of ``side_px`` (odd) around ``pixel``; NaN if there are none."""
    reach = side_px // 2
    rows, cols = (slice(max(0, centre - reach), centre + reach + 1) for centre in pixel)
    valid = image[rows, cols][np.isfinite(image[rows, cols])]
    return float(valid.mean(dtype=np.float64)) if valid.size else float("nan")


def compare(
    located: Located, answers: Iterable[tuple[str, str, tuple[float, ...]]], *, source: str, side_px: int
) -> dict[str, Any]:
    """The ``stations`` object of a result.

    Args:
        answers: time, method, and values at the towers in order.
    """
    rows = []
    for time, method, values in answers:
        for tower, value in zip(located.towers, values, strict=True):
            measured = tower.at(time)
            if measured is not None:
                rows.append(_row(tower.name, time, method, value, *measured))
    skipped = list(located.skipped)
    unmatched = {tower.name for tower in located.towers} - {row["station"] for row in rows}
    skipped += [{"station": name, "reason": "no measurement around any predicted date"} for name in sorted(unmatched)]
    return {"source": source, "side_px": side_px, "rows": rows, "methods": _by_method(rows), "skipped": skipped}


def table_of_stations(compared: Mapping[str, Any]) -> str:
    """The comparison with towers for people."""
    lines = [f"{'station':14}{'time':20}{'method':22}{'value':>9}{'tower':>9}{'difference':>12}"]
    for row in compared["rows"]:
        value, difference = ("-" if row[key] is None else f"{row[key]:.2f}" for key in ("value", "difference"))
        lines.append(
            f"{row['station']:14}{row['time']:20}{row['method']:22}{value:>9}{row['tower']:>9.2f}{difference:>12}"
        )
    return "\n".join([*lines, *(f"  {item['station']}: {item['reason']}" for item in compared["skipped"])])


def _row(station: str, time: str, method: str, value: float, tower: float, minutes: float) -> dict[str, Any]:
    return {
        "station": station,
        "time": time,
        "method": method,
        "value": value,
        "tower": tower,
        "difference": value - tower,
        "minutes_to_measurement": minutes,
    }


def _by_method(rows: list[dict[str, Any]]) -> dict[str, Mapping[str, float]]:
    """Bias and RMSE of every method over the rows it answered."""
    summary: dict[str, Mapping[str, float]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        found = np.array([row["difference"] for row in rows if row["method"] == method], np.float64)
        known = found[np.isfinite(found)]
        nothing = not known.size
        bias = np.nan if nothing else float(known.mean())
        summary[method] = {
            "n": len(known),
            "bias": bias,
            "rmse": np.nan if nothing else float(np.sqrt((known**2).mean())),
        }
    return summary


def _require_columns(path: Path, columns: tuple[str, ...], place: StationPlace) -> None:
    if not {"lst_k", "lst_K"} & set(columns) or not {"time", "local_time"} & set(columns):
        raise InvalidInput(f"stations {path} has columns {list(columns)}, needed time or local_time, and lst_k")
    if not {"latitude", "longitude"} <= set(columns) and (place.latitude is None or place.longitude is None):
        raise InvalidInput(f"stations {path} has no latitude and longitude: say --station-at NAME,LATITUDE,LONGITUDE")
    if "time" not in columns and place.utc_offset_hours is None:
        raise InvalidInput(f"stations {path} has local times: say --station-utc-offset, hours ahead of UTC")


def _measurement(row: Mapping[str, str], place: StationPlace) -> tuple[str, Any, float, float, float]:
    """Name, time, value, latitude, longitude of one row."""
    value = row.get("lst_k") or row.get("lst_K") or "nan"
    if "time" in row:
        time = parse_time(row["time"])
    else:
        local = np.datetime64(row["local_time"].strip().replace(" ", "T"), "m")
        time = local - np.timedelta64(round(60 * (place.utc_offset_hours or 0.0)), "m")
    latitude = float(row["latitude"]) if "latitude" in row else float(place.latitude or 0.0)
    longitude = float(row["longitude"]) if "longitude" in row else float(place.longitude or 0.0)
    return row.get("station") or place.name, time, float(value), latitude, longitude


def _tower(name: str, rows: list[tuple[Any, float, float, float]]) -> Tower:
    times, values, latitudes, longitudes = zip(*rows, strict=True)
    if len(set(latitudes)) > 1 or len(set(longitudes)) > 1:
        raise InvalidInput(f"station {name} stands in several places: latitudes {sorted(set(latitudes))}")
    return Tower(name, latitudes[0], longitudes[0], np.array(times, "datetime64[m]"), np.array(values, np.float64))


def _row_col(tower: Tower, grid: Georeference) -> Pixel | None:
    """None where the CRS of the grid does not reach."""
    from rasterio.transform import Affine  # only who compares with towers needs rasterio
    from rasterio.warp import transform

    try:
        (x,), (y,) = transform("EPSG:4326", grid.crs, [tower.longitude], [tower.latitude])
    except Exception:  # GDAL's errors have many classes
        return None
    if not np.isfinite([x, y]).all():
        return None
    col, row = ~Affine(*grid.transform) @ (x, y)
    return int(np.floor(row)), int(np.floor(col))
