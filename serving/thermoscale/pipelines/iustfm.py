"""I-USTFM: one coarse image of a date and a library of dated scene pairs in, the fine image of that date out.

The networks are passed in and speak physical units:

    dynet      alpha [B, M_max], valid [B, M_max] bool, hcr_present [B, H_max] bool -> alpha_hcr [B, H_max]
    ratio_net  distance [N], a2 [N] -> delta [N]
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thermoscale.arrays import Array, BoolArray, FloatArray, Network, require_quantity, require_shape
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series, canonical_time
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale.numerics.bias import BiasRule
from thermoscale.numerics.change_ratio import coarse_alpha
from thermoscale.numerics.ratio_table import RatioTable
from thermoscale.numerics.triples import Triple, TripleOrder
from thermoscale.pipelines.flags import COARSE_MISSING, FILLED_THROUGH_HCR
from thermoscale.pipelines.iustfm_adaptive import AdaptiveMode
from thermoscale.pipelines.iustfm_blocks import predict_window
from thermoscale.pipelines.iustfm_coarse import Suspects, comparable_scenes, require_suspects, trusted_triples
from thermoscale.pipelines.iustfm_config import ADAPTIVE, MODES, IustfmConfig
from thermoscale.pipelines.iustfm_notes import UNTRAINED, HcrEvidence, complete
from thermoscale.pipelines.iustfm_pixels import assemble_triple
from thermoscale.pipelines.iustfm_plan import Memory, Plan, choose_triples, plan_key, require_baseline
from thermoscale.pipelines.iustfm_ratios import clip_cells, clip_hcr, clip_inputs, dynet_ratios, pooled_ratios
from thermoscale.pipelines.iustfm_weighting import Weighting, make_closed_form, make_tabled
from thermoscale.pipelines.library import Library, own_library, stored_library
from thermoscale.pipelines.region import Region, decode_library, encode_library
from thermoscale.pipelines.windows import require_window

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

BLOCK_PIXELS = 1 << 17
"""Fine pixels computed at a time by each thread, at most: changes no number. Threads hinder each other at every call of
numpy, so blocks are large: 1434 x 1434 pixels take two threads 0.07 s, 0.12 s with a quarter of it (closed form)."""

_CALIBRATED_DATES = 3
"""Library dates that the spread of the mode ``adaptive`` needs; with two it is far off (docs/adaptive.md)."""


class Iustfm:
    """The pipeline. Without DyNet ratios are pooled over cells; without RatioNet only the closed form is served."""

    def __init__(
        self,
        config: IustfmConfig,
        region: Region,
        dynet: Network | None,
        ratio_net: Network | None,
        *,
        table: RatioTable | None = None,
        threads: int = 1,
        remembered: int = 0,
        adaptive: AdaptiveState | None = None,
    ) -> None:
        """``table`` and ``remembered`` are for networks that do not change any more.

        Args:
            table: stands for ``ratio_net``, from :func:`iustfm_table.ratio_table`; without it the network is asked for
                every pixel.
            threads: blocks of pixels computed at once.
            remembered: target images whose ratios are kept for the next request.
            adaptive: what the mode ``adaptive`` needs; None where the bundle does not have it.
        """
        self.config = config
        self.region = region
        self._dynet = dynet
        self._ratio_net = ratio_net
        self._table = table
        self._threads = threads
        self._memory = Memory[Plan](remembered)
        self._stored = stored_library(region, config.library_step)
        self._cells = clip_cells(region)
        self._hcr_present = clip_hcr(region, config.h_max)
        if int(region.slots.max()) >= config.m_max or int(region.labels.max()) >= config.n_hcr:
            raise InvalidInput(
                f"region uses slot {int(region.slots.max())} and HCR {int(region.labels.max())}, the config has "
                f"m_max {config.m_max} and n_hcr {config.n_hcr}"
            )
        self._evidence = HcrEvidence(region, config.n_hcr)
        self._adaptive = None if adaptive is None else self._make_adaptive(adaptive, remembered)
        self._require_mode(config.mode)

    def _make_adaptive(self, state: AdaptiveState, remembered: int) -> AdaptiveMode:
        quantity = self.config.physical
        return AdaptiveMode(self.region, self._stored, state, quantity, threads=self._threads, remembered=remembered)

    def prepare(self) -> None:
        """Make what all requests share, before the first one."""
        rule = BiasRule().scaled(self.config.physical)
        for time in self._stored.times:
            self._stored.range_of(time)
            self._stored.bias_of(time, self.region.coarse_index, rule)
        if self._adaptive is not None:
            self._adaptive.prepare()

    def predict(
        self,
        coarse: Array | None,
        time: str,
        *,
        window: Sequence[int] | None = None,
        triples: Sequence[tuple[str, str]] | None = None,
        mode: str | None = None,
        order: TripleOrder | None = None,
        series: Series | None = None,
        min_baseline_k: float | None = None,
        suspects: Suspects = "warn",
    ) -> dict[str, Any]:
        """The fine scene of ``time``, or one window of it.

        Args:
            coarse: ``[h, w]`` of ``time`` in the unit of the config's quantity, NaN = no data; None takes the
                scene that ``series`` has of ``time``.
            time: ISO 8601 UTC. A library scene of the same time takes no part.
            window: row, col, height, width in fine pixels; the answer is that crop of the whole scene's answer.
            triples: (pre, post) library times to use, in any order; default: all that ``order`` gives. The same two
                times named twice, either way round, are one triple, the earlier time first.
            mode: ``rationet``, ``closed_form`` or ``adaptive``; default: the config's, see :meth:`choose_mode`.
            order: ``ordered`` pre < target < post, ``past_only``, or ``unordered``; default: ``ordered``, and
                whatever ``triples`` are where they are named. ``adaptive`` uses all library dates, or, with
                ``past_only``, all earlier ones.
            series: own scenes on the region's grids instead of the stored library.
            min_baseline_k: in place of the config's guard; kelvin, as there.
            suspects: ``warn`` leaves out library dates whose images contradict each other and uses a suspect target,
                with warnings; ``refuse`` answers neither.

        Returns:
            On the window: ``lst`` and ``spread_k`` (1 sigma, NaN below two triples) and ``iqr_k`` float32,
            ``n_triples`` and ``flags`` uint8. ``dates_used``: [pre, post] of each triple. ``facts``: bias
            applied, findings on the target's coarse scene (:mod:`thermoscale.pipelines.iustfm_coarse`), ``order`` of
            the dates in use (``named``, ``all``, or one of ``order``), ``hcr_without_coarse``: HCRs of which no valid
            coarse cell holds any area (no answer by triples; ``adaptive`` answers from other dates),
            ``spread_calibrated``, ``warnings``.

            Flags: bit 0 the own coarse cell has no value at ``time``; bit 1 it gave no ratio in any triple, the
            answer rests on its HCR elsewhere; bit 2 some triple was clipped to the training range; bit 3 the answer
            lies outside the pixel's own library values; bit 4 some triple fell back on the closed form.

        Raises:
            InvalidInput: arrays, times, mode or window that do not fit.
            Undetermined: no triple, or none that passes the guards; a suspect scene that is to be refused.
        """
        chosen, time = require_window(window, self.region.fine_shape), canonical_time(time)
        mode = self.choose_mode(mode, triples=triples, series=series, min_baseline_k=min_baseline_k)
        if mode == ADAPTIVE and self._adaptive is not None:
            target = self._require_target(coarse, time, series)
            answer = self._adaptive.predict(target, time, chosen, order or "ordered", require_suspects(suspects))
            return complete(answer, mode, time, self._facts_of_adaptive(target, order))
        config = self._config_with(min_baseline_k)
        plan = self._plan(config, coarse, time, series, triples, mode, order, require_suspects(suspects))
        layers = predict_window(
            config,
            self.region,
            plan,
            self._ratio_net,
            chosen,
            threads=self._threads,
            most_pixels=BLOCK_PIXELS,
        )
        used = [[triple.pre, triple.post] for triple in plan.triples]
        answer = {**layers, "dates_used": used, "coarse_facts": plan.facts}
        return complete(answer, mode, time, self._facts_of_triples(plan, triples is not None, order))

    def choose_mode(
        self,
        mode: str | None,
        *,
        triples: Sequence[tuple[str, str]] | None = None,
        series: Series | None = None,
        min_baseline_k: float | None = None,
    ) -> str:
        """``mode``, or the default: the config's, or its better published one where that is ``adaptive`` and the
        request asks for what only triples have.

        Raises:
            InvalidInput: unknown, not in this bundle, or ``adaptive`` with something that only triples have.
        """
        asked = {"triples": triples, "own scenes": series, "min_baseline_k": min_baseline_k}
        of_triples = [name for name, value in asked.items() if value is not None]
        if mode is None:
            published = self.config.mode == ADAPTIVE and of_triples
            mode = self.config.published if published else self.config.mode
        self._require_mode(mode)
        if mode == ADAPTIVE and of_triples:
            raise InvalidInput(
                f"mode adaptive knows no {' and no '.join(of_triples)}: it uses the bundle's library, all dates or the "
                "earlier ones (past_only); use mode closed_form or rationet"
            )
        return mode

    def _facts_of_adaptive(self, target: FloatArray, order: TripleOrder | None) -> dict[str, Any]:
        held = self._evidence.held(np.isfinite(target).reshape(1, -1))[0]
        count, warnings = self._evidence.without(held, "answered from library dates and cells elsewhere, flag bit 1")
        return {
            "order": "past_only" if order == "past_only" else "all",
            "hcr_without_coarse": count,
            "spread_calibrated": len(self._stored.times) >= _CALIBRATED_DATES,
            "warnings": warnings,
        }

    def _facts_of_triples(self, plan: Plan, named: bool, order: TripleOrder | None) -> dict[str, Any]:
        has_ratio: BoolArray = np.logical_or.reduce(np.isfinite(plan.alpha_hcr), axis=0)
        count, warnings = self._evidence.without(has_ratio, "no change ratio and no value there")
        return {
            "order": "named" if named else order or "ordered",
            "hcr_without_coarse": count,
            "spread_calibrated": plan.mode in self.config.spread_factors,
            "warnings": warnings if self._dynet is not None else [*warnings, UNTRAINED],
        }

    def _plan(
        self,
        config: IustfmConfig,
        coarse: Array | None,
        time: str,
        series: Series | None,
        pairs: Sequence[tuple[str, str]] | None,
        mode: str,
        order: TripleOrder | None,
        suspects: Suspects,
    ) -> Plan:
        library = self._stored if series is None else own_library(series, self.region, self.config.quantity)
        target = self._require_target(coarse, time, series)
        if series is not None:
            return self._make_plan(config, library, target, time, pairs, mode, order, suspects)
        named = None if pairs is None else tuple(map(tuple, pairs))
        return self._memory.get(
            plan_key(target, time, named, mode, order, suspects, config.guards),
            lambda: self._make_plan(config, library, target, time, pairs, mode, order, suspects),
        )

    def _make_plan(
        self,
        config: IustfmConfig,
        library: Library,
        target: FloatArray,
        time: str,
        pairs: Sequence[tuple[str, str]] | None,
        mode: str,
        order: TripleOrder | None,
        suspects: Suspects,
    ) -> Plan:
        quantity, guards = config.physical, config.guards.scaled(config.physical)
        chosen = choose_triples(library, time, pairs, order)
        trusted, warnings = trusted_triples(library, self.region, quantity, chosen, suspects)
        triples = require_baseline(config, library, trusted)
        coarse = comparable_scenes(library, self.region, quantity, target, triples, warnings, suspects)
        alpha = np.stack(
            [
                coarse_alpha(coarse.library[t.pre], coarse.target, coarse.library[t.post], guards).ravel()
                for t in triples
            ]
        )
        alpha_hcr = self._hcr_ratios(alpha, self._held(coarse.target, coarse.library, triples))
        if np.isnan(alpha_hcr).all():
            raise Undetermined(
                f"no coarse cell of {time} gives a change ratio in any of {len(triples)} triples; "
                f"guards: {self.config.guards}"
            )
        missing, ratioless = ~np.isfinite(target).ravel(), ~np.isfinite(alpha).any(axis=0)
        flags = missing * np.uint8(COARSE_MISSING) | ratioless * np.uint8(FILLED_THROUGH_HCR)
        without_cell = np.uint8(COARSE_MISSING | FILLED_THROUGH_HCR)
        return Plan(
            library,
            triples,
            mode,
            alpha_hcr,
            np.append(flags, without_cell),
            self._weighting(mode, alpha_hcr),
            coarse.facts,
        )

    def _config_with(self, min_baseline_k: float | None) -> IustfmConfig:
        """The config with another guard for baselines."""
        if min_baseline_k is None:
            return self.config
        return replace(self.config, guards=replace(self.config.guards, min_baseline_k=min_baseline_k))

    def _weighting(self, mode: str, alpha_hcr: FloatArray) -> Weighting | None:
        if mode == "closed_form":
            return make_closed_form(self.config, alpha_hcr)
        return None if self._table is None else make_tabled(self.config, alpha_hcr, self._table)

    def _held(self, target: FloatArray, library: Mapping[str, FloatArray], triples: Sequence[Triple]) -> BoolArray:
        """``[n_triples, n_hcr]``: some cell with a value on all three dates holds area of the HCR."""
        valid = [np.isfinite(library[t.pre]) & np.isfinite(target) & np.isfinite(library[t.post]) for t in triples]
        return self._evidence.held(np.stack(valid).reshape(len(triples), -1))

    def _hcr_ratios(self, alpha: FloatArray, held: BoolArray) -> FloatArray:
        """``[n_triples, n_cells]`` to ``[n_triples, n_hcr]``, NaN where an HCR is not ``held``: DyNet would guess."""
        if self._dynet is None:
            return pooled_ratios(self.config, self.region, alpha)
        ratios = dynet_ratios(
            self.config, self.region, self._dynet, alpha, cells=self._cells, hcr_present=self._hcr_present
        )
        return np.where(held, ratios, np.float32(np.nan))

    def _require_target(self, coarse: Array | None, time: str, series: Series | None) -> FloatArray:
        if coarse is None and series is None:
            raise InvalidInput(f"coarse is missing: needed the coarse scene of {time} or a series that holds it")
        scene = series.coarse_at(time) if coarse is None and series is not None else np.asarray(coarse)
        require_shape("coarse", scene, self.region.coarse_shape)
        return require_quantity(f"coarse of {time}", scene, self.config.physical)

    def _require_mode(self, mode: str) -> None:
        if mode not in (*MODES, ADAPTIVE):
            raise InvalidInput(f"mode is {mode!r}, needed one of {[*MODES, ADAPTIVE]}")
        if mode == ADAPTIVE and self._adaptive is None:
            raise InvalidInput(
                "mode is 'adaptive', but this bundle was made without it: use 'closed_form' or 'rationet'"
            )
        if mode == "rationet" and self._ratio_net is None:
            raise InvalidInput("mode is 'rationet', but this pipeline has no RatioNet: use 'closed_form'")
