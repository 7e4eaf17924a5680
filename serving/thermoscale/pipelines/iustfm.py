"""I-USTFM: one coarse image of a date and a library of dated scene pairs in, the fine image of that date out.

The networks are passed in and speak physical units:

    dynet      alpha [B, M_max], valid [B, M_max] bool, hcr_present [B, H_max] bool -> alpha_hcr [B, H_max]
    ratio_net  distance [N], a2 [N] -> delta [N]
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import Array, BoolArray, FloatArray, Network, require_quantity, require_shape
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series, canonical_time
from thermoscale.numerics.change_ratio import coarse_alpha
from thermoscale.numerics.hcr import paint_hcr
from thermoscale.numerics.triples import Triple, TripleOrder, enumerate_triples, median_over_triples
from thermoscale.pipelines.flags import COARSE_MISSING, FILLED_THROUGH_HCR, OUTSIDE_LIBRARY_RANGE
from thermoscale.pipelines.iustfm_config import MODES, IustfmConfig
from thermoscale.pipelines.iustfm_pixels import assemble_triple, calibrated_spread
from thermoscale.pipelines.iustfm_ratios import clip_cells, clip_hcr, clip_inputs, dynet_ratios, pooled_ratios
from thermoscale.pipelines.library import Library, own_library, stored_library
from thermoscale.pipelines.region import Region, decode_library, encode_library
from thermoscale.pipelines.windows import Window, require_window

__all__ = [
    "Iustfm",
    "IustfmConfig",
    "Region",
    "assemble_triple",
    "clip_cells",
    "clip_hcr",
    "clip_inputs",
    "decode_library",
    "encode_library",
]

BLOCK_PIXELS = 1 << 18
"""Fine pixels of one triple held at a time: bounds memory, changes no number."""


class _Plan(NamedTuple):
    """A request understood: what the pixel loop needs."""

    library: Library
    triples: list[Triple]
    alpha_hcr: FloatArray  # [n_triples, n_hcr]
    own_ratio: BoolArray  # [n_cells]: the cell itself gave a ratio in some triple
    seen: BoolArray  # [n_cells]: the target's coarse image has a value
    mode: str


class Iustfm:
    """The pipeline. Without DyNet ratios are pooled over cells; without RatioNet only the closed form is served."""

    def __init__(self, config: IustfmConfig, region: Region, dynet: Network | None, ratio_net: Network | None) -> None:
        self.config = config
        self.region = region
        self._dynet = dynet
        self._ratio_net = ratio_net
        self._stored = stored_library(region, config.library_step)
        self._cells = clip_cells(region)
        self._hcr_present = clip_hcr(region, config.h_max)
        if int(region.slots.max()) >= config.m_max or int(region.labels.max()) >= config.n_hcr:
            raise InvalidInput(
                f"region uses slot {int(region.slots.max())} and HCR {int(region.labels.max())}, the config has "
                f"m_max {config.m_max} and n_hcr {config.n_hcr}"
            )
        self._require_mode(config.mode)

    def predict(
        self,
        coarse: Array | None,
        time: str,
        *,
        window: Sequence[int] | None = None,
        triples: Sequence[tuple[str, str]] | None = None,
        mode: str | None = None,
        order: TripleOrder = "ordered",
        series: Series | None = None,
    ) -> dict[str, Any]:
        """The fine scene of ``time``, or one window of it.

        Args:
            coarse: ``[h, w]`` of ``time`` in the unit of the config's quantity, NaN = no data; None takes the
                scene that ``series`` has of ``time``.
            time: ISO 8601 UTC. A library scene of the same time takes no part.
            window: row, col, height, width in fine pixels; the answer is that crop of the whole scene's answer.
            triples: (pre, post) library times to use, in any order; default: all that ``order`` gives.
            mode: ``rationet`` or ``closed_form``; default: the config's.
            order: ``ordered`` pre < target < post, ``past_only``, or ``unordered``.
            series: own scenes on the region's grids instead of the stored library.

        Returns:
            On the window: ``lst`` and ``spread_k`` (1 sigma, NaN below two triples) and ``iqr_k`` float32,
            ``n_triples`` and ``flags`` uint8. ``dates_used``: [pre, post] of each triple.

            Flags: bit 0 the own coarse cell has no value at ``time``; bit 1 it gave no ratio in any triple, the
            answer rests on its HCR elsewhere; bit 2 some triple was clipped to the training range; bit 3 the answer
            lies outside the pixel's own library values; bit 4 some triple fell back on the closed form.

        Raises:
            InvalidInput: arrays, times, mode or window that do not fit.
            Undetermined: no triple, or none that passes the guards.
        """
        chosen = require_window(window, self.region.fine_shape)
        plan = self._plan(coarse, canonical_time(time), triples, mode or self.config.mode, order, series)
        layers = {
            "lst": np.full(chosen[2:], np.nan, np.float32),
            "spread_k": np.full(chosen[2:], np.nan, np.float32),
            "iqr_k": np.full(chosen[2:], np.nan, np.float32),
            "n_triples": np.zeros(chosen[2:], np.uint8),
            "flags": np.zeros(chosen[2:], np.uint8),
        }
        for block in _row_blocks(chosen):
            rows = slice(block.row - chosen.row, block.row - chosen.row + block.height)
            for name, values in self._predict_block(plan, block).items():
                layers[name][rows] = values
        return {**layers, "dates_used": [[triple.pre, triple.post] for triple in plan.triples]}

    def _plan(
        self,
        coarse: Array | None,
        time: str,
        pairs: Sequence[tuple[str, str]] | None,
        mode: str,
        order: TripleOrder,
        series: Series | None,
    ) -> _Plan:
        self._require_mode(mode)
        library = self._stored if series is None else own_library(series, self.region, self.config.quantity)
        target = self._require_target(coarse, time, series)
        triples = _choose_triples(library, time, pairs, order)
        triples = self._require_baseline(library, triples)
        alpha = np.stack([self._coarse_alpha(library, triple, target) for triple in triples])
        alpha_hcr = self._hcr_ratios(alpha)
        if np.isnan(alpha_hcr).all():
            raise Undetermined(
                f"no coarse cell of {time} gives a change ratio in any of {len(triples)} triples; "
                f"guards: {self.config.guards}"
            )
        own_ratio: BoolArray = np.logical_or.reduce(np.isfinite(alpha), axis=0)
        return _Plan(library, triples, alpha_hcr, own_ratio, np.isfinite(target).ravel(), mode)

    def _hcr_ratios(self, alpha: FloatArray) -> FloatArray:
        """``[n_triples, n_cells]`` to ``[n_triples, n_hcr]``."""
        if self._dynet is None:
            return pooled_ratios(self.config, self.region, alpha)
        return dynet_ratios(
            self.config, self.region, self._dynet, alpha, cells=self._cells, hcr_present=self._hcr_present
        )

    def _coarse_alpha(self, library: Library, triple: Triple, target: FloatArray) -> FloatArray:
        guards = self.config.guards.scaled(self.config.physical)
        pre, post = library.coarse_at(triple.pre), library.coarse_at(triple.post)
        return coarse_alpha(pre, target, post, guards).ravel()

    def _predict_block(self, plan: _Plan, block: Window) -> dict[str, Array]:
        """All layers of some rows."""
        labels = self.region.labels[block.slices]
        times = {time for triple in plan.triples for time in (triple.pre, triple.post)}
        scenes = {time: plan.library.fine_at(time, block.slices) for time in sorted(times)}
        stack = np.full((len(plan.triples), *labels.shape), np.nan, np.float32)
        flags = np.zeros(labels.shape, np.uint8)
        for answer, triple, alpha_hcr in zip(stack, plan.triples, plan.alpha_hcr, strict=True):
            low_pre, high_pre = plan.library.range_of(triple.pre)
            low_post, high_post = plan.library.range_of(triple.post)
            answer[:], bits = assemble_triple(
                self.config,
                scenes[triple.pre],
                scenes[triple.post],
                paint_hcr(alpha_hcr, labels),
                baseline_k=plan.library.baseline_of(triple.pre, triple.post),
                bounds=(min(low_pre, low_post), max(high_pre, high_post)),
                mode=plan.mode,
                ratio_net=self._ratio_net,
            )
            flags |= bits
        lst, iqr, count = median_over_triples(stack)
        flags |= self._place_flags(plan, lst, scenes, block)
        spread = calibrated_spread(iqr, count, self.config.spread_factor)
        return {"lst": lst, "spread_k": spread, "iqr_k": iqr, "n_triples": count, "flags": flags}

    def _place_flags(self, plan: _Plan, lst: FloatArray, scenes: dict[str, FloatArray], block: Window) -> Array:
        """Bits 0, 1 and 3; a pixel without a coarse cell counts as one whose cell is missing."""
        index = self.region.coarse_index[block.slices]
        answered = np.isfinite(lst)
        missing = ~np.append(plan.seen, False)[index]
        filled = ~np.append(plan.own_ratio, False)[index] & answered
        lowest, highest = np.fmin.reduce(list(scenes.values())), np.fmax.reduce(list(scenes.values()))
        outside = (lst < lowest) | (lst > highest)
        bits = missing * COARSE_MISSING + filled * FILLED_THROUGH_HCR + outside * OUTSIDE_LIBRARY_RANGE
        flags: Array = bits.astype(np.uint8)
        return flags

    def _require_target(self, coarse: Array | None, time: str, series: Series | None) -> FloatArray:
        if coarse is None and series is None:
            raise InvalidInput(f"coarse is missing: needed the coarse scene of {time} or a series that holds it")
        scene = series.coarse_at(time) if coarse is None and series is not None else np.asarray(coarse)
        require_shape("coarse", scene, self.region.coarse_shape)
        return require_quantity(f"coarse of {time}", scene, self.config.physical)

    def _require_baseline(self, library: Library, triples: list[Triple]) -> list[Triple]:
        """The triples whose fine scenes are far enough apart."""
        needed = self.config.guards.scaled(self.config.physical).min_baseline_k
        baselines = {triple: library.baseline_of(triple.pre, triple.post) for triple in triples}
        far = [triple for triple, baseline in baselines.items() if baseline >= needed]
        if not far:
            listed = ", ".join(f"{t.pre} and {t.post}: {b:.3g}" for t, b in list(baselines.items())[:6])
            raise Undetermined(
                f"no triple has a baseline of {needed:g} {self.config.physical.unit} ({listed}); "
                "needed two library dates with scenes further apart"
            )
        return far

    def _require_mode(self, mode: str) -> None:
        if mode not in MODES:
            raise InvalidInput(f"mode is {mode!r}, needed one of {list(MODES)}")
        if mode == "rationet" and self._ratio_net is None:
            raise InvalidInput("mode is 'rationet', but this pipeline has no RatioNet: use 'closed_form'")


def _choose_triples(
    library: Library, time: str, pairs: Sequence[tuple[str, str]] | None, order: TripleOrder
) -> list[Triple]:
    """The triples of a request, sorted by time."""
    others = [other for other in library.times if other != time]
    if pairs is not None:
        return sorted({_require_pair(others, time, pair) for pair in pairs})
    triples = enumerate_triples(others, time, order)
    if not triples:
        raise Undetermined(
            f"no {order} triple around {time}: the library has {sorted(others)}; bring scenes on both sides, "
            "or ask for past_only"
        )
    return triples


def _require_pair(others: list[str], time: str, pair: Sequence[str]) -> Triple:
    if len(pair) != 2:
        raise InvalidInput(f"triples hold {list(pair)}, needed pairs of library times (pre, post)")
    pre, post = (canonical_time(text) for text in pair)
    unknown = sorted({pre, post} - set(others))
    if unknown or pre == post:
        raise InvalidInput(
            f"triples name ({pre}, {post}); needed two different library times other than {time}: {sorted(others)}"
        )
    return Triple(pre, time, post)


def _row_blocks(window: Window) -> Iterator[Window]:
    """``window`` in pieces of whole rows."""
    step = max(1, BLOCK_PIXELS // window.width)
    for row in range(window.row, window.row + window.height, step):
        yield Window(row, window.col, min(step, window.row + window.height - row), window.width)
