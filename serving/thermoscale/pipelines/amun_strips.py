"""AMUN for scenes larger than memory: rows of tiles from top to bottom, factors read as the tiles need them.

The coarse image, a scale factor squared smaller, is held whole. Tiles, their inputs and the order in which they are
blended are those of :meth:`thermoscale.pipelines.amun.Amun.predict` on the whole scene, so the answers are, too.

    corner  ---- tiles of this row begin
    start   ---- the strip: rows that no later tile touches
    stop    ---- the next strip; the blend of its first overlap_px rows, begun by this row's tiles, is carried there
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import Array, BoolArray, FloatArray, IntArray, require_quantity, require_shape
from thermoscale.numerics.grids import fill_nearest, interpolate, paint_cells, regular_index
from thermoscale.numerics.tiling import Blend, read_tile, tile_windows
from thermoscale.pipelines.amun import Amun
from thermoscale.pipelines.amun_config import AmunConfig
from thermoscale.pipelines.amun_inputs import area_sums, factor_inputs, fillable, fine_shape, means_and_shares
from thermoscale.pipelines.flags import COARSE_MISSING, FALLBACK_USED
from thermoscale.pipelines.windows import Window

ReadFactors = Callable[[Window], FloatArray]
"""Factors ``[F, height, width]`` of a window of the fine grid, in the bundle's order, NaN = no data."""

_CELLS_AROUND = 3
"""Coarse cells around a window that its bicubic interpolation may need, and one more."""


class Strip(NamedTuple):
    """Full-width rows of the answer, and what the strip below needs to know.

    Attributes:
        row: the first fine row.
        lst, spread_k: ``[n, W]`` float32.
        flags: ``[n, W]`` uint8.
        carry: ``[3, overlap_px, W]`` sums of the blend that the next strip begins with (:class:`Blend`).
    """

    row: int
    lst: FloatArray
    spread_k: FloatArray
    flags: Array
    carry: Array


class StripRows(NamedTuple):
    """Where a strip lies: its tiles' first row, its own first row, and the row after its last."""

    corner: int
    start: int
    stop: int


