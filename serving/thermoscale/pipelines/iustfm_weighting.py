"""The two weightings of a triple over whole blocks of pixels: everything that depends on the HCR alone is prepared.

Per triple and HCR the closed form is one share, ``pre + beta * (post - pre)``, and RatioNet one line of its table for
each sign of ``post - pre``. NaN stands for HCRs without a ratio or too near the pole, and for pixels without an HCR.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.numerics.change_ratio import apply_transform
from thermoscale.numerics.ratio_table import RatioTable, between_nodes
from thermoscale.pipelines.flags import CLIPPED_TO_TRAINING_RANGE, FALLBACK_USED
from thermoscale.pipelines.iustfm_config import IustfmConfig
from thermoscale.pipelines.iustfm_pixels import clip_a2
from thermoscale.pipelines.iustfm_scratch import Scratch

KEPT_BYTES = 20 << 20
"""Lines of RatioNet's table kept for all triples at once; beyond it they are made anew for every block."""


class Weighting(Protocol):
    """How a triple's scenes and ratios become a value."""

    def weigh(self, number: int, pre: FloatArray, scratch: Scratch, out: FloatArray) -> Array | None:
        """Values of triple ``number`` into ``out``, without guards that depend on the pixel.

        Returns:
            Flag bits ``[P]`` uint8, None if there are none.
        """


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """``beta [n_triples, n_hcr + 1]``."""

    beta: FloatArray

    def weigh(self, number: int, pre: FloatArray, scratch: Scratch, out: FloatArray) -> Array | None:
        """See :class:`Weighting`."""
        np.take(self.beta[number], scratch.labels, out=out, mode="clip")
        out *= scratch.change
        out += pre
        return None


@dataclass(frozen=True, eq=False)
class Tabled:
    """RatioNet by its table.

    Attributes:
        a2: ``[n_triples, n_hcr + 1, 2]`` clipped to the training range, for pixels that warmed and that cooled.
        beyond: the same shape, 1 / a2 before clipping - 1 / a2 after: the closed form goes on where RatioNet ends.
        bits: the same shape, uint8: the ratio was clipped, or there is none and the closed form answers.
    """

    table: RatioTable
    range_distance: tuple[float, float]
    a2: FloatArray
    beyond: FloatArray
    bits: Array
    closed: ClosedForm
    _lines: dict[int, FloatArray] = field(default_factory=dict)

    def weigh(self, number: int, pre: FloatArray, scratch: Scratch, out: FloatArray) -> Array | None:
        """See :class:`Weighting`."""
        x, before, after, reach = scratch.floats
        clipped = self._clip(scratch.distance, reach)
        np.subtract(reach, np.float32(self.table.first), out=x)
        x *= np.float32(1.0 / self.table.step)
        node = np.rint(x, out=before)
        x -= node
        place = self._places(node, scratch)
        lines = self._of_triple(number).ravel()
        np.take(lines, place, out=before, mode="clip")
        np.take(lines[1:], place, out=out, mode="clip")
        np.take(lines[2:], place, out=after, mode="clip")
        between_nodes(before, out, after, x)
        if clipped is not None:
            out += self._past_range(number, scratch, reach)
        out += pre
        return self._bits(number, pre, scratch, out, clipped)

    def _clip(self, distance: FloatArray, reach: FloatArray) -> Array | None:
        """``distance`` inside the training range (a number even where it is NaN) to ``reach``; where it was clipped."""
        low, high = (np.float32(bound) for bound in self.range_distance)
        np.fmax(distance, low, out=reach)  # a gap becomes a number, too: it is an index soon
        if np.fmin.reduce(distance) >= low and np.maximum.reduce(reach) <= high:
            return None
        np.minimum(reach, high, out=reach)
        clipped: Array = reach != distance
        return clipped

    def _past_range(self, number: int, scratch: Scratch, reach: FloatArray) -> FloatArray:
        """The closed form of what ``reach`` cut off the distance, 0 where nothing."""
        past: FloatArray = scratch.change - np.copysign(reach, scratch.change)
        past *= self.closed.beta[number][scratch.labels]
        return past

    def _places(self, node: FloatArray, scratch: Scratch) -> Array:
        """Index of the node before ``node`` in the flattened lines of a triple; cooled pixels use the second line."""
        n_nodes, (column, cooled), (place, line) = self.table.n_nodes, scratch.ints, scratch.places
        np.copyto(column, node, casting="unsafe")
        np.right_shift(scratch.change.view(np.int32), 31, out=cooled)  # the sign bit, in all bits
        cooled &= n_nodes
        column += cooled
        np.multiply(scratch.labels, 2 * n_nodes, out=line)
        np.copyto(place, column)
        place += line
        place -= 1
        return place

    def _of_triple(self, number: int) -> FloatArray:
        """``[n_hcr + 1, 2, n_nodes]``."""
        if number not in self._lines:
            lines = self.table.rows(self.a2[number].ravel())
            lines += self.beyond[number].reshape(-1, 1) * self.table.distances
            if lines.nbytes * len(self.a2) > KEPT_BYTES:
                return lines
            self._lines[number] = lines
        return self._lines[number]

    @cached_property
    def _has_bits(self) -> list[bool]:
        return [bool(bits.any()) for bits in self.bits]

    def _bits(
        self, number: int, pre: FloatArray, scratch: Scratch, out: FloatArray, clipped: Array | None
    ) -> Array | None:
        """Flags of the pixels; those without a line of the table get the closed form."""
        if not self._has_bits[number]:
            return None if clipped is None else clipped * np.uint8(CLIPPED_TO_TRAINING_RANGE)
        bits = np.take(self.bits[number].ravel(), 2 * scratch.labels + (scratch.change < 0))
        if clipped is not None:
            bits[clipped & (bits != FALLBACK_USED)] = CLIPPED_TO_TRAINING_RANGE
        if (self.bits[number] == FALLBACK_USED).any():
            self.closed.weigh(number, pre, scratch, scratch.floats[0])
            np.copyto(out, scratch.floats[0], where=bits == FALLBACK_USED)
        return bits


