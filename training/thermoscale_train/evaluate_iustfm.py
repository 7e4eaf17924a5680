"""Judge fusion methods on dates of a series. A held-out date takes part in nothing.

Without a bundle every target is left out of the series in turn, fine and coarse, and HCRs and networks are fitted to
the rest. With a bundle the targets are the interior dates that it has never seen, and its library is everybody's.
"""

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from tqdm import tqdm

from thermoscale.arrays import LST
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series
from thermoscale.service import open_bundle
from thermoscale_train.config import IustfmSettings, TrainingSettings, load_iustfm_settings, settings_to_json
from thermoscale_train.data.split import interior_dates
from thermoscale_train.evaluate_target import (
    METHODS,
    NEED_THE_ORDER,
    Judged,
    Questions,
    judge,
    judge_held_out,
)
from thermoscale_train.evidence import Evidence
from thermoscale_train.fusion_models import model_of_bundle, seen_dates
from thermoscale_train.scoring import bundle_name, result
from thermoscale_train.stations import Located, StationPlace, Tower, compare, locate, read_towers
from thermoscale_train.usable import UsableRule, usable_dates

__all__ = [
    "METHODS",
    "NEED_THE_ORDER",
    "TARGETS",
    "Budget",
    "StationTable",
    "Targets",
    "evaluate_iustfm",
    "evaluate_with_evidence",
]

Targets = Literal["interior", "every", "undated"]
TARGETS: tuple[Targets, ...] = ("interior", "every", "undated")
MIN_DATES = 3

ONE_GUARD = (
    "ustfm, iustfm_* and oracle_alpha share HCRs and these guards, so that none is weakened; METHODS 1.5 has 2 K"
)


@dataclass(frozen=True)
class Budget:
    """At most this much training for each target: a fit is needed for every one of them.

    Attributes:
        dynet_steps, ratio_net_steps: in the rehearsal and once more on the whole library.
        evaluate_every: steps between two scores of the rehearsal.
    """

    dynet_steps: int = 1200
    ratio_net_steps: int = 800
    evaluate_every: int = 400

    def applied(self, settings: IustfmSettings, series: Series) -> IustfmSettings:
        """``settings`` within the budget; DyNet as wide as this place needs, which changes no answer (METHODS 1.3)."""
        dynet, ratio_net = settings.dynet, settings.ratio_net
        n_cells = series.coarse.shape[1] * series.coarse.shape[2]
        network = replace(
            dynet.network,
            m_max=min(dynet.network.m_max, n_cells),
            h_max=max(min(dynet.network.h_max, dynet.region.n_hcr), 1),
        )
        return IustfmSettings(
            replace(dynet, network=network, training=self._shortened(dynet.training, self.dynet_steps)),
            replace(ratio_net, training=self._shortened(ratio_net.training, self.ratio_net_steps)),
            settings.adaptive,
        )

    def _shortened(self, training: TrainingSettings, steps: int) -> TrainingSettings:
        steps = min(training.steps, steps)
        return replace(
            training, steps=steps, evaluate_every=min(steps, max(training.evaluate_every, self.evaluate_every))
        )


class StationTable(NamedTuple):
    """A CSV of tower measurements, and the side of the square of fine pixels that is compared (odd)."""

    path: Path
    place: StationPlace
    side_px: int = 1


class _Turn(NamedTuple):
    """Dates judged by one model: a target left out, or all dates that only the towers know."""

    held_out: str | None
    times: tuple[str, ...]


def evaluate_iustfm(series: Series, **options: Any) -> dict[str, Any]:
    """The result alone of :func:`evaluate_with_evidence`."""
    return evaluate_with_evidence(series, **options)[0]


