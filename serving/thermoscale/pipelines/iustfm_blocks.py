"""The pixel loop of I-USTFM: all triples of some rows at once, in memory that stays in the cache, on several threads.

The same answers as :func:`iustfm_pixels.assemble_triple` and ``median_over_triples``, which are the definition: values
to 1e-3 K (closed form) or to the table's error (RatioNet), gaps and counts the same. A value so near a limit of the
range guard that rounding could decide is computed by the definition.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from thermoscale.arrays import Array, FloatArray, Network
from thermoscale.numerics.hcr import paint_hcr
from thermoscale.numerics.triples import Triple, median_of_rows
from thermoscale.pipelines.flags import FILLED_THROUGH_HCR, OUTSIDE_LIBRARY_RANGE
from thermoscale.pipelines.iustfm_config import IustfmConfig
from thermoscale.pipelines.iustfm_pixels import assemble_triple, calibrated_spread
from thermoscale.pipelines.iustfm_plan import Plan
from thermoscale.pipelines.iustfm_scratch import Scratch, block_pixels
from thermoscale.pipelines.region import Region
from thermoscale.pipelines.windows import Window

UNSURE_K = 0.02
"""Values nearer than this to a limit are computed by the definition; twice what a table may err."""

Layers = dict[str, Array]


def predict_window(
    config: IustfmConfig,
    region: Region,
    plan: Plan,
    ratio_net: Network | None,
    window: Window,
    *,
    threads: int,
    most_pixels: int,
) -> Layers:
    """All layers of ``window``.

    Args:
        threads: blocks computed at once; RatioNet itself, where it is asked directly, has its own threads.
        most_pixels: of a block; changes no number.
    """
    assembly = _Assembly.of(config, region, plan, ratio_net)
    layers = _empty_layers(window)
    n_pixels = window.height * window.width
    threads = min(threads, max(1, 2 * n_pixels // most_pixels))  # on less than half a block a thread hinders
    capacity = min(-(-n_pixels // threads), block_pixels(most_pixels, len(plan.triples), len(assembly.times)))
    blocks = list(_row_blocks(window, capacity))
    waiting = iter(blocks)

    def work() -> None:
        scratch = Scratch(assembly.times, len(plan.triples), max(capacity, window.width))
        for block in waiting:  # a list's iterator: each thread takes the next one
            rows = slice(block.row - window.row, block.row - window.row + block.height)
            assembly.fill({name: layer[rows].reshape(-1) for name, layer in layers.items()}, block, scratch)

    n_workers = min(1 if plan.weighting is None else threads, len(blocks))
    if n_workers == 1:
        work()
    else:
        with ThreadPoolExecutor(n_workers) as pool:
            for done in [pool.submit(work) for _ in range(n_workers)]:
                done.result()
    return layers


@dataclass(frozen=True, eq=False)
class _Assembly:
    """One request, shared by its threads.

    Attributes:
        times: library dates in use.
        bounds: smallest and largest fine value of each triple; ``limits`` of its results.
        nearest: the smallest float32 distance that passes the guard.
    """

    config: IustfmConfig
    region: Region
    plan: Plan
    ratio_net: Network | None
    times: list[str]
    bounds: list[tuple[float, float]]
    limits: list[tuple[float, float]]
    nearest: np.float32

    @classmethod
    def of(cls, config: IustfmConfig, region: Region, plan: Plan, ratio_net: Network | None) -> "_Assembly":
        times = sorted({time for triple in plan.triples for time in (triple.pre, triple.post)})
        ranges = {time: plan.library.range_of(time) for time in times}
        bounds = []
        for triple in plan.triples:
            lows, highs = zip(ranges[triple.pre], ranges[triple.post], strict=True)
            bounds.append((min(lows), max(highs)))
        guards = config.guards.scaled(config.physical)
        limits = [(low - guards.range_margin_k, high + guards.range_margin_k) for low, high in bounds]
        nearest = np.float32(guards.min_distance_k)
        if float(nearest) < guards.min_distance_k:
            nearest = np.nextafter(nearest, np.float32(np.inf))
        return cls(config, region, plan, ratio_net, times, bounds, limits, nearest)

    def fill(self, layers: Layers, block: Window, scratch: Scratch) -> None:
        """Compute ``block`` into ``layers``, each ``[P]``."""
        scratch.load(self.plan.library, self.region, block, self.config.n_hcr)
        flags = layers["flags"]
        np.take(self.plan.cell_flags, self.region.coarse_index[block.slices].reshape(-1), out=flags, mode="wrap")
        for number, triple in enumerate(self.plan.triples):
            bits = self._answer(number, triple, scratch, scratch.values[number])
            if bits is not None:
                bits[np.isnan(scratch.values[number])] = 0
                flags |= bits
        lst, iqr, count = median_of_rows(list(scratch.values), scratch.spare)
        self._finish_flags(flags, lst, list(scratch.scenes.values()))
        layers["lst"][:], layers["iqr_k"][:], layers["n_triples"][:] = lst, iqr, count
        layers["spread_k"][:] = calibrated_spread(iqr, count, self.config.spread_factors.get(self.plan.mode, 1.0))

    def _answer(self, number: int, triple: Triple, scratch: Scratch, out: FloatArray) -> Array | None:
        """One triple with all its guards into ``out``; its flag bits."""
        pre, post = scratch.scenes[triple.pre], scratch.scenes[triple.post]
        if self.plan.weighting is None:
            out[:], direct_bits = self._define(number, triple, scratch)
            return direct_bits
        np.subtract(post, pre, out=scratch.change)
        np.abs(scratch.change, out=scratch.distance)
        bits = self.plan.weighting.weigh(number, pre, scratch, out)
        if not np.minimum.reduce(scratch.distance) >= self.nearest:
            np.copyto(out, np.nan, where=~(scratch.distance >= self.nearest))
        return self._guard_range(number, triple, scratch, out, bits)

    def _guard_range(
        self, number: int, triple: Triple, scratch: Scratch, out: FloatArray, bits: Array | None
    ) -> Array | None:
        """Drop what leaves the range of the scenes; ask the definition where rounding could decide."""
        unsure = UNSURE_K * self.config.physical.kelvin
        low, high = self.limits[number]
        if np.fmin.reduce(out) > low + unsure and np.fmax.reduce(out) < high - unsure:
            return bits
        near = np.flatnonzero((np.abs(out - low) <= unsure) | (np.abs(out - high) <= unsure))
        out[(out < low) | (out > high)] = np.nan
        if near.size:
            out[near], direct_bits = self._define(number, triple, scratch, near)
            if bits is not None:
                bits[near] = direct_bits
        return bits

    def _define(
        self, number: int, triple: Triple, scratch: Scratch, pixels: Array | slice = slice(None)
    ) -> tuple[FloatArray, Array]:
        """Values and bits of some pixels by the definition."""
        labels = scratch.labels[pixels]
        return assemble_triple(
            self.config,
            scratch.scenes[triple.pre][pixels],
            scratch.scenes[triple.post][pixels],
            paint_hcr(self.plan.alpha_hcr[number], np.where(labels == self.config.n_hcr, -1, labels)),
            baseline_k=self.plan.library.baseline_of(triple.pre, triple.post),
            bounds=self.bounds[number],
            mode=self.plan.mode,
            ratio_net=self.ratio_net,
        )

    def _finish_flags(self, flags: Array, lst: FloatArray, scenes: list[FloatArray]) -> None:
        """Bit 1 only where there is an answer; bit 3."""
        gap = np.isnan(lst)
        if gap.any():
            flags[gap] &= np.uint8(255 - FILLED_THROUGH_HCR)
        lowest, highest = scenes[0].copy(), scenes[0].copy()
        for scene in scenes[1:]:
            np.fmin(lowest, scene, out=lowest)
            np.fmax(highest, scene, out=highest)
        outside = (lst < lowest) | (lst > highest)
        flags |= outside * np.uint8(OUTSIDE_LIBRARY_RANGE)


def _empty_layers(window: Window) -> Layers:
    """Every block fills its rows; nothing is left as it is here."""
    floats: Layers = {name: np.empty(window[2:], np.float32) for name in ("lst", "spread_k", "iqr_k")}
    return {**floats, "n_triples": np.empty(window[2:], np.uint8), "flags": np.empty(window[2:], np.uint8)}


def _row_blocks(window: Window, most_pixels: int) -> Iterator[Window]:
    """``window`` in pieces of whole rows."""
    step = max(1, most_pixels // window.width)
    for row in range(window.row, window.row + window.height, step):
        yield Window(row, window.col, min(step, window.row + window.height - row), window.width)
