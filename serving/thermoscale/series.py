"""Dated scenes of one place on two grids: the input of fusion."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from thermoscale.arrays import LST, QUANTITIES, Array, FloatArray, IntArray, Quantity, require_keys
from thermoscale.errors import InvalidInput
from thermoscale.fields import (
    Georeference,
    Transform,
    georeference,
    read_integers,
    read_scenes,
    read_series_of_numbers,
    read_text,
    read_times,
    read_transform,
    require_crs_with_transform,
    require_distinct,
    take_texts,
)
from thermoscale.numerics.grids import regular_index
from thermoscale.times import canonical_time


@dataclass(frozen=True, eq=False)
class Series:
    """Dated coarse and fine scenes of one place. Build it with :meth:`from_arrays`, which checks everything.

    Attributes:
        coarse: ``[Tc, h, w]`` in the unit of ``quantity``, NaN = no data.
        coarse_time: ``Tc`` canonical times.
        fine: ``[Tf, H, W]``, only dates that have an image.
        fine_time: ``Tf`` canonical times, each also in ``coarse_time``.
        coarse_index: ``[H, W]``, row * w + col of the coarse cell that holds the fine pixel's centre, -1 none.
        quantity: a name in :data:`thermoscale.arrays.QUANTITIES`.
        coarse_error: ``[Tc]``, 1-sigma error of a coarse pixel, unit of ``quantity``.
        coarse_local_hour, fine_local_hour: local solar time, hours.
    """

    coarse: FloatArray
    coarse_time: tuple[str, ...]
    fine: FloatArray
    fine_time: tuple[str, ...]
    coarse_index: IntArray
    fine_crs: str | None = None
    fine_transform: Transform | None = None
    coarse_crs: str | None = None
    coarse_transform: Transform | None = None
    quantity: str = LST.name
    coarse_error: FloatArray | None = None
    coarse_local_hour: FloatArray | None = None
    fine_local_hour: FloatArray | None = None

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "Series":
        """Check named arrays and take them as a Series.

        Raises:
            InvalidInput: a key is missing or unknown, or its value does not fit; the message names the key.
        """
        needed = {"coarse", "coarse_time", "fine", "fine_time"}
        require_keys("series", arrays, needed, {field.name for field in fields(cls)} - needed)
        quantity = _read_quantity(arrays)
        coarse = read_scenes("coarse", arrays["coarse"], ("Tc", "h", "w"), quantity)
        fine = read_scenes("fine", arrays["fine"], ("Tf", "H", "W"), quantity)
        n_coarse, n_fine = len(coarse), len(fine)
        coarse_time = read_times("coarse_time", arrays["coarse_time"], n_coarse)
        fine_time = read_times("fine_time", arrays["fine_time"], n_fine)
        _require_partners(coarse_time, fine_time)
        require_crs_with_transform(arrays, "fine_")
        require_crs_with_transform(arrays, "coarse_")
        optional: dict[str, Any] = {
            "fine_crs": read_text,
            "coarse_crs": read_text,
            "fine_transform": read_transform,
            "coarse_transform": read_transform,
            "coarse_error": lambda name, value: read_series_of_numbers(name, value, n_coarse, 0.0, np.inf),
            "coarse_local_hour": lambda name, value: read_series_of_numbers(name, value, n_coarse, 0.0, 24.0),
            "fine_local_hour": lambda name, value: read_series_of_numbers(name, value, n_fine, 0.0, 24.0),
        }
        return cls(
            coarse=coarse,
            coarse_time=coarse_time,
            fine=fine,
            fine_time=fine_time,
            coarse_index=_read_coarse_index(arrays, coarse.shape[1:], fine.shape[1:]),
            quantity=quantity.name,
            **{name: read(name, arrays[name]) for name, read in optional.items() if name in arrays},
        )

    def to_arrays(self) -> dict[str, Array]:
        """Named arrays that :meth:`from_arrays` takes back; absent keys are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: np.asarray(value) for name, value in values.items() if value is not None}

    @property
    def fine_georeference(self) -> Georeference | None:
        """Where the fine grid lies, None when unknown."""
        return georeference(self.fine_crs, self.fine_transform)

    @property
    def coarse_georeference(self) -> Georeference | None:
        """Where the coarse grid lies, None when unknown."""
        return georeference(self.coarse_crs, self.coarse_transform)

    def coarse_at(self, time: str) -> FloatArray:
        """The coarse scene ``[h, w]`` of ``time``."""
        return _scene_at("coarse", self.coarse, self.coarse_time, time)

    def fine_at(self, time: str) -> FloatArray:
        """The fine scene ``[H, W]`` of ``time``."""
        return _scene_at("fine", self.fine, self.fine_time, time)

    def without(self, time: str) -> "Series":
        """The series as if ``time`` had never been observed: neither its fine nor its coarse scene is left.

        Raises:
            InvalidInput: the series has no scene of ``time``.
        """
        time = canonical_time(time)
        if time not in self.coarse_time:
            raise InvalidInput(f"no scene of {time}; the series has {list(self.coarse_time)}")
        coarse = [i for i, other in enumerate(self.coarse_time) if other != time]
        fine = [i for i, other in enumerate(self.fine_time) if other != time]
        return replace(
            self,
            coarse=self.coarse[coarse],
            coarse_time=take_texts(self.coarse_time, coarse),
            coarse_error=None if self.coarse_error is None else self.coarse_error[coarse],
            coarse_local_hour=None if self.coarse_local_hour is None else self.coarse_local_hour[coarse],
            **self._fine_rows(fine),
        )

    def select_fine(self, times: Iterable[str]) -> "Series":
        """The series with the fine scenes of ``times`` only, in that order; the coarse scenes all stay.

        Raises:
            InvalidInput: the series has no fine scene of one of ``times``, or it is named twice.
        """
        wanted = tuple(canonical_time(time) for time in times)
        require_distinct("select_fine", wanted)
        return replace(self, **self._fine_rows([_position("fine", self.fine_time, time) for time in wanted]))

    def _fine_rows(self, rows: list[int]) -> dict[str, Any]:
        hours = self.fine_local_hour
        return {
            "fine": self.fine[rows],
            "fine_time": take_texts(self.fine_time, rows),
            "fine_local_hour": None if hours is None else hours[rows],
        }


