"""Scores of downscaling by kind of ground: vegetation, elevation and season, where the pairs know them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import BoolArray, FloatArray
from thermoscale.formats import Pairs

BOUNDS = {
    "ndvi": (0.2, 0.4, 0.6),
    "elevation": (250.0, 500.0, 1000.0, 2000.0),
    "slope": (5.0, 15.0),
}
"""Factor -> where one stratum ends and the next begins, in the factor's unit."""

SEASONS = {"DJF": (12, 1, 2), "MAM": (3, 4, 5), "JJA": (6, 7, 8), "SON": (9, 10, 11)}


class _Sums(NamedTuple):
    """Of errors over the pixels of one stratum."""

    n: int = 0
    total: float = 0.0
    square: float = 0.0


class Strata:
    """Collects the errors of every method by stratum; gaps of a prediction take no part."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._sums: dict[tuple[str, str], _Sums] = {}

    def add(self, row: int, method: str, prediction: FloatArray, truth: FloatArray) -> None:
        """The errors of one scene, both ``[H, W]``."""
        error = prediction.astype(np.float64) - truth
        known = np.isfinite(error)
        for name, inside in self._strata_of(row):
            chosen = error[inside & known]
            n, total, square = self._sums.get((name, method), _Sums())
            self._sums[name, method] = _Sums(
                n + chosen.size, total + float(chosen.sum()), square + float((chosen**2).sum())
            )

    def table(self) -> list[dict[str, Any]]:
        """``stratum, method, n_pixels, rmse, bias`` pooled over pixels, in order of appearance."""
        return [
            {"stratum": name, "method": method, "n_pixels": n, "rmse": float(np.sqrt(square / n)), "bias": total / n}
            for (name, method), (n, total, square) in self._sums.items()
            if n
        ]

    def _strata_of(self, row: int) -> Iterator[tuple[str, BoolArray]]:
        """Names and pixels ``[H, W]`` of the strata of one scene."""
        names, units = self._pairs.factor_names or (), self._pairs.factor_units or ()
        for channel, (name, unit) in enumerate(zip(names, units, strict=True)):
            if name in BOUNDS and self._pairs.factors is not None:
                yield from _bands(name, unit, self._pairs.factors[row, channel])
        if self._pairs.time is not None:
            month = int(self._pairs.time[row][5:7])
            season = next(name for name, months in SEASONS.items() if month in months)
            yield f"season {season}", np.ones(self._pairs.fine_shape, dtype=bool)


def _bands(name: str, unit: str, values: FloatArray) -> Iterator[tuple[str, BoolArray]]:
    bounds, shown = BOUNDS[name], "" if unit == "1" else f" {unit}"
    edges = (-np.inf, *bounds, np.inf)
    texts = [f"below {bounds[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(bounds))]
    for (low, high), text in zip(pairwise(edges), [*texts, f"from {bounds[-1]:g}"], strict=True):
        inside: BoolArray = (values >= low) & (values < high)
        yield f"{name} {text}{shown}", inside
