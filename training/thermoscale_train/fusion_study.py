"""``thermoscale-train fusion-study``: mode ``adaptive`` against every other method, on synthetic worlds.

Four kinds of world, each with three levels of coarse noise; the targets are dates without a fine scene, so one fit
serves a world, nothing has to be held out and the truth has no noise:

    classes    every land cover changes as one
    smooth     all pixels change alike but for a smooth field, new on every date
    mixed      both, and noise in every pixel of the fine scenes
    shifted    as mixed, seen by a coarse sensor whose grid is off by 4 and 3 fine pixels

``yearly`` stands for real yearly series: nine fine scenes, each with a coarse partner of exactly its cell means. Every
interior date is left out in turn, with a fit of its own. All scores are those of ``evaluate``.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from thermoscale.errors import InvalidInput
from thermoscale.formats import Series
from thermoscale.testing.worlds import World, make_series, make_yearly
from thermoscale_train.config import IustfmSettings, load_iustfm_settings, settings_to_json
from thermoscale_train.data.split import interior_dates, spread_out
from thermoscale_train.evaluate import choose_methods
from thermoscale_train.evaluate_iustfm import Budget
from thermoscale_train.evaluate_target import METHODS, Questions, judge, judge_held_out, model_without
from thermoscale_train.scoring import QUARTILES, Scores, nulls_for_nan
from thermoscale_train.usable import UsableRule

OURS, CEILING = "adaptive", "oracle_alpha"

MIXED: Mapping[str, Any] = {"smooth_change_k": 0.8, "class_weather_k": 1.2, "fine_noise_k": 0.3}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "classes": {"smooth_change_k": 0.0, "class_weather_k": 1.2, "fine_noise_k": 0.0},
    "smooth": {"smooth_change_k": 1.5, "class_change": False, "fine_noise_k": 0.0},
    "mixed": MIXED,
    "shifted": {**MIXED, "shift_px": (4, 3)},
}
YEARLY = "yearly"
WORLDS = (YEARLY, *KINDS)


@dataclass(frozen=True)
class Study:
    """Attributes:
    worlds: of :data:`WORLDS`; ``yearly`` has no noise, the others one world for each ``coarse_noise_k`` and seed.
    n_targets: dates judged in each world. side_px: of a world, fine pixels. n_dates: coarse; a third has a fine one.
    n_years, yearly_cells: fine scenes of ``yearly``, and coarse cells on a side.
    budget: of every fit.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    worlds: tuple[str, ...] = WORLDS
    methods: tuple[str, ...] = METHODS
    coarse_noise_k: tuple[float, ...] = (0.0, 0.5, 1.0)
    n_targets: int = 3
    side_px: int = 120
    n_dates: int = 36
    n_years: int = 9
    yearly_cells: int = 16
    budget: Budget = field(default_factory=Budget)


QUICK = Study(
    coarse_noise_k=(0.5,),
    n_targets=1,
    side_px=60,
    n_dates=18,
    n_years=4,
    yearly_cells=6,
    budget=Budget(dynet_steps=10, ratio_net_steps=10, evaluate_every=10),
)


class Which(NamedTuple):
    """One world."""

    world: str
    coarse_noise_k: float
    seed: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--seeds", type=int, default=3, help="worlds of each kind and noise (default %(default)s)")
    parser.add_argument("--worlds", default="all", help=f"all (default), or some of {','.join(WORLDS)}")
    parser.add_argument(
        "--methods", default="all", help=f"all (default), or some of {','.join(METHODS)}; networks only for iustfm_*"
    )
    parser.add_argument("--processes", type=int, default=2, help="worlds at a time (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny worlds and hardly any training: does it run?")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of tables")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")


def run(args: argparse.Namespace) -> int:
    """Run the study and print it; 0.

    Raises:
        InvalidInput: no seed, or unknown worlds or methods.
    """
    if args.seeds < 1:
        raise InvalidInput(f"--seeds is {args.seeds}, needed 1 or more")
    study = replace(
        QUICK if args.quick else Study(),
        seeds=tuple(range(args.seeds)),
        worlds=_choose_worlds(args.worlds),
        methods=choose_methods(args.methods, METHODS),
    )
    result = fusion_study(study, processes=args.processes, progress=True)
    text = json.dumps(result, indent=2, allow_nan=False)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write((text if args.json else table(result)) + "\n")
    return 0


