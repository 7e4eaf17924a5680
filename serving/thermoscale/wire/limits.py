"""How large a request, its work and its reply may be: checked before anything is inflated or computed."""

from dataclasses import dataclass, fields

from thermoscale.errors import InvalidInput

_MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Upper bounds on one request; each is at least 1.

    Attributes:
        max_parts: parts of one request.
        max_body_bytes: size of all parts together as they arrive, and of a file that a part names.
        max_inflated_bytes: size of the arrays of all parts together after decompression; a band counts as float32.
        max_ratio: inflated size over body size, for parts that inflate beyond ``ratio_free_bytes``.
        ratio_free_bytes: inflated size below which any ratio is allowed (a small empty scene compresses 1000 times).
        max_arrays: arrays in one .npz, bands in one GeoTIFF.
        max_pixels: rows times columns of one band or output grid.
        max_triples: triples of dates that one request may ask for.
        max_seconds: time that the work on one request from the wire is expected to take, and may take; the server
            itself gives up after 120 s and takes the worker with it.
        max_reply_bytes: size of a reply on the wire.
    """

    max_parts: int = 16
    max_body_bytes: int = 64 * _MIB
    max_inflated_bytes: int = 256 * _MIB
    max_ratio: int = 200
    ratio_free_bytes: int = 16 * _MIB
    max_arrays: int = 64
    max_pixels: int = 32 * _MIB
    max_triples: int = 400
    max_seconds: int = 100
    max_reply_bytes: int = 64 * _MIB

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}, needed at least 1")


class InflatedBudget:
    """What the parts of one request may inflate to together; each part is charged before it is inflated."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._spent_bytes = 0

    def charge(self, name: str, body_bytes: int, inflated_bytes: int) -> None:
        """Count one part of ``body_bytes`` as it arrived.

        Raises:
            InvalidInput: the parts so far inflate to more than ``max_inflated_bytes``, or this one too many times.
        """
        limits, story = self._limits, f"{name} inflates from {body_bytes} to {inflated_bytes} bytes"
        self._spent_bytes += inflated_bytes
        if self._spent_bytes > limits.max_inflated_bytes:
            raise InvalidInput(
                f"{story}, all parts so far to {self._spent_bytes}, at most {limits.max_inflated_bytes} are allowed"
            )
        if inflated_bytes > limits.ratio_free_bytes and inflated_bytes > limits.max_ratio * body_bytes:
            raise InvalidInput(
                f"{story}, more than {limits.max_ratio} times: send it uncompressed "
                "(numpy.savez, gdal_translate) if it really is that empty"
            )
