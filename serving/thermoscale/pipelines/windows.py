"""Rectangles of the fine grid."""

from collections.abc import Sequence
from typing import NamedTuple

from thermoscale.errors import InvalidInput


class Window(NamedTuple):
    """A rectangle of the fine grid, in fine pixels."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """To index the last two axes of an array on the fine grid."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)


def require_window(window: Sequence[int] | None, fine_shape: tuple[int, int]) -> Window:
    """``window`` as a :class:`Window`; the whole scene if it is None.

    Raises:
        InvalidInput: not four numbers, empty, or not inside ``fine_shape``.
    """
    if window is None:
        return Window(0, 0, *fine_shape)
    if len(window) != 4:
        raise InvalidInput(f"window has {len(window)} numbers, needed 4: row, col, height, width")
    chosen = Window(*map(int, window))
    inside = chosen.row + chosen.height <= fine_shape[0] and chosen.col + chosen.width <= fine_shape[1]
    if min(chosen.row, chosen.col) < 0 or min(chosen.height, chosen.width) < 1 or not inside:
        raise InvalidInput(
            f"window (row, col, height, width) {tuple(chosen)} is not inside the fine grid of shape {list(fine_shape)}"
        )
    return chosen
