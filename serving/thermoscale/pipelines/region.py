"""The place an I-USTFM bundle belongs to: its HCRs, its grids, its clips and its library of dated scenes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from thermoscale.arrays import Array, FloatArray, IntArray, require_keys, require_shape
from thermoscale.errors import InvalidInput
from thermoscale.formats import format_time, parse_time

MAX_CODE = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Region:
    """Arrays of one place. Coarse grid (h, w), fine grid (H, W); any of them may be a read-only memory map.

    Attributes:
        labels: ``[H, W]`` HCR of each fine pixel, -1 none.
        coarse_index: ``[H, W]`` row * w + col of the fine pixel's coarse cell, -1 none.
        slots: ``[h * w]`` DyNet input that a coarse cell owns, -1 none.
        clips: ``[n, 4]`` row, col, height, width in fine pixels.
        library_time: T dates with both images, ascending.
        library_coarse, library_fine: ``[T, h, w]`` and ``[T, H, W]`` codes; value = code * step, 0 = no data.
    """

    labels: IntArray
    coarse_index: IntArray
    slots: IntArray
    clips: IntArray
    library_time: tuple[str, ...]
    library_coarse: Array
    library_fine: Array

    def __post_init__(self) -> None:
        h, w = self.coarse_shape
        n_dates = len(self.library_time)
        require_shape("region labels", self.labels, ("H", "W"))
        require_shape("region coarse_index", self.coarse_index, self.fine_shape)
        require_shape("region slots", self.slots, (h * w,))
        require_shape("region clips", self.clips, ("n", 4))
        require_shape("region library_coarse", self.library_coarse, (n_dates, h, w))
        require_shape("region library_fine", self.library_fine, (n_dates, *self.fine_shape))
        if self.library_coarse.dtype != np.uint16 or self.library_fine.dtype != np.uint16:
            raise InvalidInput(
                f"region library has types {self.library_coarse.dtype} and {self.library_fine.dtype}, needed uint16"
            )
        self._require_indexes()
        canonical = [format_time(parse_time(time)) for time in self.library_time]
        if list(self.library_time) != sorted(set(canonical)):
            raise InvalidInput(f"region library_time {list(self.library_time)}: needed distinct ascending UTC times")

    def _require_indexes(self) -> None:
        owned = self.slots[self.slots >= 0]
        if len(np.unique(owned)) != len(owned):
            raise InvalidInput("region slots: two coarse cells share a slot")
        if int(self.coarse_index.max()) >= self.slots.size or int(self.coarse_index.min()) < -1:
            raise InvalidInput(f"region coarse_index leaves the {self.slots.size} coarse cells")
        corner, extent = self.clips[:, :2], self.clips[:, 2:]
        if (corner < 0).any() or (extent < 1).any() or (corner + extent > self.fine_shape).any():
            raise InvalidInput(f"region clips leave the fine grid of shape {list(self.fine_shape)}")

    @property
    def fine_shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def coarse_shape(self) -> tuple[int, int]:
        """(h, w)."""
        if self.library_coarse.ndim != 3:
            raise InvalidInput(f"region library_coarse has shape {list(self.library_coarse.shape)}, needed [T, h, w]")
        return self.library_coarse.shape[1], self.library_coarse.shape[2]

    def to_arrays(self) -> dict[str, Array]:
        """Every attribute as an array, as a bundle stores them in ``region/<name>.npy``."""
        return {name: np.asarray(getattr(self, name)) for name in REGION_NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Region":
        """Read what :meth:`to_arrays` wrote.

        Raises:
            InvalidInput: a missing or unknown name, or arrays that do not fit together.
        """
        require_keys("region", arrays, set(REGION_NAMES), set())
        times = tuple(str(time) for time in arrays["library_time"])
        values: dict[str, Any] = {**arrays, "library_time": times}
        return cls(**values)


REGION_NAMES = tuple(field.name for field in fields(Region))


def encode_library(values: FloatArray, step: float) -> Array:
    """Codes of ``values``: nearest multiple of ``step``, NaN becomes 0.

    Raises:
        InvalidInput: a value does not fit 1 .. 65535 codes.
    """
    missing = np.isnan(values)
    codes = np.rint(np.where(missing, 0.0, values.astype(np.float64) / step))
    outside = ~missing & ((codes < 1) | (codes > MAX_CODE))
    if outside.any():
        worst = values[outside].flat[0]
        raise InvalidInput(
            f"{int(outside.sum())} library values such as {worst:g} cannot be stored as codes of "
            f"{step:g}; needed {step:g} to {MAX_CODE * step:g}, NaN for no data"
        )
    return codes.astype(np.uint16)


def decode_library(codes: Array, step: float) -> FloatArray:
    """Values of ``codes`` as float32; code 0 becomes NaN."""
    values = codes.astype(np.float32)
    values *= np.float32(step)
    values[codes == 0] = np.nan
    return values
