"""Search spaces, read strictly from TOML: which settings of a fit are tuned, and between which values.

One table per setting, under the names of the fit's own TOML:

    [training.learning_rate]
    range = [3e-4, 1e-2]
    scale = "log"

    [samples.definition]
    choices = ["ratio_of_sums", "mean_of_ratios"]
"""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thermoscale.arrays import require_keys
from thermoscale.errors import InvalidInput
from thermoscale_train.config import AmunSettings, DyNetSettings, RatioNetSettings, settings_from_table

KINDS = {"amun": AmunSettings, "dynet": DyNetSettings, "ratio_net": RatioNetSettings}
SCALES = ("linear", "log")
FIXED = {
    "training.evaluate_every": "trials are compared at the same steps",
    "selection.held_out_dates": "trials are scored on the same dates",
}
"""Settings that decide what is measured, with the reason why they cannot be tuned."""

Table = dict[str, dict[str, Any]]
Parameter = str | int | float | bool


@dataclass(frozen=True)
class Range:
    """Every number from ``low`` to ``high``; whole ones where ``whole``. ``log``: equal ratios are equal steps."""

    key: str
    low: float
    high: float
    whole: bool
    log: bool

    def holds(self, value: object) -> bool:
        """Is ``value``, as the settings hold it, in the range?"""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def encode(self, value: Any) -> Parameter:
        """``value`` as Ax takes it."""
        return int(value) if self.whole else float(value)

    decode = encode


@dataclass(frozen=True)
class Choice:
    """One of ``values``, as TOML writes them; lists travel through Ax as their JSON text."""

    key: str
    values: tuple[Any, ...]

    def holds(self, value: object) -> bool:
        """Is ``value``, as the settings hold it, among the choices?"""
        return (list(value) if isinstance(value, tuple) else value) in self.values

    def encode(self, value: Any) -> Parameter:
        """``value`` as Ax takes it."""
        coded: Parameter = json.dumps(list(value)) if isinstance(value, list | tuple) else value
        return coded

    def decode(self, parameter: Parameter) -> Any:
        """Back from Ax."""
        return next(value for value in self.values if self.encode(value) == parameter)


Space = tuple[Range | Choice, ...]


def read_space(path: Path, network: str, known: Table) -> Space:
    """The search space in ``path`` around ``known``, the settings that are the first trial.

    Raises:
        InvalidInput: not TOML, a setting that does not exist or cannot be tuned, a value that the settings refuse, or a
            known value outside the space.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"cannot read search space {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"search space {path} is not TOML: {error}") from error
    space = tuple(
        _dimension(f"{path}: {section}.{name}", f"{section}.{name}", spec, known)
        for section, table in data.items()
        for name, spec in _table(f"{path}: {section}", table).items()
    )
    if not space:
        raise InvalidInput(f"search space {path} is empty; name a setting and its range or choices")
    for dimension in space:
        _require_usable(path, network, dimension, known)
    return space


def with_values(known: Table, space: Space, parameters: Mapping[str, Parameter]) -> Table:
    """``known`` with the values of one trial."""
    table = {section: dict(values) for section, values in known.items()}
    for dimension in space:
        section, name = dimension.key.split(".")
        table[section][name] = dimension.decode(parameters[dimension.key])
    return table


def known_parameters(known: Table, space: Space) -> dict[str, Parameter]:
    """The known settings as a trial."""
    return {dimension.key: dimension.encode(value_of(known, dimension.key)) for dimension in space}


def value_of(table: Table, key: str) -> Any:
    """The setting called ``section.name``."""
    section, name = key.split(".")
    return table[section][name]


def _table(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} is {value!r}, needed a table")
    return value


def _dimension(name: str, key: str, spec: object, known: Table) -> Range | Choice:
    settings = [f"{section}.{setting}" for section, values in known.items() for setting in values]
    if key not in settings:
        raise InvalidInput(f"{name} is no setting of this fit; there are {settings}")
    if key in FIXED:
        raise InvalidInput(f"{name} cannot be tuned: {FIXED[key]}")
    table = _table(name, spec)
    if "choices" in table:
        require_keys(name, table, {"choices"}, set())
        return _choice(name, key, table["choices"], value_of(known, key))
    require_keys(name, table, {"range", "scale"}, set())
    return _range(name, key, table, value_of(known, key))


def _choice(name: str, key: str, values: object, current: object) -> Choice:
    if not isinstance(values, list) or len(values) < 2 or any(a in values[:i] for i, a in enumerate(values)):
        raise InvalidInput(f"{name}: choices is {values!r}, needed a list of two or more different values")
    if isinstance(current, float):  # Ax wants one type
        values = [float(value) if type(value) is int else value for value in values]
    return Choice(key, tuple(values))


def _range(name: str, key: str, table: Mapping[str, Any], current: object) -> Range:
    whole, ends, scale = type(current) is int, table["range"], table["scale"]
    if type(current) not in (int, float):
        raise InvalidInput(f"{name} has a range, but the setting is {current!r}; give choices")
    wanted = "two whole numbers" if whole else "two finite numbers"
    kinds = (int,) if whole else (int, float)
    if not isinstance(ends, list) or len(ends) != 2 or any(type(end) not in kinds for end in ends):
        raise InvalidInput(f"{name}: range is {ends!r}, needed {wanted}, the lower first")
    low, high = (float(end) for end in ends)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidInput(f"{name}: range is {ends!r}, needed {wanted}, the lower first")
    if scale not in SCALES:
        raise InvalidInput(f"{name}: scale is {scale!r}, needed one of {SCALES}")
    if scale == "log" and low <= 0.0:
        raise InvalidInput(f"{name}: range starts at {low:g}, a logarithmic one must start above 0")
    return Range(key, low, high, whole, scale == "log")


def _require_usable(path: Path, network: str, dimension: Range | Choice, known: Table) -> None:
    """Each value alone must be one that the settings accept, and the known value must be in the space."""
    values = (dimension.low, dimension.high) if isinstance(dimension, Range) else dimension.values
    for value in values:
        changed = with_values(known, (dimension,), {dimension.key: dimension.encode(value)})
        settings_from_table(f"{path}", changed, KINDS[network])
    current = value_of(known, dimension.key)
    if not dimension.holds(current):
        raise InvalidInput(
            f"{path}: {dimension.key} is {current!r} in the known settings, which are the first trial; "
            f"add it to the search space {values!r}"
        )
