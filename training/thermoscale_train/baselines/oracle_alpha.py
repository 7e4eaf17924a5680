"""The ceiling of one change ratio per HCR: the true ratios, from the truth itself. Not a method: a bound on them."""

import numpy as np

from thermoscale.arrays import QUANTITIES, FloatArray, IntArray
from thermoscale.formats import Series
from thermoscale.numerics.change_ratio import (
    Guards,
    baseline_k,
    closed_form,
    scene_range,
    usable_pixels,
    within_range,
)
from thermoscale.numerics.hcr import hcr_alpha, paint_hcr
from thermoscale.numerics.triples import TripleOrder, enumerate_triples, median_over_triples

GUARDS = Guards()


def oracle_alpha(
    series: Series,
    truth: FloatArray,
    time: str,
    labels: IntArray,
    *,
    guards: Guards = GUARDS,
    order: TripleOrder = "ordered",
) -> FloatArray:
    """Closed form with the true HCR ratios, median over the triples, behind the guards of the published mode.

    Args:
        series: the library, without ``time``.
        truth: ``[H, W]``, the fine image of ``time``.
        labels: ``[H, W]`` HCRs fitted without ``time``, -1 = none.
        guards, order: K; to be the same as those of the methods it bounds.
    """
    guards, n_hcr = guards.scaled(QUANTITIES[series.quantity]), int(labels.max()) + 1
    answers = [np.full(truth.shape, np.nan, np.float32)]
    for triple in enumerate_triples(series.fine_time, time, order):
        pre, post = series.fine_at(triple.pre), series.fine_at(triple.post)
        alpha = paint_hcr(hcr_alpha(pre, truth, post, labels, n_hcr), labels)
        answer = closed_form(pre, post, alpha)
        usable = usable_pixels(pre, post, alpha, guards, baseline_k=baseline_k(pre, post))
        usable &= within_range(answer, *scene_range(pre, post), guards)
        answers.append(np.where(usable, answer, np.nan))
    return median_over_triples(np.stack(answers))[0]
