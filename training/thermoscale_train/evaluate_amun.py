"""Judge downscaling methods on pairs of coarse and fine scenes."""

import time as clock
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from thermoscale.arrays import LST, FloatArray, IntArray
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Pairs
from thermoscale.numerics.grids import regular_index
from thermoscale.service import Service, open_bundle
from thermoscale_train.baselines import DOWNSCALING
from thermoscale_train.data.simulated import simulate_coarse
from thermoscale_train.known_ground import known_ground
from thermoscale_train.scoring import PSNR_RANGES, Scores, bundle_name, result, score_case
from thermoscale_train.usable import Exclusion, UsableRule, split_usable, why_unusable

EXPERIMENTS = ("real", "simulated")
METHODS = (*DOWNSCALING, "amun")

Method = Callable[[int], FloatArray]
"""Row of a scene to its prediction ``[H, W]``."""


def evaluate_amun(
    pairs: Pairs,
    *,
    bundle: Path | None = None,
    methods: Sequence[str] = METHODS,
    experiment: str = "real",
    rule: UsableRule | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score every method on every usable scene; scenes on ground that the bundle was trained on are excluded.

    Args:
        bundle: folder of the AMUN bundle to judge; without it ``amun`` is left out.
        experiment: ``real`` downscales the coarse image as it is; ``simulated`` the cell means of the fine one,
            so that the truth is exact.

    Raises:
        InvalidInput: pairs without truth, or a bundle made for other factors.
        Undetermined: no scene is left to judge.
    """
    rule = rule or UsableRule()
    fine = pairs.fine
    if fine is None:
        raise InvalidInput("pairs have no fine scenes: evaluate needs the truth")
    if experiment == "simulated":
        pairs = simulate_coarse(pairs)
    service = None if bundle is None else open_bundle(bundle)
    if service is not None and service.pipeline != "amun":
        raise InvalidInput(f"bundle {bundle} holds the pipeline {service.pipeline}, needed amun")
    usable, excluded = _usable_scenes(pairs, fine, service, rule)
    chosen = _methods(pairs, service, methods)
    work = [(row, method) for row in usable for method in chosen]
    cases = [
        _case(pairs, fine, row, method, chosen[method]) for row, method in tqdm(work, "evaluate", disable=not progress)
    ]
    settings = {
        "experiment": experiment,
        "bundle": None if service is None else bundle_name(service.manifest),
        "usable": asdict(rule),
        "scale_factor": pairs.scale_factor,
    }
    ids = scene_ids(pairs)
    return result("amun", cases, settings=settings, dates_used=[ids[row] for row in usable], excluded=excluded)


def scene_ids(pairs: Pairs) -> tuple[str, ...]:
    """The scenes' ids, else their times, else their numbers."""
    return pairs.id or pairs.time or tuple(str(row) for row in range(len(pairs)))


def predict_amun(service: Service, pairs: Pairs, row: int) -> FloatArray:
    """LST ``[H, W]`` of one scene by an opened AMUN bundle, with the factors that the bundle knows.

    Raises:
        InvalidInput: the pairs lack one of them.
    """
    lst: FloatArray = service.predict(amun_request(service, pairs, row))["lst"]
    return lst


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
    """The methods asked for, from the row of a scene to its answer; ``amun`` only with a bundle."""

    def bound(name: str) -> Method:
        if name == "amun" and service is not None:
            return lambda row: predict_amun(service, pairs, row)
        return lambda row: DOWNSCALING[name](
            pairs.coarse[row], None if pairs.factors is None else pairs.factors[row], coarse_index_of(pairs)
        )

    return {name: bound(name) for name in names if name != "amun" or service is not None}


def coarse_index_of(pairs: Pairs) -> IntArray:
    """The link between the grids of every scene."""
    return regular_index((pairs.coarse.shape[1], pairs.coarse.shape[2]), pairs.fine_shape)


def _case(pairs: Pairs, fine: FloatArray, row: int, name: str, method: Method) -> Scores:
    start = clock.perf_counter()
    prediction = method(row)
    seconds = clock.perf_counter() - start
    return score_case(
        scene_ids(pairs)[row],
        name,
        prediction,
        fine[row],
        coarse=pairs.coarse[row],
        coarse_index=coarse_index_of(pairs),
        psnr_range=PSNR_RANGES[LST.name],
        seconds=seconds,
    )


def _usable_scenes(
    pairs: Pairs, fine: FloatArray, service: Service | None, rule: UsableRule
) -> tuple[list[int], list[Exclusion]]:
    """Rows to judge, and the other scenes with their reasons."""
    index = coarse_index_of(pairs)
    ids = scene_ids(pairs)
    known = {} if service is None else known_ground(pairs, service.manifest.training)
    verdicts = [
        (ids[row], known.get(row) or why_unusable(pairs.coarse[row], fine[row], index, rule))
        for row in range(len(pairs))
    ]
    _, excluded = split_usable(verdicts)
    rows = [row for row, (_, reason) in enumerate(verdicts) if reason is None]
    if not rows:
        raise Undetermined(f"no scene of {len(ids)} can be judged; the first: {excluded[0].id}: {excluded[0].reason}")
    return rows, excluded
