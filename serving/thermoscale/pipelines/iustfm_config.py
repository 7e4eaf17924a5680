"""What the I-USTFM pipeline needs to know about its networks; stored in the manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from thermoscale.arrays import QUANTITIES, Quantity, require_keys
from thermoscale.errors import InvalidInput
from thermoscale.numerics.change_ratio import Guards

MODES = ("rationet", "closed_form")
"""The published design: triples, one ratio per HCR."""
ADAPTIVE = "adaptive"
"""Ours; a bundle has it if it holds its arrays."""
_RANGES = ("range_distance", "range_a2_negative", "range_a2_positive")

Range = tuple[float, float]


@dataclass(frozen=True)
class IustfmConfig:
    """Widths of the networks, guards and training ranges.

    Attributes:
        n_hcr: homogeneous change regions of the region; labels are 0 .. n_hcr - 1.
        h_max, m_max: outputs and inputs of DyNet.
        guards: thresholds in kelvin; the pipeline scales them to ``quantity``.
        mode: used when a request names none: ``rationet``, ``closed_form`` or ``adaptive``.
        published: the published mode that did better on held-out dates; used where ``mode`` is ``adaptive`` and the
            request asks for what only triples have.
        range_distance: smallest and largest ``|post - pre|`` RatioNet was trained with, unit of ``quantity``.
        range_a2_negative, range_a2_positive: training range of a2 on either side of its pole; None where
            training saw no such value. Pixels on a side without a range use the closed form (flag bit 4).
        library_step: unit of ``quantity`` per code of the stored library.
        spread_factors: by published mode, 1 sigma error / (interquartile range over triples / 1.349) on held-out
            dates; a mode without one is not calibrated and takes 1.
        quantity: name in :data:`thermoscale.arrays.QUANTITIES`.
        adaptive: whether the bundle has the mode ``adaptive``.
    """

    n_hcr: int
    h_max: int
    m_max: int
    guards: Guards
    mode: str
    range_distance: Range
    range_a2_negative: Range | None
    range_a2_positive: Range | None
    library_step: float = 0.01
    spread_factors: Mapping[str, float] = field(default_factory=dict, hash=False)
    quantity: str = "lst"
    adaptive: bool = False
    published: str = "closed_form"

    def __post_init__(self) -> None:
        if not 1 <= self.n_hcr <= self.h_max or self.m_max < 1:
            raise InvalidInput(
                f"iustfm config: n_hcr {self.n_hcr}, h_max {self.h_max}, m_max {self.m_max}; "
                "needed 1 <= n_hcr <= h_max and m_max >= 1"
            )
        modes = (*MODES, ADAPTIVE) if self.adaptive else MODES
        if self.mode not in modes:
            raise InvalidInput(f"iustfm config: mode {self.mode!r} is unknown here, needed one of {list(modes)}")
        if self.published not in MODES:
            raise InvalidInput(f"iustfm config: published is {self.published!r}, needed one of {list(MODES)}")
        if self.quantity not in QUANTITIES:
            raise InvalidInput(
                f"iustfm config: quantity {self.quantity!r} is unknown, needed one of {sorted(QUANTITIES)}"
            )
        if self.library_step <= 0:
            raise InvalidInput(f"iustfm config: library_step {self.library_step} must be > 0")
        if set(self.spread_factors) - set(MODES) or any(not factor > 0 for factor in self.spread_factors.values()):
            raise InvalidInput(
                f"iustfm config: spread_factors {dict(self.spread_factors)}, needed numbers > 0 of some of {MODES}"
            )
        _require_range("range_distance", self.range_distance, 0.0, float("inf"))
        _require_range("range_a2_negative", self.range_a2_negative, -float("inf"), 0.0)
        _require_range("range_a2_positive", self.range_a2_positive, 0.0, float("inf"))

    @property
    def physical(self) -> Quantity:
        """The quantity itself: unit, plausible range."""
        return QUANTITIES[self.quantity]

    def to_json(self) -> dict[str, Any]:
        """As the manifest stores it."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**plain, "guards": self.guards.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "IustfmConfig":
        """Read what :meth:`to_json` wrote.

        Raises:
            InvalidInput: a missing, unknown or impossible entry.
        """
        require_keys("iustfm config", data, {entry.name for entry in fields(cls)}, set())
        ranges = {name: None if data[name] is None else tuple(data[name]) for name in _RANGES}
        return cls(**{**data, **ranges, "guards": Guards.from_json(data["guards"])})


def _require_range(name: str, bounds: Range | None, low: float, high: float) -> None:
    if bounds is not None and not (len(bounds) == 2 and low <= bounds[0] <= bounds[1] <= high):
        raise InvalidInput(f"iustfm config: {name} is {bounds}, needed {low:g} <= low <= high <= {high:g}")