class AmunStrips:
    """One scene, predicted strip by strip.

    Args:
        coarse: ``[h, w]`` in the unit of the config's quantity, NaN = no data.
        tiles_at_once: how many neighbouring tiles of a row have their inputs in memory together.

    Raises:
        InvalidInput: the coarse image is not what its quantity can be.
    """

    def __init__(self, amun: Amun, coarse: Array, read_factors: ReadFactors, *, tiles_at_once: int) -> None:
        coarse = require_quantity("coarse", coarse, amun.config.physical)
        require_shape("coarse", coarse, ("h", "w"))
        self._amun, self._grid, self._coarse, self._read_factors = amun, amun.config.tile_grid, coarse, read_factors
        self._filled = fill_nearest(coarse)
        self._missing = np.isnan(coarse)
        self._lost = self._missing & ~fillable(coarse)
        self._shape = fine_shape(amun.config, coarse)
        corners = tile_windows(self._shape, self._grid)
        self._cols = sorted({col for _, col in corners})
        self._tiles_at_once = tiles_at_once
        self.rows = _strip_rows(sorted({row for row, _ in corners}), self._grid.halo_px, self._shape[0])

    def context(self, rows_at_once: int) -> dict[str, Any]:
        """The context of the scene, whose factors are read ``rows_at_once`` rows at a time."""
        height, width = self._shape
        side, n_factors = self._amun.config.thumbnail_px, len(self._amun.config.factor_names)
        sums = np.zeros((n_factors, 2, side, side))
        for first in range(0, height, rows_at_once) if n_factors else ():
            factors = self._read_factors(Window(first, 0, min(rows_at_once, height - first), width))
            sums += np.stack([area_sums(factor, side, first, height) for factor in factors])
        of_coarse = area_sums(self._coarse, side, 0, len(self._coarse))
        means, shares = zip(*map(means_and_shares, [of_coarse, *sums]), strict=True)
        return self._amun.context_of(np.stack(means)[None], np.stack(shares)[None])

    def nothing_carried(self) -> Array:
        """The carry into the first strip."""
        return np.zeros((3, self._grid.overlap_px, self._shape[1]))

    def predict(self, number: int, carry: Array, context: Mapping[str, Any]) -> Strip:
        """Strip ``number`` of :attr:`rows`, given the carry of the one before and the context of the scene."""
        rows = self.rows[number]
        height = rows.stop - rows.start
        blend = Blend((height + self._grid.overlap_px, self._shape[1]), self._grid, layers=2)
        blend.sums[:, : self._grid.overlap_px] = carry
        for col, tile in self._tiles(rows.corner):
            blend.add((rows.corner - rows.start, col), self._amun.predict_tile(tile, context))
        return Strip(rows.start, *self._finish(rows, *blend.result()[:, :height]), blend.sums[:, height:].copy())

    def _tiles(self, corner: int) -> Iterator[tuple[int, FloatArray]]:
        """Column and inputs ``[2 + 2F, T, T]`` of those tiles of a row that hold a coarse value."""
        n_factors = len(self._amun.config.factor_names)
        for first in range(0, len(self._cols), self._tiles_at_once):
            cols = self._cols[first : first + self._tiles_at_once]
            window = self._inside(corner, cols[0], cols[-1] + self._grid.tile_px)
            coarse_fine, valid = self._coarse_at(window)
            if not valid.any():
                continue
            # Nothing but the image keeps the factors: they are most of what is in memory.
            others = [*factor_inputs(self._read_factors(window), valid)] if n_factors else [valid[None]]
            image = np.concatenate([coarse_fine[None], *others], dtype=np.float32)
            del others
            for col in cols:
                tile = read_tile(image, (corner - window.row, col - window.col), self._grid)
                if tile[1 + n_factors].any():
                    yield col, tile

    def _inside(self, corner: int, left: int, right: int) -> Window:
        """The part of the scene that tiles of one row read, from column ``left`` to ``right``."""
        top, bottom = max(corner, 0), min(corner + self._grid.tile_px, self._shape[0])
        left, right = max(left, 0), min(right, self._shape[1])
        return Window(top, left, bottom - top, right - left)

    def _coarse_at(self, window: Window) -> tuple[FloatArray, BoolArray]:
        """The coarse image on a window, as :func:`prepare_tile_inputs` has it, and where the own cell is valid."""
        scale = self._amun.config.scale_factor
        spans = [
            (max(0, start // scale - _CELLS_AROUND), min(n, -(-(start + size) // scale) + _CELLS_AROUND))
            for start, size, n in zip(window[:2], window[2:], self._coarse.shape, strict=True)
        ]
        cells = tuple(slice(*span) for span in spans)
        crop = tuple(
            slice(start - first * scale, start - first * scale + size)
            for start, size, (first, _) in zip(window[:2], window[2:], spans, strict=True)
        )
        coarse = self._coarse[cells]
        index = _index(self._amun.config, coarse)
        fine = interpolate(coarse, index, order=3)[crop]
        gap = np.isnan(fine)
        if gap.any():
            fine = np.where(gap, interpolate(self._filled[cells], index, order=1)[crop], fine)
        return fine, np.isfinite(paint_cells(coarse, index)[crop])

    def _finish(self, rows: StripRows, blended: FloatArray, spread: FloatArray) -> tuple[FloatArray, FloatArray, Array]:
        """The images of a strip: what the network was not asked is interpolated, lost cells are NaN."""
        scale, asked, lst = self._amun.config.scale_factor, np.isfinite(blended), blended.copy()
        cells = np.ix_(np.arange(rows.start, rows.stop) // scale, np.arange(self._shape[1]) // scale)
        missing, lost = self._missing[cells], self._lost[cells]
        for left in range(0, self._shape[1], self._grid.tile_px * self._tiles_at_once):
            block = np.s_[:, left : left + self._grid.tile_px * self._tiles_at_once]
            if (~asked & ~lost)[block].any():
                window = Window(rows.start, left, *asked[block].shape)
                lst[block] = np.where(asked[block], blended[block], self._coarse_at(window)[0])
        lst[lost] = spread[lost] = np.nan
        flags = np.where(missing, COARSE_MISSING, 0) | np.where(asked, 0, FALLBACK_USED)
        return lst, spread, flags.astype(np.uint8)


def _strip_rows(corners: list[int], halo_px: int, height: int) -> list[StripRows]:
    """One strip for each row of tiles; the first may be empty where only the blend's overlap reaches the scene."""
    starts = [max(0, corner + halo_px) for corner in corners]
    return [StripRows(*rows) for rows in zip(corners, starts, [*starts[1:], height], strict=True)]


def _index(config: AmunConfig, coarse: FloatArray) -> IntArray:
    return regular_index((coarse.shape[0], coarse.shape[1]), fine_shape(config, coarse))
