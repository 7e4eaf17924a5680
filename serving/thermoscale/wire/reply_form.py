"""In which bytes a request wants its reply, and how many there will be at most."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from thermoscale.errors import InvalidInput
from thermoscale.geo.cog import largest_cog_bytes

FORMATS = ("npz", "geotiff")
ENCODINGS = ("float32", "uint16")
_META_BYTES = 2**18
"""More than ``meta`` and the headers around the images take."""


class ReplyForm(NamedTuple):
    """``format`` of the reply, and ``encoding`` of a GeoTIFF's bands: one of FORMATS, one of ENCODINGS."""

    format: str
    encoding: str

    def largest_bytes(self, height: int, width: int, layers: Mapping[str, npt.DTypeLike]) -> int:
        """At most this many bytes take the images ``layers`` of ``height`` x ``width`` pixels, named by their type."""
        if self.format == "geotiff":
            return largest_cog_bytes(height, width, np.dtype(self.encoding).itemsize * len(layers)) + _META_BYTES
        return height * width * sum(np.dtype(dtype).itemsize for dtype in layers.values()) + _META_BYTES


def take_reply_form(values: dict[str, Any], default: str) -> ReplyForm:
    """Take ``reply`` (default: format ``default``) and ``encoding`` out of the values of a request.

    Raises:
        InvalidInput: another word, or an encoding of an .npz.
    """
    form = ReplyForm(str(values.pop("reply", default)), str(values.pop("encoding", ENCODINGS[0])))
    for name, got, known in (("reply", form.format, FORMATS), ("encoding", form.encoding, ENCODINGS)):
        if got not in known:
            raise InvalidInput(f"{name} is {got!r:.40}, needed one of {list(known)}")
    if form == ("npz", "uint16"):
        raise InvalidInput("encoding is 'uint16', which only a GeoTIFF has: ask for reply = geotiff, too")
    return form
