"""U-STFM with linear unmixing: Huang & Zhang 2014, IJRS 35(16):6213; Li M. et al. 2023, Remote Sensing 15(4):901.

For every triple one change ratio per HCR is unmixed from the coarse images, painted on the fine grid, and
the target follows from the two fine images; the answer is the per-pixel median over the triples. With f the area
fractions of the HCRs in a cell q and D = F_post - F_pre, the four ways to unmix (METHODS 1.3):

    ratio       alpha(q)           = sum_n f(q, n) * alpha_n
    difference  C_target - C_pre   = sum_n f(q, n) * d1_n, the same for d2_n from target to post, alpha_n = d2_n / d1_n
    image       C(t)               = sum_n f(q, n) * c_n(t) on each date, alpha_n from the three
    beta        C_target - C_pre   = sum_n [mean over the cell of D where it is class n] * beta_n;    exact, no pole

Solved by bounded least squares with a weak pull towards the scene's own value, so that a class the cells hardly show
cannot run away; a class they do not show at all has no answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from scipy import linalg, optimize, sparse

from thermoscale.arrays import QUANTITIES, Array, FloatArray, IntArray
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series
from thermoscale.numerics.change_ratio import (
    Guards,
    baseline_k,
    closed_form,
    closed_form_beta,
    coarse_alpha,
    scene_range,
    usable_pixels,
    within_range,
)
from thermoscale.numerics.hcr import area_fractions, paint_hcr
from thermoscale.numerics.triples import Triple, TripleOrder, enumerate_triples, median_over_triples
from thermoscale_train.data.hcr_clusters import fit_hcr

Variant = Literal["ratio", "difference", "image", "beta"]


@dataclass(frozen=True)
class UstfmConstants:
    """Attributes:
    n_hcr: HCRs; 45 is the published headline.
    seed: of their k-means.
    guards: of ratios and triples, K.
    ridge: weight of the pull, in observations of one cell that is all of one class.
    min_share: share of a cell's fine pixels that ``beta`` needs on both dates.
    """

    n_hcr: int = 45
    seed: int = 0
    guards: Guards = field(default_factory=Guards)
    ridge: float = 1e-2
    min_share: float = 0.5


PAPER = UstfmConstants()


class _Scenes(NamedTuple):
    """One triple: three coarse images ``[h * w]``, two fine ones ``[H, W]``."""

    coarse: tuple[Array, Array, Array]
    pre: FloatArray
    post: FloatArray


class _Place(NamedTuple):
    """What all triples share."""

    labels: IntArray
    coarse_index: IntArray
    fractions: sparse.csr_array  # [h * w, n_hcr]
    constants: UstfmConstants  # in the unit of the series


def ustfm(
    series: Series,
    coarse_target: FloatArray,
    time: str,
    *,
    variant: Variant = "ratio",
    order: TripleOrder = "ordered",
    labels: IntArray | None = None,
    constants: UstfmConstants = PAPER,
) -> FloatArray:
    """Fine image ``[H, W]`` of ``time``; NaN where no triple passes the guards.

    Args:
        variant: what is unmixed; ``ratio`` is the I-USTFM paper's reading.
        order: which pairs of library dates make a triple; the papers have a fine date before and one after.
        labels: ``[H, W]`` HCRs, -1 = none; default k-means on the library's fine images.

    Raises:
        InvalidInput: another variant.
        Undetermined: no triple of this order around ``time``, or no HCR can be found.
    """
    if variant not in _PREDICT:
        raise InvalidInput(f"variant is {variant!r}, needed one of {list(_PREDICT)}")
    triples = enumerate_triples(series.fine_time, time, order)
    if not triples:
        raise Undetermined(
            f"no {order} triple around {time}: the library has fine dates {sorted(series.fine_time)} only"
        )
    if labels is None:
        labels = fit_hcr(series.fine, constants.n_hcr, constants.seed)
    place = _place(series, labels, constants)
    answers = [_PREDICT[variant](place, _scenes(series, coarse_target, triple)) for triple in triples]
    return median_over_triples(np.stack(answers))[0]


def _place(series: Series, labels: IntArray, constants: UstfmConstants) -> _Place:
    n_hcr, n_cells = int(labels.max()) + 1, int(np.prod(series.coarse.shape[1:]))
    fractions = sparse.csr_array(area_fractions(labels, series.coarse_index, n_cells, n_hcr).astype(np.float64))
    guards = constants.guards.scaled(QUANTITIES[series.quantity])
    return _Place(labels, series.coarse_index, fractions, UstfmConstants(**{**vars(constants), "guards": guards}))


def _scenes(series: Series, coarse_target: FloatArray, triple: Triple) -> _Scenes:
    coarse = series.coarse_at(triple.pre), coarse_target, series.coarse_at(triple.post)
    pre, target, post = (image.ravel().astype(np.float64) for image in coarse)
    return _Scenes((pre, target, post), series.fine_at(triple.pre), series.fine_at(triple.post))


def _predict_by_alpha(unmix: Callable[[_Place, _Scenes], Array]) -> Callable[[_Place, _Scenes], FloatArray]:
    """Closed form with the ratios that ``unmix`` finds, behind all guards."""

    def predict(place: _Place, scenes: _Scenes) -> FloatArray:
        guards, alpha = place.constants.guards, paint_hcr(unmix(place, scenes), place.labels)
        answer = closed_form(scenes.pre, scenes.post, alpha)
        usable = usable_pixels(scenes.pre, scenes.post, alpha, guards, baseline_k=baseline_k(scenes.pre, scenes.post))
        usable &= within_range(answer, *scene_range(scenes.pre, scenes.post), guards)
        return np.where(usable, answer, np.float32(np.nan))

    return predict


def _predict_by_beta(place: _Place, scenes: _Scenes) -> FloatArray:
    """Beta has neither pole nor division, so only the scene's baseline and the range of the answer are guarded."""
    guards = place.constants.guards
    if not baseline_k(scenes.pre, scenes.post) >= guards.min_baseline_k:
        return np.full(scenes.pre.shape, np.nan, np.float32)
    largest = 1.0 / guards.min_abs_one_plus_alpha if guards.min_abs_one_plus_alpha else np.inf
    change = scenes.coarse[1] - scenes.coarse[0]
    beta = unmix_bounded(_class_changes(place, scenes), change, (-largest, largest), place.constants.ridge)
    answer = closed_form_beta(scenes.pre, scenes.post, paint_hcr(beta, place.labels))
    inside = within_range(answer, *scene_range(scenes.pre, scenes.post), guards)
    return np.where(inside, answer, np.float32(np.nan))


