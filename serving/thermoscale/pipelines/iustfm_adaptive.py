"""Mode ``adaptive`` of I-USTFM: library dates, kriging in time and the coarse scene, each as far as it proved to help.

The method is in ``thermoscale.numerics.adaptive_*``; this module brings it the stored library, some rows at a time.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from thermoscale.arrays import Array, FloatArray, Quantity
from thermoscale.errors import Undetermined
from thermoscale.numerics.adaptive_grid import CellGrid
from thermoscale.numerics.adaptive_library import LibraryView, fill_gaps, view_library
from thermoscale.numerics.adaptive_pixels import HALO_PX, AdaptiveTarget, AdaptiveView
from thermoscale.numerics.adaptive_state import NO_CLASS, AdaptiveState
from thermoscale.numerics.triples import Triple, TripleOrder
from thermoscale.pipelines.flags import COARSE_MISSING, OUTSIDE_LIBRARY_RANGE
from thermoscale.pipelines.iustfm_coarse import Suspects, comparable_scenes, trusted_triples
from thermoscale.pipelines.iustfm_plan import Memory, plan_key
from thermoscale.pipelines.library import Library
from thermoscale.pipelines.region import Region
from thermoscale.pipelines.windows import Window
from thermoscale.times import day_of

_MIN_DATES = 2
_MIN_CELLS, _MIN_CELL_SHARE = 3, 0.05
_BLOCK_PIXELS, _BLOCK_VALUES = (
    1 << 17,
    1 << 20,
)  # large, so that threads seldom meet; however many dates, 4 MB of scenes
_REMEMBERED_LIBRARIES = 2


class AdaptiveMode:
    """The stored library with its state; two matrices of coarse cells x coarse cells for each set of dates in use."""

    def __init__(
        self,
        region: Region,
        library: Library,
        state: AdaptiveState,
        quantity: Quantity,
        *,
        threads: int,
        remembered: int,
    ) -> None:
        self._region, self._library, self._state, self._quantity = region, library, state, quantity
        self._threads = threads
        self._days = np.array([day_of(time) for time in library.times])
        self._missing_class = state.labels == NO_CLASS
        index = np.where(self._missing_class, np.int32(-1), region.coarse_index)
        self._grid = CellGrid(index, region.coarse_shape)
        self._views = Memory[AdaptiveView](_REMEMBERED_LIBRARIES)
        self._targets = Memory[tuple[AdaptiveTarget, list[str], dict[str, Any]]](remembered)

    def prepare(self) -> None:
        """Make what a request about a date outside the library needs."""
        self._view(tuple(range(len(self._library.times))))

    def predict(
        self, target: FloatArray, time: str, window: Window, order: TripleOrder, suspects: Suspects
    ) -> dict[str, Any]:
        """As :meth:`thermoscale.pipelines.iustfm.Iustfm.predict`.

        Raises:
            Undetermined: fewer than two library dates, a coarse scene with hardly any value, a suspect to be refused.
        """
        ready, dates, facts = self._targets.get(
            plan_key(target, time, order, suspects), lambda: self._understand(target, time, order, suspects)
        )
        layers = self._layers(ready, dates, target, window)
        return {**layers, "dates_used": [[date] for date in dates], "coarse_facts": facts}

    def _understand(
        self, target: FloatArray, time: str, order: TripleOrder, suspects: Suspects
    ) -> tuple[AdaptiveTarget, list[str], dict[str, Any]]:
        """Which dates, and what each counts; a date alone is checked as a triple with itself."""
        valid, needed = int(np.isfinite(target).sum()), max(_MIN_CELLS, _MIN_CELL_SHARE * target.size)
        if valid < needed:
            raise Undetermined(f"coarse of {time} has {valid} valid cells of {target.size}, needed {needed:.0f}")
        others = [date for date in self._library.times if date != time and (order != "past_only" or date < time)]
        alone = [Triple(date, time, date) for date in others]
        trusted, warnings = trusted_triples(self._library, self._region, self._quantity, alone, suspects)
        if len(trusted) < _MIN_DATES:
            raise Undetermined(f"mode adaptive needs {_MIN_DATES} library dates for {time}, {order}: got {others}")
        coarse = comparable_scenes(self._library, self._region, self._quantity, target, trusted, warnings, suspects)
        view = self._view(tuple(self._library.times.index(triple.pre) for triple in trusted))
        applied = float(view.bias.mean() * self._state.scales[1])
        facts = {**coarse.facts, "bias_applied": applied}
        return view.target(target, day_of(time)), [triple.pre for triple in trusted], facts

    def _view(self, dates: tuple[int, ...]) -> AdaptiveView:
        return self._views.get(dates, lambda: self._make_view(np.array(dates)))

    def _make_view(self, dates: Array) -> AdaptiveView:
        times = [self._library.times[date] for date in dates]
        coarse = np.stack([self._library.coarse_at(time) for time in times])
        return AdaptiveView.of(self._state, self._view_library(dates), coarse, dates, self._days[dates])

    def _view_library(self, dates: Array) -> LibraryView:
        """One pass over the fine scenes of ``dates``."""
        state, (height, width) = self._state, self._region.fine_shape
        base, unit = state.scales[:2]
        mean, covariance = state.gap_mean[dates], state.gap_covariance[np.ix_(dates, dates)]
        labels = np.where(self._missing_class, 0, state.labels).ravel().astype(np.intp)

        def pieces() -> Iterator[tuple[slice, Array]]:
            for block in _blocks(Window(0, 0, height, width), len(dates)):
                scenes = self._read(dates, block).reshape(len(dates), -1)
                pixels = slice(block.row * width, (block.row + block.height) * width)
                yield pixels, fill_gaps((scenes - base) / unit, mean, covariance)

        return view_library(pieces(), len(dates), labels, self._grid)

    def _layers(self, ready: AdaptiveTarget, dates: list[str], target: FloatArray, window: Window) -> dict[str, Array]:
        shape = window.height, window.width
        layers: dict[str, Array] = {name: np.full(shape, np.nan, np.float32) for name in ("lst", "spread_k", "iqr_k")}
        layers |= {name: np.zeros(shape, np.uint8) for name in ("n_triples", "flags")}
        positions = np.array([self._library.times.index(date) for date in dates])
        missing = np.append(~np.isfinite(target).ravel(), True)  # the last: pixels without a cell

        def fill(block: Window) -> None:
            rows = slice(block.row - window.row, block.row - window.row + block.height)
            lst, spread, outside = self._block(ready, positions, block)
            layers["lst"][rows], layers["spread_k"][rows] = lst, spread
            absent = missing[self._region.coarse_index[block.slices]]
            layers["flags"][rows] = absent * np.uint8(COARSE_MISSING) | outside * np.uint8(OUTSIDE_LIBRARY_RANGE)

        _run(fill, list(_blocks(window, len(dates))), self._threads)
        return layers

    def _block(self, ready: AdaptiveTarget, dates: Array, block: Window) -> tuple[FloatArray, FloatArray, Array]:
        """Scene, spread, and where the scene leaves the pixel's own library values."""
        wide, inner = _with_halo(block, self._region.fine_shape)
        scenes = self._read(dates, wide)
        lst, spread = (layer[inner] for layer in ready.predict(scenes, *wide.slices))
        own = scenes[:, inner[0], inner[1]]
        low, high = np.fmin.reduce(own, axis=0), np.fmax.reduce(own, axis=0)
        return lst, spread, (lst < low) | (lst > high)

    def _read(self, dates: Array, block: Window) -> FloatArray:
        """``[T, rows, cols]``."""
        scenes = np.empty((len(dates), block.height, block.width), np.float32)
        for date, scene in zip(dates, scenes, strict=True):
            self._library.read_fine(self._library.times[date], block.slices, scene)
        return scenes


def _blocks(window: Window, n_dates: int) -> Iterator[Window]:
    """Whole rows of ``window``."""
    step = max(1, min(_BLOCK_PIXELS, _BLOCK_VALUES // n_dates) // window.width)
    for row in range(window.row, window.row + window.height, step):
        height = min(step, window.row + window.height - row)
        yield Window(row, window.col, height, window.width)


def _with_halo(block: Window, shape: tuple[int, int]) -> tuple[Window, tuple[slice, slice]]:
    """``block`` with its border, inside ``shape``, and where ``block`` lies in it."""
    top, left = max(block.row - HALO_PX, 0), max(block.col - HALO_PX, 0)
    bottom = min(block.row + block.height + HALO_PX, shape[0])
    right = min(block.col + block.width + HALO_PX, shape[1])
    inner = Window(block.row - top, block.col - left, block.height, block.width)
    return Window(top, left, bottom - top, right - left), inner.slices


def _run(work: Callable[[Window], None], blocks: list[Window], threads: int) -> None:
    if threads == 1 or len(blocks) == 1:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, block) for block in blocks]:
            done.result()
