"""One target of an evaluation: fit without it, ask every method, score. Runs in a process of its own."""

import time as clock
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import QUANTITIES, FloatArray
from thermoscale.errors import Undetermined
from thermoscale.formats import Series
from thermoscale.numerics.change_ratio import baseline_k
from thermoscale.numerics.triples import TripleOrder, enumerate_triples
from thermoscale_train.baselines import FUSION
from thermoscale_train.baselines.oracle_alpha import oracle_alpha
from thermoscale_train.baselines.ustfm import UstfmConstants, ustfm
from thermoscale_train.config import IustfmSettings
from thermoscale_train.evidence import Evidence, collect_evidence
from thermoscale_train.fusion_models import FusionModel, fit_model, fit_untrained, place_alone
from thermoscale_train.scoring import PSNR_RANGES, Scores, score_case
from thermoscale_train.stations import Pixel, value_at
from thermoscale_train.usable import UsableRule

MODES = {"iustfm_closed_form": "closed_form", "iustfm_rationet": "rationet", "adaptive": "adaptive"}
NETWORK_MODES = ("iustfm_closed_form", "iustfm_rationet")
METHODS = (*FUSION, *MODES, "oracle_alpha")
NEED_THE_ORDER = ("persistence", "fdc_nearest", "fitfc")
"""Take the nearest date, which nobody knows where the order of the dates is unknown."""


@dataclass(frozen=True)
class Questions:
    """What every target is asked.

    Attributes:
        pixels: towers' pixels, where predictions are read, ``station_px`` square.
        drawn: method whose evidence a report needs; None for no report.
        undated: the order of the dates is unknown, see :func:`dated_half_way`.
    """

    methods: tuple[str, ...]
    settings: IustfmSettings
    rule: UsableRule
    seed: int
    pixels: tuple[Pixel, ...] = ()
    station_px: int = 1
    drawn: str | None = None
    undated: bool = False


class Prediction(NamedTuple):
    """``lst`` and 1-sigma ``spread`` ``[H, W]``, NaN where nothing is determined; triples behind it, if it has any.

    ``undetermined`` says why there is nothing at all.
    """

    lst: FloatArray
    spread: FloatArray | None = None
    n_triples: int | None = None
    undetermined: str | None = None


class AtPixels(NamedTuple):
    """Predictions of one method at the towers' pixels, in the order of the pixels."""

    time: str
    method: str
    values: tuple[float, ...]


class Judged(NamedTuple):
    """All that is known about the targets of one model."""

    times: tuple[str, ...]
    cases: list[Scores]
    at_pixels: list[AtPixels]
    evidence: list[Evidence]
    fit: dict[str, Any]


