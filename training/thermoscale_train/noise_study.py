"""``thermoscale-train noise-study``: what noise of the change ratio does to RatioNet and to the closed form.

Worlds where every land cover changes as one, coarse images with sensor noise and averaged as radiance (T^4), which is
the stated nonlinear mixing. Targets are dates without a fine scene, so nothing has to be held out and the truth has no
noise. Noise is added to the ratio of every HCR and triple, at SNR = variance of alpha over HCRs / variance of the
noise, to what DyNet says and, for comparison, to the true ratios (where the SNR is exact). Without added noise the
same worlds compare the published design with STARFM and ESTARFM.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from thermoscale.arrays import FloatArray
from thermoscale.errors import Undetermined
from thermoscale.formats import Series
from thermoscale.numerics.change_ratio import baseline_k, coarse_alpha, scene_range
from thermoscale.numerics.grids import area_mean, interpolate
from thermoscale.numerics.hcr import hcr_alpha, paint_hcr
from thermoscale.numerics.metrics import rmse
from thermoscale.numerics.triples import Triple, enumerate_triples, median_over_triples
from thermoscale.pipelines.iustfm import clip_cells, clip_hcr
from thermoscale.pipelines.iustfm_pixels import assemble_triple
from thermoscale.pipelines.iustfm_ratios import dynet_ratios
from thermoscale.testing.worlds import World, make_series
from thermoscale_train.baselines import FUSION
from thermoscale_train.checkpoint import IustfmCheckpoint
from thermoscale_train.config import IustfmSettings, load_iustfm_settings, settings_to_json
from thermoscale_train.data.split import spread_out
from thermoscale_train.evaluate_iustfm import Budget
from thermoscale_train.fit import fit_iustfm
from thermoscale_train.networks import dynet_network, ratio_net_network
from thermoscale_train.scoring import nulls_for_nan

MODES = ("closed_form", "rationet")
RIVALS = ("bilinear", "starfm", "estarfm")


@dataclass(frozen=True)
class StudySettings:
    """Attributes:
    seeds, coarse_noise_k: one world each.
    snr: of the added noise.
    n_targets: dates judged in each world. side_px: of the world, fine pixels. n_dates: coarse; a third has a fine one.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    coarse_noise_k: tuple[float, ...] = (0.5, 1.0)
    snr: tuple[float, ...] = (50.0, 30.0, 10.0, 5.0)
    n_targets: int = 3
    side_px: int = 120
    n_dates: int = 36


