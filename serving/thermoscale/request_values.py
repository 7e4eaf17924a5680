"""The small values of a request, which may come as Python values, npz arrays or text parts."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.fields import as_array, read_numbers, read_text
from thermoscale.wire.limits import Limits
from thermoscale.wire.reply_form import ReplyForm

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


def require_few_pixels(height: int, width: int, limits: Limits) -> None:
    """Check the number of fine pixels before an array of them exists."""
    if height * width > limits.max_pixels:
        raise InvalidInput(
            f"the fine grid of this request has {height} x {width} = {height * width} pixels, "
            f"at most {limits.max_pixels} are allowed: send a smaller part"
        )


def require_small_reply(
    height: int, width: int, layers: Mapping[str, npt.DTypeLike], form: ReplyForm | None, limits: Limits
) -> None:
    """Check the size that a reply can have on the wire before it is computed; ``form`` None: it stays in memory."""
    if form is None:
        return
    largest = form.largest_bytes(height, width, layers)
    if largest > limits.max_reply_bytes:
        smaller = "" if form == ReplyForm("geotiff", "uint16") else ", or for reply = geotiff with encoding = uint16"
        raise InvalidInput(
            f"the reply of {height} x {width} pixels could have {largest} bytes, at most {limits.max_reply_bytes} are "
            f"allowed: ask for a window{smaller}"
        )


def require_short_work(seconds: float, form: ReplyForm | None, limits: Limits) -> None:
    """Check the time that a request from the wire would take at best; ``form`` None: the caller may wait."""
    if form is not None and seconds > limits.max_seconds:
        raise InvalidInput(
            f"the work on this request would take about {seconds:.0f} s, at most {limits.max_seconds} s are allowed: "
            "ask for a window"
        )
