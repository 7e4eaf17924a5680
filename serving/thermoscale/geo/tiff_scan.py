"""Whether a TIFF holds all the bytes that its directories point to.

GDAL drops a tag that lies beyond the end of a truncated file and reads on. If that tag was the nodata value, fill
values become measurements. So the directories are walked first.
Layout: TIFF 6.0, section 2 (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf), and BigTIFF.
"""

import os
import struct
from typing import IO, NamedTuple

from thermoscale.errors import InvalidInput

_BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MAX_DIRECTORIES = 64  # the image, its overviews and masks


class _Layout(NamedTuple):
    """Formats of a directory's parts: how many entries, one entry (tag, type, count, value), position of the next."""

    first: int
    n_entries: struct.Struct
    entry: struct.Struct
    offset: struct.Struct


_CLASSIC = ("H", "HHI4s", "I")
_BIG = ("Q", "HHQ8s", "Q")


def require_whole_tiff(name: str, stream: IO[bytes]) -> None:
    """Check that every directory of the TIFF in ``stream``, and every value it points to, lies inside the file.

    Raises:
        InvalidInput: no TIFF, truncated, or more directories than a raster has.
    """
    size = stream.seek(0, os.SEEK_END)
    try:
        layout = _layout(_read(stream, 0, 16))
        position = layout.offset.unpack(_read(stream, layout.first, layout.offset.size))[0]
        for _ in range(_MAX_DIRECTORIES):
            if position == 0:
                return
            position = _require_whole_directory(stream, position, layout, size)
    except (ValueError, struct.error, OverflowError) as error:
        raise InvalidInput(f"{name} of {size} bytes is not a complete GeoTIFF: {error}") from error
    raise InvalidInput(f"{name} has more than {_MAX_DIRECTORIES} TIFF directories")


def _layout(header: bytes) -> _Layout:
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    if order is None:
        raise ValueError(f"it begins with {header[:4]!r}")
    big = 43 in header[2:4]
    formats = [struct.Struct(order + text) for text in (_BIG if big else _CLASSIC)]
    return _Layout(8 if big else 4, *formats)


def _require_whole_directory(stream: IO[bytes], position: int, layout: _Layout, size: int) -> int:
    """Check one directory and give the position of the next."""
    (count,) = layout.n_entries.unpack(_read(stream, position, layout.n_entries.size))
    start, length = position + layout.n_entries.size, count * layout.entry.size
    if start + length > size:
        raise ValueError(f"its directory at byte {position} ends beyond the file")
    for tag, kind, n_values, value in layout.entry.iter_unpack(_read(stream, start, length)):
        n_bytes = n_values * _BYTES_OF_TYPE.get(kind, 1)
        if n_bytes > len(value) and layout.offset.unpack(value)[0] + n_bytes > size:
            raise ValueError(f"the value of tag {tag} lies beyond the end of the file")
    following: int = layout.offset.unpack(_read(stream, start + length, layout.offset.size))[0]
    return following


def _read(stream: IO[bytes], position: int, length: int) -> bytes:
    stream.seek(position)
    content = stream.read(length)
    if len(content) != length:
        raise ValueError(f"it ends before byte {position + length}")
    return content