def _class_changes(place: _Place, scenes: _Scenes) -> sparse.csr_array:
    """Part of each class in the mean of D over each cell, ``[h * w, n_hcr]``; empty rows where too little is known."""
    change = scenes.post.astype(np.float64) - scenes.pre
    n_cells, n_hcr = place.fractions.shape
    known = np.isfinite(change) & (place.labels >= 0) & (place.coarse_index >= 0)
    cell, count = place.coarse_index[known], np.bincount(place.coarse_index[known], minlength=n_cells)
    n_pixels = np.bincount(place.coarse_index[place.coarse_index >= 0], minlength=n_cells)
    enough = count >= np.maximum(place.constants.min_share * n_pixels, 1)
    weight = np.where(enough, 1.0 / np.maximum(count, 1), 0.0)
    entries = change[known] * weight[cell]
    changes = sparse.csr_array((entries, (cell, place.labels[known])), shape=(n_cells, n_hcr))
    changes.eliminate_zeros()
    return changes


def _unmix_ratio(place: _Place, scenes: _Scenes) -> Array:
    guards = place.constants.guards
    alpha = coarse_alpha(*scenes.coarse, guards)
    return unmix_bounded(place.fractions, alpha, (-guards.max_abs_alpha, guards.max_abs_alpha), place.constants.ridge)


def _unmix_difference(place: _Place, scenes: _Scenes) -> Array:
    pre, target, post = scenes.coarse
    before, after = _unmix_kelvin(place, target - pre), _unmix_kelvin(place, post - target)
    return coarse_alpha(np.zeros_like(before), before, before + after, place.constants.guards)


def _unmix_image(place: _Place, scenes: _Scenes) -> Array:
    pre, target, post = (_unmix_kelvin(place, image) for image in scenes.coarse)
    return coarse_alpha(pre, target, post, place.constants.guards)


def _unmix_kelvin(place: _Place, values: Array) -> Array:
    """Unmix images or differences; a class may leave the range of the cells by the margin of the guards."""
    known, margin = values[np.isfinite(values)], place.constants.guards.range_margin_k
    if not known.size:
        return np.full(place.fractions.shape[1], np.nan)
    bounds = float(known.min()) - margin, float(known.max()) + margin
    return unmix_bounded(place.fractions, values, bounds, place.constants.ridge)


_PREDICT: Mapping[str, Callable[[_Place, _Scenes], FloatArray]] = {
    "ratio": _predict_by_alpha(_unmix_ratio),
    "difference": _predict_by_alpha(_unmix_difference),
    "image": _predict_by_alpha(_unmix_image),
    "beta": _predict_by_beta,
}


def unmix_bounded(design: sparse.csr_array, observed: Array, bounds: tuple[float, float], ridge: float) -> Array:
    """The x that minimises ``|design x - observed|^2 + ridge * (mean squared row sum) * |x - x0|^2`` within ``bounds``.

    x0 is the one number that explains all cells best. NaN cells and empty rows take no part.

    Args:
        design: ``[n_cells, n_hcr]``.
        observed: ``[n_cells]``.

    Returns:
        ``[n_hcr]`` float64, NaN for a class that no used cell shows.
    """
    used = np.isfinite(observed) & (np.diff(design.indptr) > 0)
    rows, values = design[np.flatnonzero(used)], np.asarray(observed, np.float64)[used]
    shown = np.asarray(abs(rows).sum(axis=0)).ravel() > 0.0
    row_sums = np.asarray(rows.sum(axis=1)).ravel()
    answer = np.full(design.shape[1], np.nan)
    power = float((row_sums**2).sum())
    if not shown.any() or power == 0.0:
        return answer
    start = float(np.clip((row_sums @ values) / power, *bounds))
    rows = rows[:, np.flatnonzero(shown)]
    gram = (rows.T @ rows).toarray() + ridge * power / len(values) * np.eye(int(shown.sum()))
    # The Cholesky factor turns the tall problem into a square one with the same minimum under the same bounds.
    root = linalg.cholesky(gram, lower=True)
    away = linalg.solve_triangular(root, rows.T @ (values - row_sums * start), lower=True)
    result = optimize.lsq_linear(root.T, away, (bounds[0] - start - 1e-9, bounds[1] - start + 1e-9))
    answer[shown] = start + result.x
    return answer