def evaluate_with_evidence(
    series: Series,
    *,
    bundle: Path | None = None,
    methods: Sequence[str] = METHODS,
    settings: IustfmSettings | None = None,
    budget: Budget | None = None,
    rule: UsableRule | None = None,
    seed: int = 0,
    processes: int = 1,
    targets: Targets = "interior",
    stations: StationTable | None = None,
    drawn: str | None = None,
    progress: bool = False,
) -> tuple[dict[str, Any], list[Evidence]]:
    """Score every method on every target.

    Args:
        bundle: folder of the I-USTFM bundle to judge; without it one is fitted for every target.
        settings: of those fits; default the shipped ones.
        budget: limit of those fits; None for none.
        processes: targets fitted and judged at a time, one thread each; with a bundle there is one.
        targets: ``interior`` dates have a library date on either side; ``every`` usable date is one, the first and
            the last by unordered triples; ``undated`` is for stand-ins of unknown dates: every date is a target and
            stands half-way among the others.
        stations: towers to compare with, also on dates that have no fine scene.
        drawn: method whose evidence is collected for a report.

    Raises:
        InvalidInput: the series is not on the bundle's grids, the stations cannot be used, or ``undated`` with what
            needs dates (a bundle, stations, methods of the nearest date).
        Undetermined: no target is left and no tower either.
    """
    settings, rule = settings or load_iustfm_settings(), rule or UsableRule()
    if targets == "undated":
        _require_no_dates(bundle, stations, methods)
    usable, excluded = usable_dates(series, rule)
    if budget is not None and bundle is None:
        settings = budget.applied(settings, series)
    located = None if stations is None else _located(series, stations)
    questions = Questions(tuple(methods), settings, rule, seed, drawn=drawn, undated=targets == "undated")
    if stations is not None and located is not None:
        questions = replace(questions, pixels=located.pixels, station_px=stations.side_px)
    tower_dates = () if located is None else _tower_dates(series, located.towers)
    facts: dict[str, Any] = {}
    if bundle is None:
        dates, name, library_guards = usable, None, settings.dynet.guards
        turns = _turns(_targets(usable, targets), tower_dates)
        judged = _in_turn(series.select_fine(usable), turns, questions, processes, progress)
        facts = {"training": settings_to_json(settings), "budget": None if budget is None else asdict(budget)}
    else:
        service = open_bundle(bundle)
        model = model_of_bundle(service, bundle, series)
        seen = seen_dates(service, model)
        dates, name = sorted({*usable, *model.library.fine_time}), bundle_name(service.manifest)
        library_guards = model.guards
        unseen = [time for time in _targets(dates, targets) if time in usable and time not in seen]
        turns = _turns(unseen, [time for time in tower_dates if time not in seen])
        judge_turn = partial(_judge_turn, series=series, model=model, questions=questions)
        judged = map(judge_turn, tqdm(turns, "evaluate", disable=not progress))
    if not turns:
        raise Undetermined(
            f"no target: {len(usable)} of {len(series.fine_time)} fine dates are usable {usable}; a target needs two "
            "others (one before and one after it for interior targets), and must be unknown to a bundle that is judged"
            + "".join(f"; {item.id}: {item.reason}" for item in excluded)
            + "".join(f"; tower {item['station']}: {item['reason']}" for item in (located.skipped if located else ()))
        )
    done = list(judged)
    stated = {
        "held_out": "each target in turn" if bundle is None else "every date that the bundle has not seen",
        "targets": [turn.held_out for turn in turns if turn.held_out is not None],
        "targets_are": targets,
        "bundle": name,
        "usable": asdict(rule),
        "guards": {**library_guards.to_json(), "note": ONE_GUARD},
        "training": None,
        "fits": {turn.held_out or "tower dates": part.fit for turn, part in zip(turns, done, strict=True) if part.fit},
        "seed": seed,
        "processes": processes if bundle is None else 1,
        "quantity": series.quantity,
        **facts,
    }
    compared = None
    if stations is not None and located is not None:
        answers = [answer for part in done for answer in part.at_pixels]
        compared = compare(located, answers, source=stations.path.name, side_px=stations.side_px)
    cases = [case for part in done for case in part.cases]
    whole = result("iustfm", cases, settings=stated, dates_used=dates, excluded=excluded, stations=compared)
    return whole, [evidence for part in done for evidence in part.evidence]


def _located(series: Series, stations: StationTable) -> Located:
    if series.quantity != LST.name:
        raise InvalidInput(f"stations hold surface temperatures; the series holds {series.quantity}")
    if stations.side_px < 1 or stations.side_px % 2 == 0:
        raise InvalidInput(f"station window is {stations.side_px} pixels, needed an odd number such as 1 or 3")
    towers = read_towers(stations.path, stations.place)
    return locate(towers, series.fine_georeference, (series.fine.shape[1], series.fine.shape[2]))


def _tower_dates(series: Series, towers: Iterable[Tower]) -> tuple[str, ...]:
    """Dates without a fine scene that a tower has measured."""
    towers = tuple(towers)
    open_dates = sorted(set(series.coarse_time) - set(series.fine_time))
    return tuple(time for time in open_dates if any(tower.at(time) is not None for tower in towers))


def _require_no_dates(bundle: Path | None, stations: StationTable | None, methods: Sequence[str]) -> None:
    if bundle is not None or stations is not None:
        raise InvalidInput("undated targets stand for unknown dates: they take neither a bundle nor stations")
    dated = [method for method in methods if method in NEED_THE_ORDER]
    if dated:
        raise InvalidInput(
            f"methods {dated} take the nearest date, which is unknown for undated targets; leave them out"
        )


def _targets(dates: Sequence[str], which: Targets) -> tuple[str, ...]:
    if which == "interior":
        return interior_dates(dates)
    return tuple(sorted(dates)) if len(dates) >= MIN_DATES else ()


def _turns(targets: Sequence[str], tower_dates: Sequence[str]) -> list[_Turn]:
    """Every target on its own; all dates without a fine scene share one model, since none of them is in it."""
    turns = [_Turn(time, (time,)) for time in targets]
    return [*turns, _Turn(None, tuple(tower_dates))] if tower_dates else turns


def _judge_turn(turn: _Turn, *, series: Series, model: Any, questions: Questions) -> Judged:
    return judge(series, model, turn.times, questions)


def _in_turn(
    series: Series, turns: Sequence[_Turn], questions: Questions, processes: int, progress: bool
) -> Iterator[Judged]:
    """:func:`judge_held_out` for every turn, in order, in this process or in several."""
    held_out, times = [turn.held_out for turn in turns], [turn.times for turn in turns]
    bar = partial(tqdm, desc="evaluate", total=len(turns), disable=not progress)
    ask = partial(judge_held_out, series, questions=questions)
    if processes <= 1 or len(turns) < 2:
        yield from bar(map(ask, held_out, times))
        return
    # Processes are spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(processes, len(turns)), context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from bar(pool.map(ask, held_out, times))
