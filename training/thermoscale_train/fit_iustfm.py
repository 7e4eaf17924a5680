"""Fit I-USTFM on a series: HCRs, DyNet, RatioNet, the adaptive mode, and the choice of the served mode.

First on all library dates but a few, which choose the number of steps, the mode and the calibration of the spread
(the rehearsal); then on all of them.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale.pipelines.iustfm import IustfmConfig
from thermoscale.pipelines.iustfm_config import ADAPTIVE
from thermoscale_train.checkpoint import IustfmCheckpoint
from thermoscale_train.config import IustfmSettings, settings_to_json
from thermoscale_train.data.dynet_samples import training_triples
from thermoscale_train.data.region import library_step, make_region, slot_facts
from thermoscale_train.data.split import interior_dates, spread_out
from thermoscale_train.fit_adaptive import adaptive_or_none
from thermoscale_train.judge_iustfm import Judge, golden_request
from thermoscale_train.loop import OnScore
from thermoscale_train.networks import dynet_network, ratio_net_network
from thermoscale_train.train_iustfm import Networks, Place, train_both
from thermoscale_train.usable import UsableRule, usable_dates

MIN_DATES = 3


@dataclass(frozen=True)
class _Rehearsal:
    """What the held-out dates decided; without any, everything is at its default.

    Attributes:
        steps: of DyNet and RatioNet.
        choices: of the config: ``mode``, ``published``, ``spread_factors``.
        alpha_sd: DyNet's error, 1 sigma.
    """

    dates: tuple[str, ...]
    steps: tuple[int, int]
    choices: dict[str, Any]
    alpha_sd: float
    metrics: dict[str, Any]


def fit_iustfm(
    series: Series,
    settings: IustfmSettings,
    *,
    seed: int,
    progress: bool = False,
    rule: UsableRule | None = None,
    resume: Path | None = None,
    sky: str = "clear-sky",
) -> IustfmCheckpoint:
    """Train both networks on the usable fine dates of ``series``; dates to be judged later must not be in it.

    With fewer than three usable dates nothing can be learnt: the bundle then pools coarse ratios over each HCR and
    serves the closed form. Deterministic for a seed and a number of threads.

    Args:
        rule: which dates are usable.
        resume: folder that keeps the state of an unfinished run.

    Raises:
        Undetermined: fewer than two usable dates, or no triple passes the guards.
    """
    usable, excluded = usable_dates(series, rule or UsableRule())
    if len(usable) < 2:
        raise Undetermined(f"needed two usable fine dates, got {usable}; excluded: {[vars(e) for e in excluded]}")
    record: dict[str, Any] = {
        "settings": settings_to_json(settings),
        "seed": seed,
        "library_dates": list(usable),
        "excluded": [vars(exclusion) for exclusion in excluded],
    }
    library = series.select_fine(usable)
    place = make_place(library, settings, seed, progress, resume)
    record |= slot_facts(place.region, seed)
    adaptive = adaptive_or_none(library, settings, seed)
    if len(usable) < MIN_DATES:
        return _checkpoint(place, None, adaptive, {**record, "trained": False}, {}, sky)
    rehearsal = _rehearse(place, _held_out(usable, settings))
    networks = train_both(place, "final", rehearsal.steps, alpha_sd=rehearsal.alpha_sd)
    config = replace(networks.config, adaptive=adaptive is not None, **rehearsal.choices)
    networks = replace(networks, config=config)
    record |= {"trained": True, "held_out_for_selection": list(rehearsal.dates)}
    record |= {"steps": list(rehearsal.steps), "alpha_sd": rehearsal.alpha_sd}
    return _checkpoint(place, networks, adaptive, record, rehearsal.metrics, sky)


def rehearse_iustfm(
    series: Series,
    settings: IustfmSettings,
    *,
    seed: int,
    resume: Path | None = None,
    on_score: OnScore | None = None,
) -> dict[str, Any]:
    """The rehearsal of :func:`fit_iustfm` alone: what tuning compares.

    Args:
        resume: folder that keeps the state of an unfinished run.
        on_score: told the held-out RMSE at every evaluation of either network; may end its run.

    Returns:
        ``dates`` held out inside the library, ``rmse_bilinear`` and one ``rmse_<mode>`` each, unit of the quantity.

    Raises:
        Undetermined: too few usable dates to hold one out.
    """
    usable, excluded = usable_dates(series, UsableRule())
    place = make_place(series.select_fine(usable), settings, seed, resume=resume)
    metrics = _rehearse(replace(place, on_score=on_score), _held_out(usable, settings)).metrics
    if not metrics:
        raise Undetermined(
            f"no library date can be held out: needed more than {MIN_DATES} usable dates, "
            f"got {usable}; excluded: {[vars(exclusion) for exclusion in excluded]}"
        )
    held_out: dict[str, Any] = metrics["held_out"]
    return held_out


def notes_on(checkpoint: IustfmCheckpoint) -> list[str]:
    """What too few dates left undone, in words."""
    n_dates = len(checkpoint.region.library_time)
    if checkpoint.dynet is None:
        return [
            f"untrained: {n_dates} usable dates, training needs {MIN_DATES}; coarse ratios are pooled over each HCR, "
            "the closed form is served, its spread is not calibrated"
        ]
    if not checkpoint.config.spread_factors:
        return [
            f"{n_dates} usable dates: none could be held out, so mode {checkpoint.config.mode} was not chosen on any "
            "and the spread is not calibrated"
        ]
    return []


def make_place(
    library: Series, settings: IustfmSettings, seed: int, progress: bool = False, resume: Path | None = None
) -> Place:
    """Clusters, slots and the config of a bundle without networks."""
    dynet = settings.dynet
    region = make_region(library, dynet.region, dynet.network.m_max, seed, dynet.network.h_max)
    n_hcr = int(region.labels.max()) + 1
    if n_hcr > dynet.network.h_max:
        raise InvalidInput(f"n_hcr {n_hcr} is more than h_max {dynet.network.h_max}")
    config = IustfmConfig(
        n_hcr=n_hcr,
        h_max=dynet.network.h_max,
        m_max=dynet.network.m_max,
        guards=dynet.guards,
        mode="closed_form",
        range_distance=(0.0, 0.0),
        range_a2_negative=None,
        range_a2_positive=None,
        library_step=library_step(library.quantity),
        quantity=library.quantity,
    )
    return Place(library, region, config, settings, seed, progress, resume)


def _held_out(usable: list[str], settings: IustfmSettings) -> tuple[str, ...]:
    """Interior dates for the rehearsal, as many as leave three dates to train with."""
    count = min(settings.ratio_net.selection.held_out_dates, len(usable) - MIN_DATES)
    return spread_out(interior_dates(usable), count)


def _rehearse(place: Place, held: tuple[str, ...]) -> _Rehearsal:
    """Train without ``held`` and judge on it; on fewer dates where the others alone would have no triple left.

    With too few dates for that, everything stays at its default.
    """
    training = (place.settings.dynet.training.steps, place.settings.ratio_net.training.steps)
    if not held:
        return _Rehearsal((), training, {}, 0.0, {})
    inner = place.series
    for time in held:
        inner = inner.without(time)
    stage = make_place(inner, place.settings, place.seed, place.progress, place.resume)
    stage = replace(stage, on_score=place.on_score)
    if not training_triples(stage.library, stage.guards, place.settings.dynet.samples.order):
        return _rehearse(place, held[1:])
    judge = Judge(place.series, stage.region, held)
    networks = train_both(stage, "rehearsal", training, judge=judge)
    verdicts = judge.verdicts(networks.config, dynet_network(networks.dynet), ratio_net_network(networks.ratio_net))
    rmse = {name: verdict.rmse for name, verdict in verdicts.items()}
    published = min(rmse, key=rmse.__getitem__)
    adaptive = adaptive_or_none(inner, place.settings, place.seed)
    if adaptive is not None:
        rmse[ADAPTIVE] = judge.adaptive_rmse(stage.config, adaptive)
    factors = {name: verdict.spread_factor for name, verdict in verdicts.items() if verdict.spread_factor is not None}
    metrics = {"held_out": {"dates": list(held), "rmse_bilinear": judge.bilinear_rmse()}}
    metrics["held_out"] |= {f"rmse_{name}": value for name, value in rmse.items()}
    return _Rehearsal(
        dates=held,
        steps=(networks.dynet_outcome.best_step, networks.ratio_net_outcome.best_step),
        choices={"mode": min(rmse, key=rmse.__getitem__), "published": published, "spread_factors": factors},
        alpha_sd=networks.alpha_sd,
        metrics=metrics,
    )


def _checkpoint(
    place: Place,
    networks: Networks | None,
    adaptive: AdaptiveState | None,
    record: dict[str, Any],
    metrics: dict[str, Any],
    sky: str,
) -> IustfmCheckpoint:
    config = replace(place.config, adaptive=adaptive is not None) if networks is None else networks.config
    return IustfmCheckpoint(
        config=config,
        region=place.region,
        dynet=None if networks is None else (networks.dynet.config, networks.dynet_outcome.state),
        ratio_net=None if networks is None else (networks.ratio_net.config, networks.ratio_net_outcome.state),
        golden=golden_request(place.series, config, place.region),
        georeference=_georeference(place.series),
        training=record,
        metrics=metrics,
        sky=sky,
        adaptive=adaptive,
    )


def _georeference(series: Series) -> dict[str, Any] | None:
    fine, coarse = series.fine_georeference, series.coarse_georeference
    if fine is None or coarse is None:
        return None
    return {
        "fine_crs": fine.crs,
        "fine_transform": list(fine.transform),
        "coarse_crs": coarse.crs,
        "coarse_transform": list(coarse.transform),
    }
