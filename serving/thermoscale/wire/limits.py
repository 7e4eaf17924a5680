"""How large a request may be: checked before anything is inflated or computed."""

from dataclasses import dataclass, fields

_MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Upper bounds on one request; each is at least 1.

    Attributes:
        max_body_bytes: size of one part as it arrives.
        max_inflated_bytes: size of all arrays of one part after decompression.
        max_ratio: inflated size over body size, for bodies that inflate beyond ``ratio_free_bytes``.
        ratio_free_bytes: inflated size below which any ratio is allowed (a small empty scene compresses 1000 times).
        max_arrays: arrays in one .npz, bands in one GeoTIFF.
        max_pixels: rows times columns of one band or output grid.
        max_triples: triples of dates that one request may ask for.
    """

    max_body_bytes: int = 64 * _MIB
    max_inflated_bytes: int = 256 * _MIB
    max_ratio: int = 200
    ratio_free_bytes: int = 16 * _MIB
    max_arrays: int = 64
    max_pixels: int = 32 * _MIB
    max_triples: int = 400

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}, needed at least 1")
