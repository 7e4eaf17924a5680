"""Judge fusion methods on the interior dates of a series. A held-out date takes part in nothing.

Without a bundle every target is left out of the series in turn, fine and coarse, and HCRs and networks are fitted to
the rest. With a bundle the targets are the interior dates that it has never seen, and its library is everybody's.
"""

import time as clock
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from thermoscale.arrays import FloatArray
from thermoscale.errors import Undetermined
from thermoscale.formats import Series
from thermoscale.service import open_bundle
from thermoscale_train.baselines import FUSION
from thermoscale_train.baselines.oracle_alpha import oracle_alpha
from thermoscale_train.config import IustfmSettings, load_iustfm_settings, settings_to_json
from thermoscale_train.data.split import interior_dates
from thermoscale_train.fusion_models import (
    FusionModel,
    fit_model,
    model_of_bundle,
    place_without_networks,
    seen_dates,
)
from thermoscale_train.scoring import PSNR_RANGES, Scores, bundle_name, result, score_case
from thermoscale_train.usable import UsableRule, usable_dates

MODES = {"iustfm_closed_form": "closed_form", "iustfm_rationet": "rationet"}
METHODS = (*FUSION, *MODES, "oracle_alpha")


def evaluate_iustfm(
    series: Series,
    *,
    bundle: Path | None = None,
    methods: Sequence[str] = METHODS,
    settings: IustfmSettings | None = None,
    rule: UsableRule | None = None,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Score every method on every target.

    Args:
        bundle: folder of the I-USTFM bundle to judge; without it one is fitted for every target.
        settings: of those fits; default the shipped ones.

    Raises:
        InvalidInput: the series is not on the bundle's grids.
        Undetermined: no target is left.
    """
    settings, rule = settings or load_iustfm_settings(), rule or UsableRule()
    usable, excluded = usable_dates(series, rule)
    if bundle is None:
        dates, name = usable, None
        targets: Sequence[str] = interior_dates(usable)
        models = _models_in_turn(series.select_fine(usable), targets, methods, settings, rule, seed)
    else:
        service = open_bundle(bundle)
        model = model_of_bundle(service, bundle, series)
        seen = seen_dates(service, model)
        dates, name = sorted({*usable, *model.library.fine_time}), bundle_name(service.manifest)
        targets = [time for time in interior_dates(dates) if time in usable and time not in seen]
        models = repeat(model, len(targets))
    if not targets:
        raise Undetermined(
            f"no target: {len(usable)} of {len(series.fine_time)} fine dates are usable {usable}; a target needs one "
            "before and one after it, and must be unknown to the bundle that is judged"
        )
    cases: list[Scores] = []
    for time, model in tqdm(zip(targets, models, strict=True), "evaluate", len(targets), disable=not progress):
        cases += [_case(series, model, time, method) for method in methods]
    stated = {
        "held_out": "each target in turn" if bundle is None else "every date that the bundle has not seen",
        "targets": list(targets),
        "bundle": name,
        "usable": asdict(rule),
        "training": settings_to_json(settings) if bundle is None else None,
        "seed": seed,
        "quantity": series.quantity,
    }
    return result("iustfm", cases, settings=stated, dates_used=dates, excluded=excluded)


def _models_in_turn(
    series: Series,
    targets: Sequence[str],
    methods: Sequence[str],
    settings: IustfmSettings,
    rule: UsableRule,
    seed: int,
) -> Iterator[FusionModel]:
    """For every target what can be known without it; networks are fitted only when a method needs them."""
    for time in targets:
        library = series.without(time)
        if MODES.keys() & set(methods):
            yield fit_model(library, settings, rule, seed)
        else:
            yield place_without_networks(library, settings, seed)


def _case(series: Series, model: FusionModel, time: str, method: str) -> Scores:
    coarse, truth = series.coarse_at(time), series.fine_at(time)
    start = clock.perf_counter()
    prediction, spread = _predict(model, coarse, truth, time, method)
    seconds = clock.perf_counter() - start
    return score_case(
        time,
        method,
        prediction,
        truth,
        coarse=coarse,
        coarse_index=series.coarse_index,
        psnr_range=PSNR_RANGES[series.quantity],
        seconds=seconds,
        spread=spread,
    )


def _predict(
    model: FusionModel, coarse: FloatArray, truth: FloatArray, time: str, method: str
) -> tuple[FloatArray, FloatArray | None]:
    """Prediction and 1-sigma spread; only the oracle looks at the truth. Where nothing is determined all is NaN."""
    if method == "oracle_alpha":
        return oracle_alpha(model.library, truth, time, model.labels), None
    if method not in MODES:
        return FUSION[method](model.library, coarse, time), None
    nothing = np.full(truth.shape, np.nan, np.float32)
    if MODES[method] not in model.predict:
        return nothing, None
    try:
        answer = model.predict[MODES[method]](coarse, time)
    except Undetermined:
        return nothing, None
    return answer["lst"], answer["spread_k"]