def fusion_study(
    study: Study, *, settings: IustfmSettings | None = None, processes: int = 1, progress: bool = False
) -> dict[str, Any]:
    """Every world of ``study``; deterministic but for ``seconds``.

    Args:
        settings: of the fits; default the shipped ones.

    Returns:
        ``settings``, and in ``rows`` for each kind of world and noise: ``methods`` with RMSE, coverage and seconds
        (means over the seeds, ``by_seed`` beside them), ``verdict`` on adaptive and its ``spread``.
    """
    settings = settings or load_iustfm_settings()
    worlds = list(_worlds(study))
    parts = _ask(partial(judge_world, study, settings), worlds, processes, progress)
    whole = {
        "schema_version": 1,
        "settings": {**asdict(study), "kinds": KINDS, "training": settings_to_json(settings)},
        "rows": _rows(zip(worlds, parts, strict=True)),
    }
    cleaned: dict[str, Any] = nulls_for_nan(whole)
    return cleaned


def judge_world(study: Study, settings: IustfmSettings, which: Which) -> list[Scores]:
    """The cases of one world, as in the result of ``evaluate``."""
    if which.world == YEARLY:
        series = make_yearly(which.seed, n_years=study.n_years, coarse_shape=(study.yearly_cells,) * 2)
        questions = _questions(study, settings, series, which.seed)
        return [
            case
            for time in interior_dates(series.fine_time)
            for case in judge_held_out(series, time, (time,), questions).cases
        ]
    world = make_world(study, which)
    targets = _targets(world.series, study.n_targets)
    questions = _questions(study, settings, world.series, which.seed)
    library = world.series
    for time in targets:
        library = library.without(time)
    return judge(_with_truth(world, targets), model_without(library, None, questions), targets, questions).cases


def make_world(study: Study, which: Which) -> World:
    """A dated world of one of :data:`KINDS`."""
    side = study.side_px
    return make_series(
        which.seed,
        fine_shape=(side, side),
        n_dates=study.n_dates,
        coarse_noise_k=which.coarse_noise_k,
        **KINDS[which.world],
    )


def goal(world: str, best_other: float) -> float:
    """RMSE that ``adaptive`` may have at most: 10 % below the best other method on series like real ones; in worlds
    whose law some method may know exactly, no more than 2 % or 0.03 K above it, whichever is larger."""
    return 0.9 * best_other if world == YEARLY else best_other + max(0.02 * best_other, 0.03)


def table(result: Mapping[str, Any]) -> str:
    """Verdicts and RMSE for people."""
    rows, lines = result["rows"], []
    if any(row["verdict"] for row in rows):
        lines = [
            f"{'world':9}{'noise':>6}  {'adaptive':>8}  {'best other':20}{'':>7}{'ratio':>7}{'goal':>7}  met  seeds"
        ]
        lines += [_verdict_line(row) for row in rows if row["verdict"]]
        lines += ["", "spread of adaptive: share inside one sigma, and by quartile of spread"]
        lines += [f"{'world':9}{'noise':>6}   all     q1     q2     q3     q4   CRPS, K"]
        lines += [_spread_line(row) for row in rows if row["spread"]]
        lines.append("")
    methods = list(dict.fromkeys(method for row in rows for method in row["methods"]))
    lines.append(f"{'RMSE, K':20}" + "".join(f"{row['world'][:7] + ' ' + _noise(row):>12}" for row in rows))
    for method in methods:
        lines.append(f"{method:20}" + "".join(f"{row['methods'][method]['rmse']:>12.3f}" for row in rows))
    return "\n".join(lines)


def _verdict_line(row: Mapping[str, Any]) -> str:
    verdict = row["verdict"]
    return (
        f"{row['world']:9}{_noise(row):>6}  {verdict['adaptive']:8.3f}  {verdict['best_other']:20}"
        f"{verdict['best_other_rmse']:7.3f}{verdict['ratio']:7.2f}{verdict['goal']:7.3f}  "
        f"{'yes' if verdict['met'] else 'NO ':3}  {verdict['seeds_met']}/{verdict['n_seeds']}"
    )


def _spread_line(row: Mapping[str, Any]) -> str:
    spread = row["spread"]
    shares = [spread[key] for key in ("spread_coverage", *QUARTILES)]
    return (
        f"{row['world']:9}{_noise(row):>6}" + "".join(f"{share:7.3f}" for share in shares) + f"{spread['crps']:10.3f}"
    )


