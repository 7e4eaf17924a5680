"""What a report shows of one target beyond its scores: images, single triples, and what coarse noise costs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import QUANTITIES, FloatArray, IntArray
from thermoscale.errors import ThermoscaleError
from thermoscale.formats import Series
from thermoscale.numerics.change_ratio import baseline_k
from thermoscale.numerics.grids import interpolate
from thermoscale.numerics.metrics import rmse
from thermoscale.numerics.triples import enumerate_triples
from thermoscale_train.fusion_models import FusionModel

NOISE_K = (0.0, 0.5, 1.0, 2.0)
NOISE_RIVALS = ("bilinear", "time_interp", "fdc_median_residual")

Predict = Callable[[FusionModel, FloatArray, FloatArray | None, str, str], Any]


class TripleScore(NamedTuple):
    """One triple alone, closed form: its baseline and its RMSE over the pixels it answers (unit of the series)."""

    baseline: float
    rmse: float
    coverage: float


class Evidence(NamedTuple):
    """Of one target and one method; images in the unit of the series, NaN = none.

    Attributes:
        prediction: ``[H, W]`` with its gaps.
        labels: HCRs ``[H, W]``.
        noise: method -> RMSE with noise of :data:`NOISE_K` added to the target's coarse image.
    """

    time: str
    method: str
    coarse: FloatArray
    prediction: FloatArray
    truth: FloatArray
    labels: IntArray
    triples: tuple[TripleScore, ...]
    noise: dict[str, tuple[float, ...]]


def collect_evidence(
    series: Series, model: FusionModel, time: str, method: str, prediction: FloatArray, predict: Predict
) -> Evidence:
    """Everything the report draws of ``time``.

    Args:
        prediction: of ``method``.
        predict: asks any method.
    """
    coarse, truth = series.coarse_at(time), series.fine_at(time)
    noise = {rival: _noise_sweep(series, model, time, rival, predict) for rival in (method, *NOISE_RIVALS)}
    triples = _single_triples(model, coarse, truth, time)
    return Evidence(time, method, coarse, prediction, truth, model.labels, triples, noise)


def _single_triples(model: FusionModel, coarse: FloatArray, truth: FloatArray, time: str) -> tuple[TripleScore, ...]:
    """Every ordered triple on its own, whatever its baseline; without the ones that answer nothing."""
    if "closed_form" not in model.predict:
        return ()
    scores = []
    for triple in enumerate_triples(model.library.fine_time, time):
        pair = np.array([[triple.pre, triple.post]])
        try:
            lst = model.predict["closed_form"](coarse, time, triples=pair, min_baseline_k=0.0)["lst"]
        except ThermoscaleError:  # a triple that cannot be asked alone has no point in the plot
            continue
        answered = np.isfinite(lst) & np.isfinite(truth)
        if answered.any():
            baseline = baseline_k(model.library.fine_at(triple.pre), model.library.fine_at(triple.post))
            coverage = float(answered.sum() / np.isfinite(truth).sum())
            scores.append(TripleScore(baseline, rmse(lst[answered], truth[answered]), coverage))
    return tuple(scores)


def _noise_sweep(series: Series, model: FusionModel, time: str, method: str, predict: Predict) -> tuple[float, ...]:
    """RMSE for every level of noise; the same noise for every method. Gaps are filled with the noisy bilinear."""
    coarse, truth = series.coarse_at(time), series.fine_at(time)
    unit = np.random.default_rng(0).standard_normal(coarse.shape).astype(np.float32)
    scores = []
    for level in NOISE_K:
        noisy = coarse + np.float32(level * QUANTITIES[series.quantity].kelvin) * unit
        lst = predict(model, noisy, truth, time, method).lst
        filled = np.where(np.isnan(lst), interpolate(noisy, series.coarse_index, order=1, fill=True), lst)
        scores.append(rmse(filled, truth))
    return tuple(scores)
