"""Array aliases, physical quantities and the checks made at the boundary."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from thermoscale.errors import InvalidInput

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

Network = Callable[[Mapping[str, Array]], dict[str, Array]]
"""One network, named arrays in and out: an onnxruntime session, a torch module or a plain function."""


@dataclass(frozen=True)
class Quantity:
    """What the pixels measure.

    Attributes:
        name: the word used in files and manifests.
        unit: unit of the values.
        low, high: plausible range of a value, in ``unit``.
        kelvin: how many ``unit`` stand for one kelvin wherever a threshold is given in kelvin
            (guards, storage step): 1 for temperature, 0.01 for reflectance.
    """

    name: str
    unit: str
    low: float
    high: float
    kelvin: float


LST = Quantity(name="lst", unit="K", low=150.0, high=400.0, kelvin=1.0)
REFLECTANCE = Quantity(name="reflectance", unit="1", low=-0.2, high=2.0, kelvin=0.01)
QUANTITIES = {quantity.name: quantity for quantity in (LST, REFLECTANCE)}


Rule = TypeVar("Rule")


def in_unit_of(quantity: Quantity, rule: Rule) -> Rule:
    """The dataclass ``rule`` with every threshold in kelvin (suffix ``_k``) expressed in the unit of ``quantity``."""
    in_kelvin = {name: value for name, value in vars(rule).items() if name.endswith("_k")}
    changes = {name: value * quantity.kelvin for name, value in in_kelvin.items()}
    return replace(rule, **changes)  # type: ignore[type-var]


def require_shape(name: str, array: Array, shape: tuple[int | str, ...]) -> None:
    """Check the shape of ``array``; letters stand for any positive length.

    Raises:
        InvalidInput: another number of axes, another length, or an axis of length 0.
    """
    wanted = "[" + ", ".join(map(str, shape)) + "]"
    fits = array.ndim == len(shape) and all(
        got == want or isinstance(want, str) for got, want in zip(array.shape, shape, strict=False)
    )
    if not fits:
        raise InvalidInput(f"{name} has shape {list(array.shape)}, needed {wanted}")
    if 0 in array.shape:
        raise InvalidInput(f"{name} is empty: shape {list(array.shape)}, needed {wanted} with at least one pixel")


def require_quantity(name: str, array: Array, quantity: Quantity) -> FloatArray:
    """Check that ``array`` plausibly holds ``quantity`` and return it as float32; NaN means no data.

    Raises:
        InvalidInput: not numeric, infinite, all NaN, or outside the plausible range.
    """
    if array.dtype.kind not in "fiu":
        raise InvalidInput(f"{name} has type {array.dtype}, needed numbers (float32, {quantity.unit})")
    values = array.astype(np.float32, copy=False)
    if np.isinf(values).any():
        raise InvalidInput(f"{name} holds {int(np.isinf(values).sum())} infinite values; use NaN for no data")
    if np.isnan(values).all():
        raise InvalidInput(f"{name} is all NaN: there is no valid pixel")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low < quantity.low or high > quantity.high:
        hint = ""
        if quantity is LST and low > -90.0 and high < 65.0:
            hint = "; these look like degrees Celsius: add 273.15"
        raise InvalidInput(
            f"{name} ranges from {low:.6g} to {high:.6g}, needed {quantity.name} in {quantity.unit} "
            f"between {quantity.low:g} and {quantity.high:g}{hint}"
        )
    return values


def require_keys(name: str, got: Mapping[str, object], needed: set[str], optional: set[str]) -> None:
    """Check that ``got`` has every needed key and no unknown one.

    Raises:
        InvalidInput: a key is missing or unknown; the message names both lists.
    """
    missing, unknown = sorted(needed - got.keys()), sorted(got.keys() - needed - optional)
    if missing or unknown:
        raise InvalidInput(
            f"{name}: missing keys {missing}, unknown keys {unknown}; "
            f"needed {sorted(needed)}, optional {sorted(optional)}"
        )
