"""The change ratio of a triple, its two weightings and the guards around them.

With ``pre``, ``target`` and ``post`` the values on three dates (METHODS 1.1, 1.4; Huang & Zhang 2014, Guo et al. 2024):

    alpha  = (post - target) / (target - pre)
    target = (post + alpha * pre) / (1 + alpha) = pre + beta * (post - pre),    beta = 1 / (1 + alpha)

Every function works pixel by pixel on arrays that broadcast, computes in float64, returns float32, and
gives NaN where an argument is NaN or the answer does not exist.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from thermoscale.arrays import Array, BoolArray, FloatArray, Quantity, in_unit_of, require_keys
from thermoscale.errors import InvalidInput


@dataclass(frozen=True)
class Guards:
    """Limits beyond which a ratio or a result is not used. All are inclusive: a value at the limit is used.

    Attributes:
        min_coarse_change_k: K, smallest ``|target - pre|`` of a coarse cell that gives a ratio.
        max_abs_alpha: largest ``|alpha|`` of a coarse cell.
        min_abs_one_plus_alpha: smallest ``|1 + alpha|`` at a fine pixel; the pole of the closed form is at 0.
        min_baseline_k: K, smallest baseline of pre and post.
        min_distance_k: K, smallest ``|post - pre|`` at a fine pixel.
        range_margin_k: K, how far a result may leave the range of its two fine scenes.
    """

    min_coarse_change_k: float = 0.5
    max_abs_alpha: float = 5.0
    min_abs_one_plus_alpha: float = 0.1
    min_baseline_k: float = 2.0
    min_distance_k: float = 0.1
    range_margin_k: float = 15.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not np.isfinite(value) or value < 0.0:
                raise InvalidInput(f"guards: {name} is {value}, needed a finite number >= 0")

    def scaled(self, quantity: Quantity) -> "Guards":
        """The same guards with every threshold given in kelvin expressed in the unit of ``quantity``."""
        return in_unit_of(quantity, self)

    def to_json(self) -> dict[str, float]:
        """All guards by name, for a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Guards":
        """Guards from a manifest or a config; every one must be there.

        Raises:
            InvalidInput: a missing or unknown guard, or one that is not a number >= 0.
        """
        require_keys("guards", values, {field.name for field in fields(cls)}, set())
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidInput(f"guards: {name} is {value!r}, needed a number")
        return cls(**{name: float(value) for name, value in values.items()})


def coarse_alpha(pre: Array, target: Array, post: Array, guards: Guards) -> FloatArray:
    """Change ratio of every coarse cell, NaN where ``target - pre`` is too small or the ratio too large."""
    change = _f64(target) - _f64(pre)
    usable = (np.abs(change) >= guards.min_coarse_change_k) & (change != 0.0)
    alpha = _divide(_f64(post) - _f64(target), np.where(usable, change, np.nan))
    return _f32(np.where(np.abs(alpha) <= guards.max_abs_alpha, alpha, np.nan))


def closed_form(pre: Array, post: Array, alpha: Array) -> FloatArray:
    """The target from the change ratio, without guards; NaN at the pole ``alpha = -1``."""
    return _f32(_divide(_f64(post) + _f64(alpha) * _f64(pre), 1.0 + _f64(alpha)))


def closed_form_beta(pre: Array, post: Array, beta: Array) -> FloatArray:
    """The target from ``beta = (target - pre) / (post - pre)``, which has no pole."""
    return _f32(_f64(pre) + _f64(beta) * (_f64(post) - _f64(pre)))


def apply_transform(alpha: Array, pre: Array, post: Array) -> FloatArray:
    """``a2``: shift by one, then flip the sign where the pixel cooled (``post < pre``)."""
    return _f32((_f64(alpha) + 1.0) * _direction(pre, post))


def invert_transform(a2: Array, pre: Array, post: Array) -> FloatArray:
    """The change ratio that :func:`apply_transform` turned into ``a2``.

    No prediction asks for it: it is there for readers of stored ``a2``, and as the law that the transform must obey.
    """
    return _f32(_f64(a2) * _direction(pre, post) - 1.0)


def lst_from_delta(pre: Array, delta: Array) -> FloatArray:
    """Step 3: the target from ``delta``, the change since ``pre`` (exactly ``|post - pre| / a2``)."""
    return _f32(_f64(pre) + _f64(delta))


def baseline_k(pre: Array, post: Array) -> float:
    """Thermal distance of two scenes, ``|mean(post) - mean(pre)|`` over the pixels valid in both; NaN if none.

    Both means use the same pixels, since clouds over a cold mountain on one date would otherwise
    look like a change.
    """
    change = _f64(post) - _f64(pre)
    valid = ~np.isnan(change)
    return float(abs(change[valid].mean())) if valid.any() else float("nan")


def usable_pixels(pre: Array, post: Array, alpha: Array, guards: Guards, *, baseline_k: float) -> BoolArray:
    """Where a triple may speak: pre and post far enough apart, as scenes and at the pixel, and ``alpha`` off the pole.

    Args:
        baseline_k: :func:`baseline_k` of the whole scenes, also where ``pre`` and ``post`` are a window.
    """
    distance = np.abs(_f64(post) - _f64(pre))
    off_pole = np.abs(1.0 + _f64(alpha))
    usable: BoolArray = (distance >= guards.min_distance_k) & (off_pole >= guards.min_abs_one_plus_alpha)
    return usable & bool(baseline_k >= guards.min_baseline_k)


def scene_range(pre: Array, post: Array) -> tuple[float, float]:
    """Smallest and largest value of two scenes, NaN left out; both NaN where there is no value."""
    valid = [scene[~np.isnan(scene)] for scene in (pre, post)]
    values = np.concatenate(valid)
    return (float(values.min()), float(values.max())) if values.size else (float("nan"), float("nan"))


def within_range(result: Array, low: float, high: float, guards: Guards) -> BoolArray:
    """Where ``result`` stays within the margin around ``low`` .. ``high``, the :func:`scene_range` of its scenes."""
    inside: BoolArray = (_f64(result) >= low - guards.range_margin_k) & (_f64(result) <= high + guards.range_margin_k)
    return inside


def _direction(pre: Array, post: Array) -> Array:
    """-1 where the pixel cooled, +1 elsewhere, NaN where a scene is missing."""
    change = _f64(post) - _f64(pre)
    return np.where(np.isnan(change), np.nan, np.where(change < 0.0, -1.0, 1.0))


def _divide(numerator: Array, denominator: Array) -> Array:
    """Quotient, NaN where the denominator is 0 or the quotient leaves float32 (so close to a pole nothing is known)."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = numerator / denominator
    return np.where(np.abs(quotient) <= np.finfo(np.float32).max, quotient, np.nan)


def _f64(values: Array) -> Array:
    return np.asarray(values, dtype=np.float64)


def _f32(values: Array) -> FloatArray:
    return np.asarray(values, dtype=np.float32)