def _read_quantity(arrays: Mapping[str, Any]) -> Quantity:
    name = read_text("quantity", arrays.get("quantity", LST.name))
    if name not in QUANTITIES:
        raise InvalidInput(f"quantity is {name!r}, needed one of {sorted(QUANTITIES)}")
    return QUANTITIES[name]


def _require_partners(coarse_time: Sequence[str], fine_time: Sequence[str]) -> None:
    require_distinct("coarse_time", coarse_time)
    require_distinct("fine_time", fine_time)
    alone = sorted(set(fine_time) - set(coarse_time))
    if alone:
        raise InvalidInput(f"fine_time {alone} have no coarse scene of the same time; coarse_time has {coarse_time}")


def _read_coarse_index(
    arrays: Mapping[str, Any], coarse_shape: tuple[int, ...], fine_shape: tuple[int, ...]
) -> IntArray:
    h, w = coarse_shape
    height, width = fine_shape
    if "coarse_index" not in arrays:
        return regular_index((h, w), (height, width))
    index = read_integers("coarse_index", arrays["coarse_index"], (height, width))
    low, high = int(index.min()), int(index.max())
    if low < -1 or high >= h * w or high < 0:
        raise InvalidInput(
            f"coarse_index ranges from {low} to {high}, needed -1 (none) or row * w + col from 0 to {h * w - 1}"
        )
    return index


def _position(kind: str, times: tuple[str, ...], time: str) -> int:
    time = canonical_time(time)
    if time not in times:
        raise InvalidInput(f"no {kind} scene of {time}; the series has {list(times)}")
    return times.index(time)


def _scene_at(kind: str, scenes: FloatArray, times: tuple[str, ...], time: str) -> FloatArray:
    scene: FloatArray = scenes[_position(kind, times, time)]
    return scene
