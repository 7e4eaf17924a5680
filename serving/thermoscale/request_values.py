"""The small values of a request, which may come as Python values, npz arrays or text parts."""

import json
import math
import re
from typing import Any

import numpy as np

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.fields import as_array, read_numbers, read_text
from thermoscale.wire.limits import Limits

_NUMBERS = re.compile(r"\[?\s*(-?\d{1,9}(?:\s*,\s*-?\d{1,9})*)\s*\]?", re.ASCII)
_YES_NO = {"true": True, "1": True, "false": False, "0": False}


def is_text(value: Any) -> bool:
    """Whether ``value`` is one text: a str or an array of no axes."""
    array = np.asarray(value) if isinstance(value, str | np.ndarray | np.str_) else None
    return array is not None and array.dtype.kind == "U" and array.ndim == 0


def read_window(value: Any) -> tuple[int, ...]:
    """Whole numbers from a list, an array, or a text like ``0,0,128,128``; the pipeline checks how many and where."""
    if is_text(value):
        found = _NUMBERS.fullmatch(read_text("window", value))
        if not found:
            raise InvalidInput(f"window is {str(value)!r:.80}, needed row,col,height,width in fine pixels")
        return tuple(int(number) for number in found[1].split(","))
    array = as_array("window", value)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InvalidInput(
            f"window is {array.dtype} {list(array.shape)}, needed 4 whole numbers: row, col, height, width"
        )
    return tuple(int(number) for number in array)


def read_yes_no(name: str, value: Any) -> bool:
    """One bool, from a bool, 0, 1, or the texts true and false."""
    if is_text(value) and read_text(name, value).lower() in _YES_NO:
        return _YES_NO[read_text(name, value).lower()]
    array = as_array(name, value)
    if array.ndim != 0 or array.dtype.kind not in "biu" or array.item() not in (0, 1):
        raise InvalidInput(f"{name} is {str(value)!r:.80}, needed true or false")
    return bool(array)


def read_number(name: str, value: Any) -> float:
    """One finite number, from a number or its text."""
    try:
        number = float(read_text(name, value)) if is_text(value) else float(read_numbers(name, value, ()))
    except ValueError as error:
        raise InvalidInput(f"{name} is {str(value)!r:.80}, needed a number") from error
    if not math.isfinite(number):
        raise InvalidInput(f"{name} is {number}, needed a finite number")
    return number


def read_time_pairs(value: Any, limits: Limits) -> list[tuple[str, str]]:
    """(pre, post) times from ``[n, 2]`` texts, or from their JSON text."""
    if is_text(value):
        try:
            value = json.loads(read_text("triples", value))
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"triples is a text that is not JSON: {error}") from error
    array = as_array("triples", value)
    if array.dtype.kind != "U" or array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
        raise InvalidInput(f"triples is {array.dtype} {list(array.shape)}, needed texts [n, 2]: pre, post")
    require_few_triples(len(array), limits)
    return [(str(pre), str(post)) for pre, post in array]


def require_few_triples(count: int, limits: Limits) -> None:
    """Check the number of triples before any is computed."""
    if count > limits.max_triples:
        raise InvalidInput(f"{count} triples, at most {limits.max_triples} are allowed: name fewer in triples")


def read_image(name: str, value: Any) -> Array:
    """An array; the pipeline checks its type, unit and shape."""
    return as_array(name, value)


def require_small(height: int, width: int, bytes_per_pixel: int, limits: Limits) -> None:
    """Check the size of the work and of the reply before either exists.

    Raises:
        InvalidInput: too many fine pixels, or a reply that would be larger than a body may be.
    """
    pixels = height * width
    if pixels > limits.max_pixels:
        raise InvalidInput(
            f"the fine grid of this request has {height} x {width} = {pixels} pixels, "
            f"at most {limits.max_pixels} are allowed: send a smaller part"
        )
    if pixels * bytes_per_pixel > limits.max_body_bytes:
        raise InvalidInput(
            f"the reply would have about {pixels * bytes_per_pixel} bytes, at most {limits.max_body_bytes} are "
            "allowed: ask for a window"
        )