def _noise(row: Mapping[str, Any]) -> str:
    return "-" if row["world"] == YEARLY else f"{row['coarse_noise_k']:g}"


def _choose_worlds(text: str) -> tuple[str, ...]:
    chosen = WORLDS if text == "all" else tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in chosen if name not in WORLDS]
    if unknown:
        raise InvalidInput(f"unknown worlds {unknown}; needed all, or some of {','.join(WORLDS)}")
    return chosen


def _worlds(study: Study) -> Iterator[Which]:
    for world in study.worlds:
        for noise, seed in product((0.0,) if world == YEARLY else study.coarse_noise_k, study.seeds):
            yield Which(world, noise, seed)


def _ask(
    judge_one: Callable[[Which], list[Scores]], worlds: Sequence[Which], processes: int, progress: bool
) -> list[list[Scores]]:
    bar = partial(tqdm, desc="fusion study", total=len(worlds), disable=not progress)
    if processes <= 1:
        return list(bar(map(judge_one, worlds)))
    # Processes are spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(bar(pool.map(judge_one, worlds)))


def _questions(study: Study, settings: IustfmSettings, series: Series, seed: int) -> Questions:
    return Questions(study.methods, study.budget.applied(settings, series), UsableRule(), seed)


def _targets(series: Series, count: int) -> tuple[str, ...]:
    """Dates without a fine scene that have one before and one after them, spread over the series."""
    first, last = min(series.fine_time), max(series.fine_time)
    inside = [time for time in series.coarse_time if first < time < last and time not in series.fine_time]
    return spread_out(inside, count)


def _with_truth(world: World, targets: Sequence[str]) -> Series:
    """The coarse scenes of the world, with the truth of ``targets`` for fine scenes."""
    dates = [world.series.coarse_time.index(time) for time in targets]
    return replace(world.series, fine=world.truth[dates], fine_time=tuple(targets), fine_local_hour=None)


def _rows(parts: Iterable[tuple[Which, list[Scores]]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, float], list[list[Scores]]] = {}
    for which, cases in parts:
        groups.setdefault((which.world, which.coarse_noise_k), []).append(cases)
    return [_row(world, noise, seeds) for (world, noise), seeds in groups.items()]


def _row(world: str, noise: float, seeds: Sequence[Sequence[Scores]]) -> dict[str, Any]:
    """One kind of world and noise; ``seeds``: the cases of each."""
    names = dict.fromkeys(case["method"] for case in seeds[0])
    methods = {}
    for name in names:
        of_method = [[case for case in cases if case["method"] == name] for cases in seeds]
        by_seed = [float(np.mean([case["rmse"] for case in cases])) for cases in of_method]
        means = {key: _mean_of(of_method, key) for key in ("coverage", "seconds")}
        methods[name] = {"rmse": float(np.mean(by_seed)), "by_seed": by_seed, **means}
    row = {"world": world, "coarse_noise_k": noise, "methods": methods, "verdict": _verdict(world, methods)}
    ours = [[case for case in cases if case["method"] == OURS] for cases in seeds]
    keys = ("spread_coverage", *QUARTILES, "crps")
    return {**row, "spread": {key: _mean_of(ours, key) for key in keys} if OURS in names else None}


def _mean_of(seeds: Sequence[Sequence[Scores]], key: str) -> float:
    """Mean over all cases."""
    return float(np.mean([case[key] for cases in seeds for case in cases]))


def _verdict(world: str, methods: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """``adaptive`` against the best of the others, over all seeds and in each of them; None where one is missing."""
    others = [name for name in methods if name not in (OURS, CEILING)]
    if OURS not in methods or not others:
        return None
    ours, best = methods[OURS], min(others, key=lambda name: float(methods[name]["rmse"]))
    best_by_seed = np.min([methods[name]["by_seed"] for name in others], axis=0)
    met = [own <= goal(world, float(rival)) for own, rival in zip(ours["by_seed"], best_by_seed, strict=True)]
    limit, rival = goal(world, methods[best]["rmse"]), methods[best]["rmse"]
    return {
        "adaptive": ours["rmse"],
        "best_other": best,
        "best_other_rmse": rival,
        "ratio": ours["rmse"] / rival if rival > 0.0 else np.nan,
        "goal": limit,
        "met": ours["rmse"] <= limit,
        "seeds_met": sum(met),
        "n_seeds": len(met),
    }
