"""The ways to look at a square image: turned by quarters, mirrored or not.

A network that was trained on all of them errs a little differently in each; the mean of its answers errs less.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class View(NamedTuple):
    """A number of quarter turns, and whether the turned image is mirrored."""

    quarter_turns: int
    mirrored: bool

    def of(self, image: Tensor) -> Tensor:
        """``image`` ``[..., H, W]`` in this view."""
        turned = torch.rot90(image, self.quarter_turns, dims=(-2, -1)) if self.quarter_turns else image
        return turned.flip(-1) if self.mirrored else turned

    def undo(self, seen: Tensor) -> Tensor:
        """The image whose view is ``seen``."""
        turned = seen.flip(-1) if self.mirrored else seen
        return torch.rot90(turned, -self.quarter_turns, dims=(-2, -1)) if self.quarter_turns else turned


VIEWS = tuple(View(turns, mirrored) for turns in (0, 2, 1, 3) for mirrored in (False, True))
"""All eight; the first 1, 2 or 4 of them are asked by networks with fewer."""
