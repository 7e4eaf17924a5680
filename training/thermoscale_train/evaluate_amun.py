"""Judge downscaling methods on pairs of coarse and fine scenes.

With folds, whatever has to be fitted is fitted once for every fold, to scenes on other ground, and every scene is
judged once. With a bundle, the scenes are those on ground that it was not trained on.
"""

import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from thermoscale.arrays import LST, FloatArray
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Pairs
from thermoscale.service import Service, open_bundle
from thermoscale_train.baselines import DOWNSCALING
from thermoscale_train.baselines.tsharp import tsharp
from thermoscale_train.data.folds import Folds, turns
from thermoscale_train.data.simulated import simulate_coarse
from thermoscale_train.downscaling_models import (
    FITTED,
    Downscaled,
    DownscalingSettings,
    Method,
    coarse_index_of,
    fit_methods,
)
from thermoscale_train.known_ground import known_ground
from thermoscale_train.scoring import PSNR_RANGES, Scores, bundle_name, result, score_case
from thermoscale_train.strata import Strata
from thermoscale_train.usable import Exclusion, UsableRule, split_usable, why_unusable

EXPERIMENTS = ("real", "simulated")
TSHARP, NDVI = "tsharp", "ndvi"
METHODS = (*DOWNSCALING, TSHARP, *FITTED)


def evaluate_amun(
    pairs: Pairs,
    *,
    bundle: Path | None = None,
    folds: Folds | None = None,
    fitted: DownscalingSettings | None = None,
    seed: int = 0,
    methods: Sequence[str] = METHODS,
    experiment: str = "real",
    rule: UsableRule | None = None,
    progress: bool = False,
    work: Path | None = None,
) -> dict[str, Any]:
    """Score every method on every usable scene.

    Args:
        bundle: folder of the AMUN bundle to judge; scenes on ground that it was trained on are excluded.
        folds: rows of ``pairs`` by fold; forests and AMUN are fitted with ``fitted`` and ``seed`` for each.
            With neither, only methods that need no fit take part.
        experiment: ``real`` downscales the coarse image as it is; ``simulated`` the cell means of the fine one,
            so that the truth is exact.

        work: folder for the states of AMUN's fits, from which the same evaluation goes on.

    Raises:
        InvalidInput: pairs without truth, a bundle made for other factors, or bundle and folds together.
        Undetermined: no scene is left to judge.
    """
    rule = rule or UsableRule()
    if pairs.fine is None:
        raise InvalidInput("pairs have no fine scenes: evaluate needs the truth")
    if bundle is not None and folds is not None:
        raise InvalidInput("evaluate takes a bundle, which is judged, or folds, for which all is fitted; got both")
    if experiment == "simulated":
        pairs = simulate_coarse(pairs)
    service = None if bundle is None else open_bundle(bundle)
    if service is not None and service.pipeline != "amun":
        raise InvalidInput(f"bundle {bundle} holds the pipeline {service.pipeline}, needed amun")
    usable, excluded = _usable_scenes(pairs, service, rule)
    strata = Strata(pairs)
    chosen = _methods(pairs, service, methods)
    asked = [(row, method) for row in usable for method in chosen]
    cases = [
        _case(pairs, row, name, chosen[name], strata) for row, name in tqdm(asked, "evaluate", disable=not progress)
    ]
    ids = scene_ids(pairs)
    settings: dict[str, Any] = {
        "experiment": experiment,
        "bundle": None if service is None else bundle_name(service.manifest),
        "usable": asdict(rule),
        "scale_factor": pairs.scale_factor,
    }
    if folds is not None:
        fitted = fitted or DownscalingSettings.shipped()
        kept = {name: tuple(row for row in rows if row in usable) for name, rows in folds.items()}
        cases += _by_folds(pairs, kept, methods, fitted, seed, strata, progress, work)
        named = {name: [ids[row] for row in rows] for name, rows in kept.items()}
        settings |= {"folds": named, "fitted": asdict(fitted), "seed": seed}
    return result(
        "amun",
        cases,
        settings=settings,
        dates_used=[ids[row] for row in usable],
        excluded=excluded,
        strata=strata.table(),
    )


