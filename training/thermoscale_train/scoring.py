"""One case of an evaluation: a prediction against the truth, and how cases become a result (FORMATS, evaluate)."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import numpy as np

from thermoscale.arrays import LST, REFLECTANCE, FloatArray, IntArray
from thermoscale.bundle.manifest import Manifest
from thermoscale.numerics.grids import interpolate
from thermoscale.numerics.metrics import PSNR_RANGE, score, spread_coverage
from thermoscale_train.usable import Exclusion

SCHEMA_VERSION = 1
PSNR_RANGES = {LST.name: PSNR_RANGE, REFLECTANCE.name: 1.0}
"""Peak of PSNR in the unit of each quantity; the 400 K are the I-USTFM paper's."""

QUARTILES = ("spread_coverage_q1", "spread_coverage_q2", "spread_coverage_q3", "spread_coverage_q4")
"""``spread_coverage`` over the quarter of the pixels with the smallest spread, and so on."""

NOT_AVERAGED = ("id", "method", "n_pixels", "n_triples", "undetermined")

Scores = dict[str, Any]


def score_case(
    name: str,
    method: str,
    prediction: FloatArray,
    truth: FloatArray,
    *,
    coarse: FloatArray,
    coarse_index: IntArray,
    psnr_range: float,
    seconds: float,
    spread: FloatArray | None = None,
) -> Scores:
    """All scores of one prediction over the valid truth, its gaps filled by bilinear coarse.

    Args:
        prediction, truth, spread: ``[H, W]``, NaN = no value.
        coarse: ``[h, w]`` of the target.
    """
    fallback = interpolate(coarse, coarse_index, order=1, fill=True)
    scores = score(
        prediction,
        truth,
        fallback=fallback,
        coarse=coarse,
        coarse_index=coarse_index,
        spread=spread,
        psnr_range=psnr_range,
    )
    n_pixels = int(np.isfinite(truth).sum())
    quartiles = quartiles_of_spread(prediction, np.full_like(truth, np.nan) if spread is None else spread, truth)
    return {"id": name, "method": method, "n_pixels": n_pixels, **scores, **quartiles, "seconds": seconds}


def quartiles_of_spread(prediction: FloatArray, spread: FloatArray, truth: FloatArray) -> Scores:
    """Share of the truth within one spread of the prediction, by quartile of spread; NaN where there is no spread."""
    known = np.flatnonzero(np.isfinite(prediction) & np.isfinite(spread) & np.isfinite(truth))
    ascending = known[np.argsort(spread.ravel()[known], kind="stable")]
    quarters = ((image.ravel()[part] for image in (prediction, spread, truth)) for part in np.array_split(ascending, 4))
    found = [spread_coverage(*quarter) if known.size >= 4 else math.nan for quarter in quarters]
    return dict(zip(QUARTILES, found, strict=True))


def result(
    pipeline: str,
    cases: Sequence[Scores],
    *,
    settings: Mapping[str, Any],
    dates_used: Sequence[str],
    excluded: Iterable[Exclusion],
    stations: Mapping[str, Any] | None = None,
    strata: Sequence[Scores] = (),
) -> dict[str, Any]:
    """The JSON object of FORMATS: means over cases, and null for what is not a finite number.

    Args:
        stations: comparison with towers, if there is one.
        strata: scores by kind of ground, if the data tell kinds apart.
    """
    methods = dict.fromkeys(case["method"] for case in cases)
    means = {method: _mean([case for case in cases if case["method"] == method]) for method in methods}
    whole = {
        "schema_version": SCHEMA_VERSION,
        "pipeline": pipeline,
        "settings": dict(settings),
        "dates_used": list(dates_used),
        "excluded": [asdict(exclusion) for exclusion in excluded],
        "methods": means,
        "cases": list(cases),
        **({} if stations is None else {"stations": dict(stations)}),
        **({"strata": list(strata)} if strata else {}),
    }
    cleaned: dict[str, Any] = nulls_for_nan(whole)
    return cleaned


def _mean(cases: Sequence[Scores]) -> Scores:
    """Mean of every score over the cases that have it."""
    keys = [key for key in cases[0] if key not in NOT_AVERAGED]
    means = {}
    for key in keys:
        values = [case[key] for case in cases if math.isfinite(case[key])]
        means[key] = float(np.mean(values)) if values else math.nan
    return means


def nulls_for_nan(value: Any) -> Any:
    """``value`` with None in place of every number JSON does not have, through dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return {key: nulls_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [nulls_for_nan(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def load_schema() -> dict[str, Any]:
    """The JSON Schema of a result, as shipped."""
    text = files("thermoscale_train").joinpath("evaluate.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def bundle_name(manifest: Manifest) -> str:
    """Pipeline, version and the beginning of the digest, such as ``amun 0.1.0 (3f2a...)``."""
    return f"{manifest.pipeline} {manifest.version} ({manifest.digest[:12]})"


def table(evaluation: Mapping[str, Any]) -> str:
    """The means of an evaluation for people, best RMSE first."""
    columns = ("rmse", "mae", "bias", "ubrmse", "cc", "ssim", "edge", "closure", "coverage", "seconds")
    rows = sorted(evaluation["methods"].items(), key=lambda row: row[1]["rmse"])
    lines = [f"{'method':22}" + "".join(f"{column:>11}" for column in columns)]
    for method, scores in rows:
        cells = ("-" if scores[column] is None else f"{scores[column]:.4g}" for column in columns)
        lines.append(f"{method:22}" + "".join(f"{cell:>11}" for cell in cells))
    n_cases = len({case["id"] for case in evaluation["cases"]})
    return "\n".join([*lines, f"means over {n_cases} cases", *lines_of_excluded(evaluation)])


def lines_of_excluded(evaluation: Mapping[str, Any]) -> list[str]:
    """Every scene that took no part, with its reason."""
    excluded = evaluation["excluded"]
    return [f"{len(excluded)} scenes excluded", *(f"  {item['id']}: {item['reason']}" for item in excluded)]
