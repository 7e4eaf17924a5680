"""Times of scenes: ISO 8601, UTC, minutes.

The canonical text ``YYYY-MM-DDTHH:MMZ`` sorts like the moments it names, so tuples of canonical texts
can be compared and sorted as they are.
"""

import re

import numpy as np

from thermoscale.errors import InvalidInput

_SYNTAX = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}Z)?", re.ASCII)
_MINUTES_OF_A_DAY = 1440.0


def parse_time(text: str) -> np.datetime64:
    """The moment named by ``text``, in minutes UTC; a bare date means 12:00.

    Raises:
        InvalidInput: another syntax, or no such moment in the calendar.
    """
    moment = None
    if _SYNTAX.fullmatch(text):
        try:
            moment = np.datetime64(text[:-1] if text.endswith("Z") else text + "T12:00", "m")
        except ValueError:
            moment = None
    if moment is None:
        raise InvalidInput(f"time {text!r} is not understood, needed UTC like 2020-10-02T18:30Z or 2020-10-02")
    return moment


def format_time(moment: np.datetime64) -> str:
    """``moment`` as canonical text."""
    return f"{np.datetime_as_string(moment, unit='m')}Z"


def canonical_time(text: str) -> str:
    """The canonical text of the moment named by ``text``.

    Raises:
        InvalidInput: as in :func:`parse_time`.
    """
    return format_time(parse_time(text))


def day_of(text: str) -> float:
    """Days from 1970-01-01 to the moment named by ``text``, for distances in time.

    Raises:
        InvalidInput: as in :func:`parse_time`.
    """
    return float(parse_time(text).astype(np.int64)) / _MINUTES_OF_A_DAY