def _by_folds(
    pairs: Pairs,
    folds: Folds,
    methods: Sequence[str],
    fitted: DownscalingSettings,
    seed: int,
    strata: Strata,
    progress: bool,
    work: Path | None,
) -> Iterator[Scores]:
    """Cases of the methods that have to be fitted."""
    for turn in tqdm(turns(pairs, folds), "folds", disable=not progress):
        for name, method in fit_methods(pairs, turn, methods, fitted, seed=seed, progress=progress, work=work).items():
            for row in turn.test:
                yield _case(pairs, row, name, method, strata)


def scene_ids(pairs: Pairs) -> tuple[str, ...]:
    """The scenes' ids, else their times, else their numbers."""
    return pairs.id or pairs.time or tuple(str(row) for row in range(len(pairs)))


def predict_amun(service: Service, pairs: Pairs, row: int) -> Downscaled:
    """One scene by an opened AMUN bundle, with the factors that the bundle knows.

    Raises:
        InvalidInput: the pairs lack one of them.
    """
    reply = service.predict(amun_request(service, pairs, row))
    return Downscaled(reply["lst"], reply["spread_k"])


def amun_request(service: Service, pairs: Pairs, row: int) -> dict[str, Any]:
    """One scene as a request; factors are chosen and ordered by name."""
    wanted, given = service.manifest.config["factor_names"], pairs.factor_names or ()
    if not wanted or pairs.factors is None:
        return {"coarse": pairs.coarse[row]}
    missing = sorted(set(wanted) - set(given))
    if missing:
        raise InvalidInput(f"pairs have the factors {list(given)}, the bundle needs {list(wanted)}: {missing} missing")
    return {"coarse": pairs.coarse[row], "factors": pairs.factors[row][[given.index(name) for name in wanted]]}


def _methods(pairs: Pairs, service: Service | None, names: Sequence[str]) -> dict[str, Method]:
    """Those of ``names`` that need no fit, from the row of a scene to its answer; ``amun`` only with a bundle."""
    found = {name: _plain(pairs, name) for name in names if name in DOWNSCALING}
    if TSHARP in names and NDVI in (pairs.factor_names or ()):
        found[TSHARP] = _tsharp(pairs)
    if "amun" in names and service is not None:
        found["amun"] = lambda row: predict_amun(service, pairs, row)
    return found


def _plain(pairs: Pairs, name: str) -> Method:
    method, index = DOWNSCALING[name], coarse_index_of(pairs)
    return lambda row: Downscaled(method(pairs.coarse[row], None, index))


def _tsharp(pairs: Pairs) -> Method:
    index, factors = coarse_index_of(pairs), pairs.factors
    assert factors is not None
    channel = (pairs.factor_names or ()).index(NDVI)
    return lambda row: Downscaled(tsharp(pairs.coarse[row], factors[row, channel], index))


def _case(pairs: Pairs, row: int, name: str, method: Method, strata: Strata) -> Scores:
    start = clock.perf_counter()
    try:
        prediction, spread = method(row)
    except Undetermined:
        prediction, spread = np.full(pairs.fine_shape, np.nan, np.float32), None
    seconds = clock.perf_counter() - start
    truth = _truth(pairs)[row]
    strata.add(row, name, prediction, truth)
    return score_case(
        scene_ids(pairs)[row],
        name,
        prediction,
        truth,
        coarse=pairs.coarse[row],
        coarse_index=coarse_index_of(pairs),
        psnr_range=PSNR_RANGES[LST.name],
        seconds=seconds,
        spread=spread,
    )


def _truth(pairs: Pairs) -> FloatArray:
    assert pairs.fine is not None
    return pairs.fine


def _usable_scenes(pairs: Pairs, service: Service | None, rule: UsableRule) -> tuple[list[int], list[Exclusion]]:
    """Rows to judge, and the other scenes with their reasons."""
    index, fine = coarse_index_of(pairs), _truth(pairs)
    ids = scene_ids(pairs)
    known: Mapping[int, str] = {} if service is None else known_ground(pairs, service.manifest.training)
    verdicts = [
        (ids[row], known.get(row) or why_unusable(pairs.coarse[row], fine[row], index, rule))
        for row in range(len(pairs))
    ]
    _, excluded = split_usable(verdicts)
    rows = [row for row, (_, reason) in enumerate(verdicts) if reason is None]
    if not rows:
        raise Undetermined(f"no scene of {len(ids)} can be judged; the first: {excluded[0].id}: {excluded[0].reason}")
    return rows, excluded
