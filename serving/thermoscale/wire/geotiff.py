"""Requests and replies as GeoTIFF: named arrays with their place on the ground. Format: ``docs/wire-format.md``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.formats import Georeference
from thermoscale.geo.alignment import Grid, require_same_bounds
from thermoscale.geo.rasters import IDENTITY, NO_CRS, Raster, decode_geotiff, encode_geotiff
from thermoscale.wire.limits import InflatedBudget, Limits
from thermoscale.wire.npz import json_of

META_TAG = "THERMOSCALE_META"
SCALARS_TAG = "THERMOSCALE_SCALARS"
TIME_TAG = "time"
_PARTS = {"coarse", "factors"}
_MAX_COARSE_BANDS = 1
_BAND_ORDER = ("lst", "spread_k", "iqr_k", "n_triples", "flags")
_UINT8_BANDS = {"n_triples", "flags"}


@dataclass(frozen=True)
class GeotiffRequest:
    """What the rasters of a request hold.

    Attributes:
        arrays: ``coarse`` [h, w]; with factors also ``factors`` [F, H, W] and ``factor_names`` [F] (text, the band
            descriptions); ``time`` (0-d text) where the coarse raster has a tag ``time``.
        grids: the grid of each raster, by its name.
    """

    arrays: dict[str, Array]
    grids: dict[str, Grid]


def decode_geotiff_request(
    parts: Mapping[str, bytes], limits: Limits, budget: InflatedBudget | None = None
) -> GeotiffRequest:
    """Decode the rasters of one request.

    Args:
        parts: ``coarse`` (one band) and, for AMUN, ``factors`` (F bands on the fine grid, same bounds).
        budget: of the whole request; None: these rasters are all of it.

    Raises:
        InvalidInput: another name, too large, no GeoTIFF, no CRS, more than one coarse band, or other bounds.
        Unavailable: rasterio is missing.
    """
    if "coarse" not in parts or not parts.keys() <= _PARTS:
        raise InvalidInput(f"GeoTIFF parts are {sorted(parts)}, needed coarse and optionally factors")
    budget = budget or InflatedBudget(limits)
    max_bands = {"coarse": _MAX_COARSE_BANDS, "factors": limits.max_arrays}
    rasters = {name: _decode(name, body, limits, budget, max_bands[name]) for name, body in parts.items()}
    coarse = rasters["coarse"]
    arrays: dict[str, Array] = {"coarse": coarse.values[0]}
    if TIME_TAG in coarse.tags:
        arrays["time"] = np.array(coarse.tags[TIME_TAG])
    if "factors" in rasters:
        factors = rasters["factors"]
        require_same_bounds("factors", factors, "coarse", coarse)
        arrays |= {"factors": factors.values, "factor_names": np.array(factors.names)}
    return GeotiffRequest(arrays, {name: raster.grid for name, raster in rasters.items()})


def encode_geotiff_reply(
    result: Mapping[str, Any], georeference: Georeference | None, *, step: float | None = None
) -> bytes:
    """The reply as one COG: every array on the grid of ``lst`` is a band called by its name.

    Single numbers go as JSON into the tag THERMOSCALE_SCALARS, ``meta`` (a dict) into THERMOSCALE_META, which also
    lists under ``left_out`` the arrays that are on no fine grid, and says when there is no georeference.

    Args:
        georeference: of the result's fine grid (of the window, if there is one); None writes a file without one.
        step: None stores float32; a number stores uint16 codes of it (counts and flags as they are), and ``meta``
            says so under ``encoding`` and ``rounded_to``.

    Raises:
        InvalidInput: a value is no code.
        Unavailable: rasterio is missing, or GDAL fails.
    """
    shape = np.shape(result["lst"])
    arrays = {name: np.asarray(value) for name, value in result.items() if name != "meta"}
    bands = sorted((name for name, array in arrays.items() if array.shape == shape), key=_band_rank)
    scalars = {name: array.item() for name, array in arrays.items() if array.ndim == 0}
    left_out = sorted(arrays.keys() - set(bands) - scalars.keys())
    where = georeference or Georeference(NO_CRS, IDENTITY)
    tags = reply_tags(result.get("meta", {}), scalars, left_out, georeferenced=georeference is not None, step=step)
    values = np.stack([arrays[name].astype(np.float32) for name in bands])
    steps = None if step is None else [1.0 if name in _UINT8_BANDS else step for name in bands]
    return encode_geotiff(Raster(values, where.crs, where.transform, tuple(bands), tags), steps=steps)


def reply_tags(
    meta: Mapping[str, Any],
    scalars: Mapping[str, Any],
    left_out: Sequence[str],
    *,
    georeferenced: bool,
    step: float | None = None,
) -> dict[str, str]:
    """The tags of a reply's GeoTIFF; see :func:`encode_geotiff_reply`."""
    whole = {**meta, "left_out": list(left_out), "georeferenced": georeferenced}
    whole |= {"encoding": "float32" if step is None else "uint16", "rounded_to": step}
    return {META_TAG: json.dumps(whole, allow_nan=False), SCALARS_TAG: json.dumps(_without_nan(scalars))}


def decode_geotiff_reply(body: bytes, limits: Limits) -> dict[str, Array]:
    """The arrays of a reply: bands and single numbers by name, counts and flags as uint8, ``meta`` as 0-d text.

    Raises:
        InvalidInput: too large, damaged, or not a reply of ours.
        Unavailable: rasterio is missing.
    """
    raster = _decode("the reply", body, limits, InflatedBudget(limits), limits.max_arrays, georeferenced=False)
    if META_TAG not in raster.tags:
        raise InvalidInput(f"the reply has no tag {META_TAG}: it is not from thermoscale")
    scalars = json_of(SCALARS_TAG, np.array(raster.tags.get(SCALARS_TAG, "{}")))
    arrays = {name: _typed(name, band) for name, band in zip(raster.names, raster.values, strict=True)}
    arrays |= {name: np.asarray(np.nan if value is None else value) for name, value in scalars.items()}
    return {**arrays, "meta": np.array(raster.tags[META_TAG])}


def _decode(
    name: str, body: bytes, limits: Limits, budget: InflatedBudget, max_bands: int, georeferenced: bool = True
) -> Raster:
    if len(body) > limits.max_body_bytes:
        raise InvalidInput(f"{name} has {len(body)} bytes, at most {limits.max_body_bytes} are allowed")
    return decode_geotiff(
        body,
        max_pixels=limits.max_pixels,
        max_bands=max_bands,
        charge=partial(budget.charge, name, len(body)),
        name=name,
        georeferenced=georeferenced,
    )


def _band_rank(name: str) -> tuple[int, str]:
    return (_BAND_ORDER.index(name) if name in _BAND_ORDER else len(_BAND_ORDER), name)


def _typed(name: str, band: Array) -> Array:
    return band.astype(np.uint8) if name in _UINT8_BANDS else band


def _without_nan(scalars: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in scalars.items()}
