"""Coarse and fine scenes of the same moment: the input of downscaling."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thermoscale.arrays import LST, Array, FloatArray, IntArray, require_keys, require_shape
from thermoscale.errors import InvalidInput
from thermoscale.factor_ranges import require_factor
from thermoscale.fields import (
    Georeference,
    as_array,
    georeference,
    read_integers,
    read_numbers,
    read_scenes,
    read_text,
    read_texts,
    read_times,
    read_transform,
    require_crs_with_transform,
    require_distinct,
    take_texts,
)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Coarse and fine scenes of the same moment, for downscaling. Build it with :meth:`from_arrays`.

    Attributes:
        coarse: ``[N, h, w]`` K, NaN = no data.
        fine: ``[N, H, W]`` K, the truth; None where there is nothing to fit or score.
        factors: ``[N, F, H, W]`` in ``factor_units``; a factor may be NaN.
        group: the ground of each scene: one group never stands on both sides of a split.
        corner: ``[N, 2]`` row, col of each scene's corner on one common coarse grid.
        crs, transform: of the fine grid; ``[6]`` for all scenes or ``[N, 6]`` for each, held as ``[N, 6]``.
    """

    coarse: FloatArray
    fine: FloatArray | None = None
    factors: FloatArray | None = None
    factor_names: tuple[str, ...] | None = None
    factor_units: tuple[str, ...] | None = None
    group: tuple[str, ...] | None = None
    corner: IntArray | None = None
    id: tuple[str, ...] | None = None
    time: tuple[str, ...] | None = None
    crs: str | None = None
    transform: npt.NDArray[np.float64] | None = None

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "Pairs":
        """Check named arrays and take them as Pairs.

        Raises:
            InvalidInput: a key is missing or unknown, or its value does not fit; the message names the key.
        """
        require_keys("pairs", arrays, {"coarse"}, {field.name for field in fields(cls)} - {"coarse"})
        coarse = read_scenes("coarse", arrays["coarse"], ("N", "h", "w"), LST)
        n = len(coarse)
        require_crs_with_transform(arrays, "")
        optional: dict[str, Any] = {
            "fine": lambda name, value: read_scenes(name, value, (n, "H", "W"), LST),
            "group": lambda name, value: read_texts(name, value, n),
            "corner": lambda name, value: read_integers(name, value, (n, 2)),
            "id": lambda name, value: read_texts(name, value, n),
            "time": lambda name, value: read_times(name, value, n),
            "crs": read_text,
            "transform": lambda name, value: _read_transforms(name, value, n),
        }
        pairs = cls(
            coarse=coarse,
            **{name: read(name, arrays[name]) for name, read in optional.items() if name in arrays},
            **_read_factors(arrays, n),
        )
        pairs._require_one_fine_grid()
        return pairs

    def to_arrays(self) -> dict[str, Array]:
        """Named arrays that :meth:`from_arrays` takes back; absent keys are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: np.asarray(value) for name, value in values.items() if value is not None}

    def __len__(self) -> int:
        return len(self.coarse)

    @property
    def fine_shape(self) -> tuple[int, int]:
        """(H, W) of the truth or of the factors.

        Raises:
            InvalidInput: the pairs have neither.
        """
        fine = self.fine if self.fine is not None else self.factors
        if fine is None:
            raise InvalidInput("pairs have neither fine nor factors: the fine grid is unknown")
        return int(fine.shape[-2]), int(fine.shape[-1])

    @property
    def scale_factor(self) -> float:
        """Coarse pixel side / fine pixel side."""
        return float(self.fine_shape[0] / self.coarse.shape[1])

    def fine_georeference(self, scene: int) -> Georeference | None:
        """Where the fine grid of one scene lies, None when unknown."""
        if self.transform is None:
            return None
        return georeference(self.crs, read_transform("transform", self.transform[scene]))

    def subset(self, indexes: Iterable[int]) -> "Pairs":
        """The scenes at ``indexes``, in that order."""
        rows = [int(index) for index in indexes]
        changes: dict[str, Any] = {}
        for name in ("coarse", "fine", "factors", "corner", "transform", "group", "id", "time"):
            value = getattr(self, name)
            if value is not None:
                changes[name] = take_texts(value, rows) if isinstance(value, tuple) else value[rows]
        return replace(self, **changes)

    def _require_one_fine_grid(self) -> None:
        """Truth and factors share a grid, and it has the bounds and square cells of the coarse one."""
        if self.fine is None and self.factors is None:
            return
        height, width = self.fine_shape
        h, w = self.coarse.shape[1:]
        if self.factors is not None and self.factors.shape[-2:] != (height, width):
            raise InvalidInput(f"factors have shape {list(self.factors.shape)}, fine is {height} x {width}")
        if height * w != width * h or height < h:
            raise InvalidInput(
                f"fine grid {height} x {width} does not divide the coarse grid {h} x {w} by one scale factor >= 1"
            )


def _read_factors(arrays: Mapping[str, Any], n_scenes: int) -> dict[str, Any]:
    together = {"factors", "factor_names", "factor_units"}
    present = together & arrays.keys()
    if not present:
        return {}
    if present != together:
        raise InvalidInput(f"{sorted(present)} come without {sorted(together - present)}; give all three or none")
    factors = as_array("factors", arrays["factors"])
    require_shape("factors", factors, (n_scenes, "F", "H", "W"))
    if factors.dtype.kind not in "fiu":
        raise InvalidInput(f"factors have type {factors.dtype}, needed numbers (float32)")
    names = read_texts("factor_names", arrays["factor_names"], factors.shape[1])
    require_distinct("factor_names", names)
    units = read_texts("factor_units", arrays["factor_units"], factors.shape[1])
    values = factors.astype(np.float32, copy=False)
    for channel, (name, unit) in enumerate(zip(names, units, strict=True)):
        require_factor(name, unit, values[:, channel])
    return {"factors": values, "factor_names": names, "factor_units": units}


def _read_transforms(name: str, value: Any, n_scenes: int) -> npt.NDArray[np.float64]:
    if as_array(name, value).ndim == 1:
        return np.tile(np.array(read_transform(name, value)), (n_scenes, 1))
    rows = read_numbers(name, value, (n_scenes, 6))
    return np.array([read_transform(f"{name}[{i}]", row) for i, row in enumerate(rows)])
