"""The ways to look at a square image: turned by quarters, mirrored or not.

A network that was trained on all of them errs a little differently in each; the mean of its answers errs less.
"""

from typing import NamedTuple

import torch
from torch import Tensor

Compass = tuple[int, int]
"""Channels of the eastward and the northward part of a direction on the ground."""


class View(NamedTuple):
    """A number of quarter turns against the clock, and whether the turned image is mirrored, left to right."""

    quarter_turns: int
    mirrored: bool

    def of(self, image: Tensor, compass: Compass | None = None) -> Tensor:
        """``image`` ``[..., C, H, W]`` in this view; a direction in its channels ``compass`` turns with the ground."""
        turned = torch.rot90(image, self.quarter_turns, dims=(-2, -1)) if self.quarter_turns else image
        seen = turned.flip(-1) if self.mirrored else turned
        if compass is None:
            return seen
        channels = list(seen.unbind(dim=-3))
        east, north = (channels[channel] for channel in compass)
        for _ in range(self.quarter_turns):
            east, north = -north, east
        channels[compass[0]], channels[compass[1]] = (-east if self.mirrored else east), north
        return torch.stack(channels, dim=-3)

    def of_valid(self, valid: Tensor, compass: Compass | None = None) -> Tensor:
        """Validity, or shares of it, of such an image: each stays with the values of its channel."""
        return self.of(valid, compass).abs()

    def undo(self, seen: Tensor) -> Tensor:
        """The image, without directions, whose view is ``seen``."""
        turned = seen.flip(-1) if self.mirrored else seen
        return torch.rot90(turned, -self.quarter_turns, dims=(-2, -1)) if self.quarter_turns else turned


VIEWS = tuple(View(turns, mirrored) for turns in (0, 2, 1, 3) for mirrored in (False, True))
"""All eight; the first 1, 2 or 4 of them are asked by networks with fewer."""


def behind_lst(compass: Compass | None) -> Compass | None:
    """The same factors in an image whose first channel is LST."""
    return None if compass is None else (compass[0] + 1, compass[1] + 1)