class Finding(NamedTuple):
    """RMSE (K, mean over the targets) of one way to answer in one world; ``snr`` None = nothing added."""

    coarse_noise_k: float
    seed: int
    ratios: str
    snr: float | None
    method: str
    rmse: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    shipped = StudySettings()
    parser.add_argument("--seeds", type=int, default=len(shipped.seeds), help="worlds per noise (default %(default)s)")
    parser.add_argument("--targets", type=int, default=shipped.n_targets, help="dates per world (default %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="worlds at a time (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of a table")


def run(args: argparse.Namespace) -> int:
    """Run the study and print it; 0."""
    study = StudySettings(seeds=tuple(range(args.seeds)), n_targets=args.targets)
    result = noise_study(study, processes=args.processes, progress=True)
    sys.stdout.write((json.dumps(result, indent=2, allow_nan=False) if args.json else table(result)) + "\n")
    return 0


def noise_study(
    study: StudySettings, *, settings: IustfmSettings | None = None, processes: int = 1, progress: bool = False
) -> dict[str, Any]:
    """Every world of ``study``; deterministic.

    Args:
        settings: of the fits; default the shipped ones within evaluate's budget.
    """
    settings = settings or Budget().applied(load_iustfm_settings(), make_world(study, 0, 0.0).series)
    worlds = list(product(study.coarse_noise_k, study.seeds))
    ask = partial(_of_world, study, settings)
    bar = partial(tqdm, desc="noise study", total=len(worlds), disable=not progress)
    if processes <= 1:
        parts = list(bar(map(ask, worlds)))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            parts = list(bar(pool.map(ask, worlds)))
    findings = [finding for part, _ in parts for finding in part]
    whole = {
        "schema_version": 1,
        "settings": {**asdict(study), "training": settings_to_json(settings), "mixing": "mean of T^4 over a cell"},
        "dynet_snr": [
            {"coarse_noise_k": noise, "seed": seed, "snr": snr}
            for (noise, seed), (_, snr) in zip(worlds, parts, strict=True)
        ],
        "rows": _means(findings),
        "worlds": [finding._asdict() for finding in findings],
    }
    cleaned: dict[str, Any] = nulls_for_nan(whole)
    return cleaned


def make_world(study: StudySettings, seed: int, coarse_noise_k: float) -> World:
    """Class-wise change; the coarse image carries the radiance of its cell instead of its temperature."""
    side = study.side_px
    world = make_series(
        seed,
        fine_shape=(side, side),
        n_dates=study.n_dates,
        smooth_change_k=0.0,
        coarse_noise_k=coarse_noise_k,
    )
    index, shape = world.series.coarse_index, (world.series.coarse.shape[1], world.series.coarse.shape[2])
    truth = world.truth.astype(np.float64)
    by_radiance = area_mean(truth**4, index, shape).astype(np.float64) ** 0.25
    excess = by_radiance - area_mean(truth, index, shape)
    return replace(world, series=replace(world.series, coarse=(world.series.coarse + excess).astype(np.float32)))


def table(result: dict[str, Any]) -> str:
    """The means over worlds for people."""
    lines = [f"{'noise, K':>9}{'ratios':>10}{'SNR':>7}  {'method':14}{'RMSE, K':>9}   per seed"]
    for row in result["rows"]:
        snr = "-" if row["snr"] is None else f"{row['snr']:g}"
        seeds = " ".join(f"{value:.3f}" for value in row["by_seed"])
        lines.append(
            f"{row['coarse_noise_k']:>9g}{row['ratios']:>10}{snr:>7}  {row['method']:14}{row['rmse']:>9.3f}   {seeds}"
        )
    found = ", ".join(f"{item['snr']:.3g}" for item in result["dynet_snr"])
    return "\n".join([*lines, f"SNR of DyNet itself in each world: {found}"])


def _of_world(study: StudySettings, settings: IustfmSettings, which: tuple[float, int]) -> tuple[list[Finding], float]:
    """Findings in one world, and the SNR that DyNet reaches by itself (median over triples)."""
    noise_k, seed = which
    world = make_world(study, seed, noise_k)
    checkpoint = fit_iustfm(world.series, settings, seed=seed)
    if checkpoint.ratio_net is None:
        raise Undetermined(f"world {seed}: {len(world.series.fine_time)} fine dates determine no networks")
    errors: dict[tuple[str, float | None, str], list[float]] = {}
    reached: list[float] = []
    for number, time in enumerate(_targets(world.series, study.n_targets)):
        rng = np.random.default_rng([seed, number])
        truth = world.truth[world.series.coarse_time.index(time)]
        place = _Place(world.series, checkpoint, time, truth)
        reached += place.dynet_snr()
        for ratios, snr in product(("dynet", "true"), (None, *study.snr)):
            alpha = place.noisy(ratios, snr, rng)
            for mode in MODES:
                errors.setdefault((ratios, snr, mode), []).append(place.error(place.assembled(alpha, mode)))
        for method in RIVALS:
            lst = FUSION[method](world.series.without(time), world.series.coarse_at(time), time)
            errors.setdefault(("none", None, method), []).append(place.error(lst))
    found = [Finding(noise_k, seed, *key, float(np.mean(values))) for key, values in errors.items()]
    return found, float(np.median(reached))


class _Place:
    """Ratios of all triples around one target, true and by DyNet."""

    def __init__(self, series: Series, checkpoint: IustfmCheckpoint, time: str, truth: FloatArray) -> None:
        self._series, self._truth, self._coarse = series, truth, series.coarse_at(time)
        self._config, self._region = checkpoint.config, checkpoint.region
        dynet, ratio_net = checkpoint.build_dynet(), checkpoint.build_ratio_net()
        assert dynet is not None
        assert ratio_net is not None
        self._ratio_net = ratio_net_network(ratio_net)
        guards = self._config.guards.scaled(self._config.physical)
        self._triples = [
            triple
            for triple in enumerate_triples(self._region.library_time, time)
            if baseline_k(*self._scenes(triple)) >= guards.min_baseline_k
        ]
        coarse = [
            coarse_alpha(series.coarse_at(t.pre), self._coarse, series.coarse_at(t.post), guards) for t in self._triples
        ]
        cells, present = clip_cells(self._region), clip_hcr(self._region, self._config.h_max)
        alpha = np.stack(coarse).reshape(len(coarse), -1)
        by_dynet = dynet_ratios(
            self._config, self._region, dynet_network(dynet), alpha, cells=cells, hcr_present=present
        )
        self._alpha = {"dynet": by_dynet, "true": self._true_ratios(guards.max_abs_alpha)}

    def dynet_snr(self) -> list[float]:
        """Of every triple: variance of the true ratios over HCRs / mean squared error of DyNet's."""
        true, error = self._alpha["true"], self._alpha["dynet"] - self._alpha["true"]
        return [
            float(np.nanvar(a) / np.nanmean(e**2)) for a, e in zip(true, error, strict=True) if np.isfinite(a * e).any()
        ]

    def noisy(self, ratios: str, snr: float | None, rng: np.random.Generator) -> FloatArray:
        """``[n_triples, n_hcr]`` with noise of the SNR; as they are for None."""
        alpha = self._alpha[ratios]
        if snr is None:
            return alpha
        spread = np.nanstd(alpha, axis=1, keepdims=True) / np.sqrt(snr)
        noisy: FloatArray = (alpha + spread * rng.standard_normal(alpha.shape)).astype(np.float32)
        return noisy

    def assembled(self, alpha: FloatArray, mode: str) -> FloatArray:
        """Every triple by the served definition, median over triples; the direct path, no table."""
        answers = []
        for triple, of_triple in zip(self._triples, alpha, strict=True):
            pre, post = self._scenes(triple)
            painted, baseline, bounds = (
                paint_hcr(of_triple, self._region.labels),
                baseline_k(pre, post),
                scene_range(pre, post),
            )
            answer, _ = assemble_triple(
                self._config,
                pre,
                post,
                painted,
                baseline_k=baseline,
                bounds=bounds,
                mode=mode,
                ratio_net=self._ratio_net,
            )
            answers.append(answer)
        return median_over_triples(np.stack(answers))[0]

    def error(self, lst: FloatArray) -> float:
        """RMSE, gaps filled with bilinear coarse."""
        bilinear = interpolate(self._coarse, self._series.coarse_index, order=1, fill=True)
        return rmse(np.where(np.isnan(lst), bilinear, lst), self._truth)

    def _scenes(self, triple: Triple) -> tuple[FloatArray, FloatArray]:
        return self._series.fine_at(triple.pre), self._series.fine_at(triple.post)

    def _true_ratios(self, max_abs_alpha: float) -> FloatArray:
        labels, n_hcr = self._region.labels, self._config.n_hcr
        found = [hcr_alpha(pre, self._truth, post, labels, n_hcr) for pre, post in map(self._scenes, self._triples)]
        alpha = np.stack(found)
        bounded: FloatArray = np.where(np.abs(alpha) <= max_abs_alpha, alpha, np.float32(np.nan))
        return bounded


def _targets(series: Series, count: int) -> Sequence[str]:
    """Dates without a fine scene that have one before and one after them, spread over the series."""
    first, last = min(series.fine_time), max(series.fine_time)
    inside = [time for time in series.coarse_time if first < time < last and time not in series.fine_time]
    return spread_out(inside, count)


def _means(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Mean over the worlds of one noise, with the single worlds beside it."""
    groups: dict[tuple[float, str, float | None, str], list[float]] = {}
    for one in findings:
        groups.setdefault((one.coarse_noise_k, one.ratios, one.snr, one.method), []).append(one.rmse)
    return [
        {
            "coarse_noise_k": noise,
            "ratios": ratios,
            "snr": snr,
            "method": method,
            "rmse": float(np.mean(values)),
            "by_seed": values,
        }
        for (noise, ratios, snr, method), values in groups.items()
    ]
