"""Coarse scenes before ratios are taken: may they be trusted, and how do they become comparable with the fine ones?

A library date whose coarse scene does not show what its fine scene shows is left out. Every other date is freed of its
own bias, the target of the bias carried over from them. Only dates of the request's triples take part, so that
``past_only`` stays blind for what came later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from thermoscale.arrays import FloatArray, Quantity
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.numerics.bias import Bias, BiasRule, CarriedBias, apply_bias, carry_over, contradicts
from thermoscale.numerics.scene_check import Finding, SceneRule, check_scene
from thermoscale.numerics.triples import Triple
from thermoscale.pipelines.library import Library
from thermoscale.pipelines.region import Region
from thermoscale.times import day_of

Suspects = Literal["warn", "refuse"]
SUSPECTS: tuple[Suspects, ...] = ("warn", "refuse")

_NO_BIAS = CarriedBias(Bias(0.0, 1.0, np.nan, np.nan, np.nan, 0, np.nan), np.nan, 0)


@dataclass(frozen=True, eq=False)
class CoarseScenes:
    """What ratios are taken from, and what to tell the caller about it.

    Attributes:
        target: ``[h, w]``, freed of the bias carried over.
        library: ``[h, w]`` by time, each freed of its own bias.
        facts: for the reply: ``bias_applied`` (offset added to the target), ``bias``, ``findings``, ``warnings``.
    """

    target: FloatArray
    library: Mapping[str, FloatArray]
    facts: dict[str, Any]


def require_suspects(value: str) -> Suspects:
    """What to do about suspect scenes.

    Raises:
        InvalidInput: neither ``warn`` nor ``refuse``.
    """
    for known in SUSPECTS:
        if value == known:
            return known
    raise InvalidInput(f"suspects is {value!r:.40}, needed one of {list(SUSPECTS)}")


def trusted_triples(
    library: Library, region: Region, quantity: Quantity, triples: Sequence[Triple], suspects: Suspects
) -> tuple[list[Triple], list[str]]:
    """The triples whose two library dates may be trusted, and a warning for each date that may not.

    Raises:
        Undetermined: no triple is left, or ``suspects`` is ``refuse`` and a date may not be trusted.
    """
    rule = BiasRule().scaled(quantity)
    biases = {time: library.bias_of(time, region.coarse_index, rule) for time in _times(triples)}
    warnings = [
        f"library date {time} is left out: its coarse scene does not show what its fine scene shows "
        f"(correlation {bias.correlation:.2f}, needed {rule.min_correlation:g})"
        for time, bias in biases.items()
        if contradicts(bias, rule)
    ]
    trusted = [t for t in triples if not any(contradicts(biases[time], rule) for time in (t.pre, t.post))]
    if warnings and (suspects == "refuse" or not trusted):
        raise Undetermined("; ".join(warnings))
    return trusted, warnings


def comparable_scenes(
    library: Library,
    region: Region,
    quantity: Quantity,
    target: FloatArray,
    triples: list[Triple],
    warnings: list[str],
    suspects: Suspects,
) -> CoarseScenes:
    """Coarse scenes on the fine sensor's scale; the target is checked against the library before.

    Args:
        triples, warnings: from :func:`trusted_triples`, with one or more triples.

    Raises:
        Undetermined: ``suspects`` is ``refuse`` and the target's scene fails a question.
    """
    times, rule = _times(triples), BiasRule().scaled(quantity)
    raw = {time: library.coarse_at(time) for time in times}
    findings = _check_target(target, triples[0].target, raw, quantity)
    failed = [
        f"coarse scene of {triples[0].target}, {finding.name}: {finding.words}"
        for finding in findings
        if finding.passed is False
    ]
    if failed and suspects == "refuse":
        raise Undetermined("; ".join(failed))
    freed, carried, biases = free_of_bias(library, region, rule, times)
    facts = {
        "bias_applied": carried.bias.offset_k,
        "bias": _bias_facts(carried, biases),
        "findings": [_without_nan(asdict(finding)) for finding in findings],
        "warnings": [*warnings, *failed],
    }
    return CoarseScenes(apply_bias(target, carried.bias), freed, facts)


def free_of_bias(
    library: Library, region: Region, rule: BiasRule, times: Sequence[str]
) -> tuple[dict[str, FloatArray], CarriedBias, dict[str, Bias]]:
    """The coarse scenes of ``times``, each freed of its own bias, or of the one carried over if it has none.

    Training takes its ratios from the same scenes. ``rule`` is in the unit of the library.

    Returns:
        ``[h, w]`` by time; what a scene of another date would be freed of; the bias of each of ``times``.
    """
    biases = {time: library.bias_of(time, region.coarse_index, rule) for time in times}
    carried = _NO_BIAS if all(np.isnan(bias.offset_k) for bias in biases.values()) else carry_over([*biases.values()])
    own = {time: carried.bias if np.isnan(bias.offset_k) else bias for time, bias in biases.items()}
    return {time: apply_bias(library.coarse_at(time), own[time]) for time in times}, carried, biases


def _times(triples: Sequence[Triple]) -> list[str]:
    return sorted({time for triple in triples for time in (triple.pre, triple.post)})


def _check_target(
    target: FloatArray, time: str, scenes: Mapping[str, FloatArray], quantity: Quantity
) -> tuple[Finding, ...]:
    days = [day_of(other) for other in scenes]
    return check_scene(target, day_of(time), np.stack(list(scenes.values())), days, SceneRule().scaled(quantity))


def _bias_facts(carried: CarriedBias, biases: Mapping[str, Bias]) -> dict[str, Any]:
    """Of the target, and of every library date in use."""
    own = {"offset_k": carried.bias.offset_k, "scale": carried.bias.scale, "spread_k": carried.spread_k}
    dates = {time: _without_nan(asdict(bias)) for time, bias in biases.items()}
    return {**_without_nan(own), "n_dates": carried.n_dates, "library": dates}


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()}