def judge_held_out(series: Series, held_out: str | None, times: tuple[str, ...], questions: Questions) -> Judged:
    """Fit to everything but ``held_out``, then :func:`judge`.

    Args:
        held_out: the fine date among ``times``; None where none of ``times`` has a fine scene.
    """
    if questions.undated and held_out is not None:
        half_way = dated_half_way(series, held_out)
        middle = sorted(half_way.fine_time)[len(half_way.fine_time) // 2]
        judged = judge_held_out(half_way, middle, (middle,), replace(questions, undated=False))
        cases = [{**case, "id": held_out} for case in judged.cases]
        evidence = [one._replace(time=held_out) for one in judged.evidence]
        return judged._replace(times=times, cases=cases, evidence=evidence)
    start = clock.perf_counter()
    model = model_without(series, held_out, questions)
    seconds = clock.perf_counter() - start
    judged = judge(series, model, times, questions)
    return judged._replace(fit={**model.facts, "seconds": round(seconds, 2)})


def model_without(series: Series, held_out: str | None, questions: Questions) -> FusionModel:
    """What can be known without ``held_out``; networks are fitted only when a method needs them."""
    library = series if held_out is None else series.without(held_out)
    if set(NETWORK_MODES) & set(questions.methods):
        return fit_model(library, questions.settings, questions.rule, questions.seed)
    if "adaptive" in questions.methods:
        return fit_untrained(library, questions.settings, questions.rule, questions.seed)
    return place_alone(library, questions.settings, questions.seed)


def dated_half_way(series: Series, target: str) -> Series:
    """The fine dates of ``series`` with their times exchanged so that ``target`` has the one in the middle.

    Stand-ins for unknown dates must not tell which library date is nearer: with evenly spaced times and two library
    dates both are equally far away.
    """
    times = sorted(series.fine_time)
    dates = [time for time in times if time != target]
    dates.insert(len(times) // 2, target)
    arrays = {
        "fine": np.stack([series.fine_at(time) for time in dates]),
        "fine_time": times,
        "coarse": np.stack([series.coarse_at(time) for time in dates]),
        "coarse_time": times,
        "coarse_index": series.coarse_index,
        "quantity": series.quantity,
    }
    return Series.from_arrays(arrays)


def judge(series: Series, model: FusionModel, times: Sequence[str], questions: Questions) -> Judged:
    """Ask every method for every date, and score where there is a truth."""
    judged = Judged(tuple(times), [], [], [], {})
    for time in times:
        truth = series.fine_at(time) if time in series.fine_time else None
        for method in questions.methods:
            if truth is None and method == "oracle_alpha":
                continue
            start = clock.perf_counter()
            answer = predict(model, series.coarse_at(time), truth, time, method)
            seconds = clock.perf_counter() - start
            values = tuple(value_at(answer.lst, pixel, questions.station_px) for pixel in questions.pixels)
            judged.at_pixels.append(AtPixels(time, method, values))
            if truth is None:
                continue
            judged.cases.append(_score(series, time, method, answer, truth, seconds))
            if method == questions.drawn:
                judged.evidence.append(collect_evidence(series, model, time, method, answer.lst, predict))
    return judged


def predict(model: FusionModel, coarse: FloatArray, truth: FloatArray | None, time: str, method: str) -> Prediction:
    """The answer of ``method``; only the oracle looks at the truth. Where nothing is determined all is NaN."""
    try:
        return _answer(model, coarse, truth, time, method)
    except Undetermined as error:
        return Prediction(np.full(model.labels.shape, np.nan, np.float32), undetermined=str(error))


def _answer(model: FusionModel, coarse: FloatArray, truth: FloatArray | None, time: str, method: str) -> Prediction:
    if method in MODES:
        if MODES[method] not in model.predict:
            raise Undetermined(f"the library of {time} does not determine {method}")
        answer = model.predict[MODES[method]](coarse, time, order=order_around(model.library, time))
        n_triples = None if method == "adaptive" else len(answer["dates_used"])
        return Prediction(answer["lst"], answer["spread_k"], n_triples)
    if method == "oracle_alpha" and truth is not None:
        order = order_around(model.library, time)
        lst = oracle_alpha(model.library, truth, time, model.labels, guards=model.guards, order=order)
        return Prediction(lst, None, n_triples_within(model, time))
    if method == "ustfm":
        constants = UstfmConstants(guards=model.guards)
        order = order_around(model.library, time)
        lst = ustfm(model.library, coarse, time, order=order, labels=model.labels, constants=constants)
        return Prediction(lst, None, n_triples_within(model, time))
    return Prediction(FUSION[method](model.library, coarse, time))


def order_around(library: Series, time: str) -> TripleOrder:
    """``ordered`` as in the papers; ``unordered`` where all library dates lie on one side of ``time``."""
    return "ordered" if enumerate_triples(library.fine_time, time) else "unordered"


def n_triples_within(model: FusionModel, time: str) -> int:
    """Triples around ``time`` whose baseline passes the guard."""
    library, guards = model.library, model.guards.scaled(QUANTITIES[model.library.quantity])
    triples = enumerate_triples(library.fine_time, time, order_around(library, time))
    baselines = [baseline_k(library.fine_at(triple.pre), library.fine_at(triple.post)) for triple in triples]
    return sum(baseline >= guards.min_baseline_k for baseline in baselines)


def _score(series: Series, time: str, method: str, answer: Prediction, truth: FloatArray, seconds: float) -> Scores:
    scores = score_case(
        time,
        method,
        answer.lst,
        truth,
        coarse=series.coarse_at(time),
        coarse_index=series.coarse_index,
        psnr_range=PSNR_RANGES[series.quantity],
        seconds=seconds,
        spread=answer.spread,
    )
    reason = {} if answer.undetermined is None else {"undetermined": answer.undetermined}
    return {**scores, "n_triples": answer.n_triples, **reason}
