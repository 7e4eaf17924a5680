"""Named areas from GeoJSON (RFC 7946): polygons in longitude and latitude, or in the CRS of a ``crs`` member."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.geo.alignment import parse_crs
from thermoscale.geo.gdal import load_rasterio

CRS84 = "OGC:CRS84"  # longitude, latitude: what GeoJSON means where it names no CRS
_KINDS = ("Polygon", "MultiPolygon")
_MIN_POSITIONS = 4  # of a closed ring

Ring = npt.NDArray[np.float64]
"""``[n, 2]`` x, y; the last position is the first."""


@dataclass(frozen=True, eq=False)
class Zone:
    """A named area: one or more polygons, each an outer ring and its holes."""

    name: str
    polygons: tuple[tuple[Ring, ...], ...]

    @property
    def geometry(self) -> dict[str, Any]:
        """As GeoJSON."""
        return {"type": "MultiPolygon", "coordinates": [[ring.tolist() for ring in rings] for rings in self.polygons]}

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest x, smallest y, largest x, largest y."""
        corners = np.concatenate([rings[0] for rings in self.polygons])
        (left, bottom), (right, top) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return left, bottom, right, top

    @property
    def area(self) -> float:
        """In squared units of the CRS; holes do not count."""
        return sum(_area(rings[0]) - sum(map(_area, rings[1:])) for rings in self.polygons)


def read_zones(path: Path, crs: str) -> tuple[Zone, ...]:
    """The features of the GeoJSON FeatureCollection at ``path``, in its order, carried over to ``crs``.

    Vertices are carried over, edges stay straight. Rings that cross themselves are not looked for: what is inside is
    what an even number of edges does not separate from the outside.

    Raises:
        InvalidInput: no such file, no FeatureCollection, an unknown CRS, or a feature without the property ``name`` or
            with broken geometry; the message names the feature.
        Unavailable: rasterio is missing.
    """
    collection = _read_collection(path)
    source = _read_crs(path, collection)
    features: list[Any] = collection["features"]
    return tuple(_read_zone(f"{path}, feature {i}", feature, source, crs) for i, feature in enumerate(features, 1))


def _read_collection(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot read {path} as GeoJSON: {error}") from error
    kind = content.get("type") if isinstance(content, dict) else type(content).__name__
    if kind != "FeatureCollection":
        raise InvalidInput(f"{path} holds a {kind}, needed a GeoJSON FeatureCollection")
    if not isinstance(content.get("features"), list) or not content["features"]:
        raise InvalidInput(f"{path} has no features")
    return dict(content)


def _read_crs(path: Path, collection: Mapping[str, Any]) -> str:
    """The text of the ``crs`` member (GeoJSON of 2008), :data:`CRS84` without one."""
    member = collection.get("crs")
    if member is None:
        return CRS84
    properties = member.get("properties") if isinstance(member, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    if not isinstance(name, str):
        raise InvalidInput(
            f"{path} has the crs member {member!r:.120}, needed a named CRS, or none for longitude, latitude"
        )
    parse_crs(str(path), name)
    return name


def _read_zone(where: str, feature: Any, source: str, target: str) -> Zone:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput(f"{where} has no property 'name' with a text: {properties!r:.120}")
    where = f"{where} ({name!r})"
    geometry = feature.get("geometry")
    if not isinstance(geometry, dict) or geometry.get("type") not in _KINDS:
        kind = geometry.get("type") if isinstance(geometry, dict) else geometry
        raise InvalidInput(f"{where} has the geometry {kind!r:.60}, needed one of {list(_KINDS)}")
    coordinates = geometry.get("coordinates")
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    rings = tuple(tuple(_rings(where, polygon)) for polygon in _parts(where, "polygons", polygons))
    zone = Zone(name, rings)
    _require_degrees(where, zone, source)
    return _carried_over(where, zone, source, target)


def _parts(where: str, what: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InvalidInput(f"{where} has broken geometry: no {what}")
    return value


def _rings(where: str, polygon: Any) -> Iterator[Ring]:
    """Each ring of a polygon, checked: closed, finite, with an area."""
    for ring in _parts(where, "rings", polygon):
        positions = [
            position[:2] if isinstance(position, list) else position for position in _parts(where, "rings", ring)
        ]
        try:
            xy: Array = np.array(positions, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{where} has broken geometry: positions that are no pairs of numbers") from error
        if xy.shape != (len(positions), 2) or not np.isfinite(xy).all():
            raise InvalidInput(f"{where} has broken geometry: positions that are no pairs of finite numbers")
        if len(xy) < _MIN_POSITIONS or (xy[0] != xy[-1]).any():
            raise InvalidInput(
                f"{where} has broken geometry: a ring of {len(xy)} positions from {xy[0].tolist()} to "
                f"{xy[-1].tolist()}, needed {_MIN_POSITIONS} or more that end where they begin"
            )
        if _area(xy) == 0.0:
            raise InvalidInput(f"{where} has broken geometry: a ring without area")
        yield xy


def _require_degrees(where: str, zone: Zone, source: str) -> None:
    """Without a CRS the numbers must be degrees: metres there are the usual mistake."""
    left, bottom, right, top = zone.bounds
    if source == CRS84 and (left < -360.0 or right > 360.0 or bottom < -90.0 or top > 90.0):
        raise InvalidInput(
            f"{where} has coordinates from {left:g}, {bottom:g} to {right:g}, {top:g}: no longitude and latitude; "
            "name their CRS in a crs member, or convert them"
        )


def _carried_over(where: str, zone: Zone, source: str, target: str) -> Zone:
    load_rasterio()
    from rasterio.warp import transform

    crs = parse_crs(where, source), parse_crs("the raster", target)
    if crs[0] == crs[1]:
        return zone

    def carry(ring: Ring) -> Ring:
        try:
            carried: Ring = np.stack(transform(*crs, *ring.T), axis=1)
        except Exception as error:  # GDAL's errors have many classes
            raise InvalidInput(f"{where} cannot be carried over to the raster's CRS: {error}") from error
        if not np.isfinite(carried).all():
            raise InvalidInput(f"{where} cannot be carried over to the raster's CRS: it lies outside that CRS's world")
        return carried

    return Zone(zone.name, tuple(tuple(carry(ring) for ring in rings) for rings in zone.polygons))


def _area(ring: Ring) -> float:
    """The shoelace formula, around the first position so that large coordinates cancel."""
    x, y = (ring - ring[0]).T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2.0