def make_closed_form(config: IustfmConfig, alpha_hcr: FloatArray) -> ClosedForm:
    """The shares of ratios ``[n_triples, n_hcr]``."""
    off_pole = 1.0 + alpha_hcr.astype(np.float64)
    usable = (np.abs(off_pole) >= config.guards.min_abs_one_plus_alpha) & (off_pole != 0.0)
    beta = np.divide(1.0, off_pole, out=np.full(off_pole.shape, np.nan), where=usable)
    return ClosedForm(_with_none(beta.astype(np.float32), np.float32(np.nan)))


def make_tabled(config: IustfmConfig, alpha_hcr: FloatArray, table: RatioTable) -> Tabled:
    """The lines of ratios ``[n_triples, n_hcr]``."""
    closed = make_closed_form(config, alpha_hcr)
    scenes = np.zeros(2, np.float32), np.array([1, -1], np.float32)  # one pixel that warms, one that cools
    a2 = apply_transform(alpha_hcr[..., np.newaxis], *scenes)
    usable = np.isfinite(closed.beta[:, :-1])[..., np.newaxis] & np.isfinite(a2)
    near, known = clip_a2(config, a2)
    clipped = np.where(near != a2, CLIPPED_TO_TRAINING_RANGE, 0)
    bits = np.where(usable, np.where(known, clipped, FALLBACK_USED), 0).astype(np.uint8)
    near = np.where(usable & known, near, np.nan).astype(np.float32)
    inverse = np.divide(1.0, a2, out=np.zeros(a2.shape), where=usable)
    beyond = np.where(bits == CLIPPED_TO_TRAINING_RANGE, inverse - 1.0 / near, 0.0).astype(np.float32)
    none = np.float32(np.nan)
    return Tabled(
        table,
        config.range_distance,
        _with_none(near, none),
        _with_none(beyond, np.float32(0.0)),
        _with_none(bits, np.uint8(0)),
        closed,
    )


def _with_none(values: Array, none: np.generic) -> Array:
    """One entry more along axis 1, for pixels without an HCR."""
    wider = np.full((values.shape[0], values.shape[1] + 1, *values.shape[2:]), none, values.dtype)
    wider[:, :-1] = values
    return wider
