"""One key of a data set: turn whatever a file or a request holds into a checked value.

Every function takes the key's name first, because every message names it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import Array, FloatArray, IntArray, Quantity, require_quantity, require_shape
from thermoscale.errors import InvalidInput
from thermoscale.times import canonical_time

Transform = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f) in rasterio's order: x = a * col + b * row + c, y = d * col + e * row + f, pixel corner."""


@dataclass(frozen=True)
class Georeference:
    """Where a grid lies: CRS as WKT or ``EPSG:n``, and the transform of its pixel corners."""

    crs: str
    transform: Transform


def georeference(crs: str | None, transform: Transform | None) -> Georeference | None:
    """Both parts together, None where the data set has none."""
    return None if crs is None or transform is None else Georeference(crs, transform)


def as_array(name: str, value: Any) -> Array:
    """``value`` as an array; masked numbers become NaN; lists whose rows differ in length are refused."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        if value.dtype.kind not in "fiu":
            raise InvalidInput(f"{name} is a masked array of {value.dtype}, needed numbers or an array without mask")
        return np.where(np.ma.getmaskarray(value), np.float32(np.nan), value.data)
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InvalidInput(f"{name} is not a regular array: {error}") from error


def read_text(name: str, value: Any) -> str:
    """One non-empty text, from a str or an array of no axes."""
    array = as_array(name, value)
    if array.dtype.kind != "U" or array.ndim != 0 or not str(array):
        raise InvalidInput(f"{name} is {_describe(array)}, needed one text")
    return str(array)


def read_texts(name: str, value: Any, length: int) -> tuple[str, ...]:
    """``length`` texts, from a list or an array with one axis; whole numbers count as texts."""
    array = as_array(name, value)
    if array.dtype.kind not in "Uiu" or array.shape != (length,):
        raise InvalidInput(f"{name} is {_describe(array)}, needed {length} texts")
    return tuple(str(item) for item in array)


def read_times(name: str, value: Any, length: int) -> tuple[str, ...]:
    """``length`` canonical times."""
    try:
        return tuple(canonical_time(text) for text in read_texts(name, value, length))
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from error


def require_distinct(name: str, times: Sequence[str]) -> None:
    """Check that no time occurs twice."""
    twice = sorted({time for time in times if times.count(time) > 1})
    if twice:
        raise InvalidInput(f"{name} names {twice} more than once; keep one scene of each time")


def read_numbers(name: str, value: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Finite numbers of exactly ``shape``, float64."""
    array = as_array(name, value)
    if array.dtype.kind not in "fiu" or array.shape != shape or not np.isfinite(array).all():
        raise InvalidInput(f"{name} is {_describe(array)}, needed finite numbers of shape {list(shape)}")
    return array.astype(np.float64)


def read_series_of_numbers(name: str, value: Any, length: int, low: float, high: float) -> FloatArray:
    """``length`` finite numbers between ``low`` and ``high``, float32."""
    numbers = read_numbers(name, value, (length,))
    if length and (numbers.min() < low or numbers.max() > high):
        raise InvalidInput(f"{name} ranges from {numbers.min():g} to {numbers.max():g}, needed {low:g} to {high:g}")
    return numbers.astype(np.float32)


def read_integers(name: str, value: Any, shape: tuple[int, ...]) -> IntArray:
    """Whole numbers of exactly ``shape``, int32."""
    array = as_array(name, value)
    if array.dtype.kind not in "iu" or array.shape != shape:
        raise InvalidInput(f"{name} is {_describe(array)}, needed whole numbers (int32) of shape {list(shape)}")
    if array.size and (int(array.min()) < -(2**31) or int(array.max()) >= 2**31):
        raise InvalidInput(f"{name} ranges from {array.min()} to {array.max()}: too large for int32")
    return array.astype(np.int32)


def read_transform(name: str, value: Any) -> Transform:
    """Six numbers in rasterio's order whose pixels have an area."""
    a, b, c, d, e, f = read_numbers(name, value, (6,)).tolist()
    if a * e - b * d == 0.0:
        raise InvalidInput(f"{name} {[a, b, c, d, e, f]} gives pixels without area; needed (a, b, c, d, e, f)")
    return a, b, c, d, e, f


def _describe(array: Array) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"


def read_scenes(name: str, value: Any, shape: tuple[int | str, ...], quantity: Quantity) -> FloatArray:
    """A stack of scenes of ``quantity``: single scenes may be all NaN, not the whole stack."""
    scenes = as_array(name, value)
    require_shape(name, scenes, shape)
    return require_quantity(name, scenes, quantity)


def require_crs_with_transform(arrays: Mapping[str, Any], prefix: str) -> None:
    """Check that ``<prefix>crs`` and ``<prefix>transform`` are both there or both absent."""
    crs, transform = f"{prefix}crs", f"{prefix}transform"
    if (crs in arrays) != (transform in arrays):
        have, lack = (crs, transform) if crs in arrays else (transform, crs)
        raise InvalidInput(f"{have} comes without {lack}; give both or neither")


def take_texts(items: tuple[str, ...], rows: Iterable[int]) -> tuple[str, ...]:
    """The texts at ``rows``, in that order."""
    return tuple(items[row] for row in rows)
