"""What the AMUN pipeline needs to know about its networks; stored in the manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from thermoscale.arrays import QUANTITIES, Quantity, require_keys
from thermoscale.errors import InvalidInput
from thermoscale.numerics.tiling import TileGrid

VIEW_COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class AmunConfig:
    """The networks' inputs, their tiles and their context.

    Attributes:
        factor_names, factor_units: one per factor channel, in the order of the network's input; may be empty.
        scale_factor: side of a coarse pixel / side of a fine pixel, whole.
        tile_px, halo_px, overlap_px, multiple_px: tiles of the global grid, fine pixels
            (:class:`thermoscale.numerics.tiling.TileGrid`).
        thumbnail_px: side of the scene's thumbnail, which makes ``thumbnail_px ** 2`` context tokens.
        context_px: fine pixels (rows, columns) of the scenes whose contexts the network was trained with;
            stated for the reader, not enforced.
        views: in how many ways, turned and mirrored, the network looks at each tile: 1, 2, 4 or 8. Its answer is the
            mean, and the context has arrays for each.
        quantity: name in :data:`thermoscale.arrays.QUANTITIES`.
    """

    factor_names: tuple[str, ...]
    factor_units: tuple[str, ...]
    scale_factor: int
    tile_px: int
    halo_px: int
    overlap_px: int
    multiple_px: int
    context_px: tuple[int, int]
    thumbnail_px: int = 32
    views: int = 1
    quantity: str = "lst"

    def __post_init__(self) -> None:
        if len(self.factor_names) != len(self.factor_units) or len(set(self.factor_names)) != len(self.factor_names):
            raise InvalidInput(
                f"amun config: needed one unit per factor and distinct factor names, "
                f"got {list(self.factor_names)} and {list(self.factor_units)}"
            )
        if self.scale_factor < 1 or self.thumbnail_px < 1:
            raise InvalidInput(
                f"amun config: scale_factor {self.scale_factor} and thumbnail_px {self.thumbnail_px} must be >= 1"
            )
        if self.views not in VIEW_COUNTS:
            raise InvalidInput(f"amun config: views is {self.views}, needed one of {list(VIEW_COUNTS)}")
        if self.quantity not in QUANTITIES:
            raise InvalidInput(
                f"amun config: quantity {self.quantity!r} is unknown, needed one of {sorted(QUANTITIES)}"
            )
        _ = self.tile_grid

    @property
    def physical(self) -> Quantity:
        """The quantity itself: unit, plausible range."""
        return QUANTITIES[self.quantity]

    @property
    def tile_grid(self) -> TileGrid:
        """The tiles of the global grid; it checks itself."""
        return TileGrid(
            tile_px=self.tile_px, halo_px=self.halo_px, overlap_px=self.overlap_px, multiple_px=self.multiple_px
        )

    def to_json(self) -> dict[str, Any]:
        """As the manifest stores it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "AmunConfig":
        """Read what :meth:`to_json` wrote.

        Raises:
            InvalidInput: a missing, unknown or impossible entry.
        """
        require_keys("amun config", data, {field.name for field in fields(cls)}, set())
        tuples = {name: tuple(data[name]) for name in ("factor_names", "factor_units", "context_px")}
        return cls(**{**data, **tuples})
