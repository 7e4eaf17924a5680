"""Fit of the adaptive mode: every weight, variance and calibration from library dates left out in turn.

Scaling and gaps, classes, variograms, variance components, stack, sharpness, spread: in this order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from thermoscale.arrays import Array
from thermoscale.formats import Series
from thermoscale.numerics.adaptive_library import NOISE, SIGNAL, SMOOTH
from thermoscale.numerics.adaptive_members import (
    Gain,
    LinearScene,
    combine,
    estimate_members,
    even_prior,
    time_prior,
)
from thermoscale.numerics.adaptive_pixels import soften
from thermoscale.numerics.adaptive_spread import disagreement, misfit
from thermoscale.numerics.adaptive_state import COVARIANCES, NO_CLASS, AdaptiveState
from thermoscale.numerics.adaptive_time import KINDS, Variogram, near_weights
from thermoscale_train.adaptive.calibration import UNTAUGHT, class_errors, fit_spread
from thermoscale_train.adaptive.scenes import (
    LeftOut,
    Scenes,
    classify,
    leave_out,
    n_classes,
    scale_scenes,
    targets,
    view_scenes,
)
from thermoscale_train.adaptive.stack import Answers, fit_sharpness, fit_stack
from thermoscale_train.adaptive.variance import fit_variances
from thermoscale_train.adaptive.variogram import choose_variograms
from thermoscale_train.config import AdaptiveSettings

_SAMPLED_PIXELS = 40_000

Variances = dict[str, dict[str, float]]
Pair = tuple[Variogram, Variogram]


@dataclass(frozen=True, eq=False)
class _Case:
    """One left-out date answered: a sample of its valid pixels ``[m]``, the members, and their answers there."""

    left: LeftOut
    pixels: Array
    members: list[LinearScene]
    answers: Answers


class _Weights(NamedTuple):
    """``stack [2, J]``, and the share kept of the finest detail."""

    stack: Array
    keep: float


def fit_adaptive(series: Series, settings: AdaptiveSettings, *, seed: int) -> AdaptiveState:
    """The state of a library: two or more usable fine dates; dates to be judged later must not be in it."""
    scenes = scale_scenes(series, settings.min_cover)
    every = np.arange(len(scenes.times))
    labels = classify(scenes.fine, n_classes(scenes, settings, len(every)), seed)
    view = view_scenes(scenes, every, labels)
    inner = targets(len(every), len(every))
    variograms = choose_variograms(scenes.fine, view, scenes.compared, scenes.times, inner)
    left = list(leave_out(scenes, settings, seed))
    variances = _fit_components(scenes, left, variograms, settings.rounds)
    rng = np.random.default_rng(seed)
    cases = [_answer(scenes, one, variograms, variances, rng) for one in left]
    weights = _fit_weights(cases, settings.ridge, len(every))
    class_variance, spread, calibration = _fit_errors(scenes, labels, cases, weights)
    painted = np.where(scenes.seen, labels, NO_CLASS).astype(np.uint8)
    return AdaptiveState(
        labels=painted.reshape(series.coarse_index.shape),
        scales=np.array([*scenes.scale, weights.keep]),
        gap_mean=scenes.gap_mean,
        gap_covariance=scenes.gap_covariance,
        variograms=np.array([[KINDS.index(kind), length, nugget] for kind, length, nugget in variograms]),
        variances=np.array([[variances[name].get(one, 0.0) for one in SIGNAL] for name in COVARIANCES]),
        stack=weights.stack,
        class_variance=class_variance,
        spread=spread,
        calibration=calibration,
        comparable=scenes.comparable,
    )


def _fit_components(scenes: Scenes, left: Sequence[LeftOut], variograms: Pair, rounds: int) -> Variances:
    """Variances of signal and noise of the two co-kriged members."""
    even = [(one.truth - even_prior(one.view).means)[one.cells] for one in left]
    near = [(one.truth - _prior(scenes, one, variograms).means)[one.cells] for one in left]
    noise = [(one.coarse - one.truth)[one.cells] for one in left]
    components = [one.view.components(one.cells) for one in left]
    free, _ = fit_variances(even, even, components, SIGNAL, rounds)
    free_noise, _ = fit_variances(noise, noise, components, NOISE, rounds)
    innovations = [a + b for a, b in zip(near, noise, strict=True)]
    total, shared = fit_variances(innovations, near, components, SMOOTH, rounds)
    # Variances from few dates are uncertain, and too small a signal costs more than too large a one.
    larger = 1 + 4 / len(left) ** 2
    return {
        "free_signal": {name: larger * value for name, value in free.items()},
        "free_noise": free_noise,
        "tied_signal": {name: larger * value for name, value in shared.items()},
        "tied_noise": {name: total[name] - shared[name] for name in total},
    }


def _prior(scenes: Scenes, left: LeftOut, variograms: Pair) -> LinearScene:
    return time_prior(left.view, scenes.times[left.rest], float(scenes.times[left.date]), *variograms)


def _answer(scenes: Scenes, left: LeftOut, variograms: Pair, variances: Variances, rng: np.random.Generator) -> _Case:
    """Ask the members for the left-out date."""
    grid, fine = scenes.grid, scenes.fine[left.rest]
    gains = {
        name: Gain(left.view, variances[f"{name}_signal"], variances[f"{name}_noise"]) for name in ("free", "tied")
    }
    times, target = scenes.times[left.rest], float(scenes.times[left.date])
    members = estimate_members(left.view, times, target, left.coarse, variograms, gains)
    pixels = rng.permutation(np.flatnonzero(np.isfinite(scenes.raw[left.date]) & grid.inside))[:_SAMPLED_PIXELS]
    details, levels, finest = [], [], []
    for member in members:
        image, level = member.image(fine, left.labels, grid), grid.up(grid.closed(member.means))
        details.append((image - level)[pixels])
        levels.append(level[pixels])
        finest.append((image - soften(image.reshape(grid.fine_shape)).ravel())[pixels])
    answers = Answers(scenes.raw[left.date][pixels], np.stack(details), np.stack(levels), np.stack(finest))
    return _Case(left, pixels, members, answers)


def _fit_weights(cases: Sequence[_Case], ridge: float, n_dates: int) -> _Weights:
    answers = [case.answers for case in cases]
    stack = fit_stack(answers, ridge)
    whole, keep = fit_sharpness(answers, stack, n_dates)
    return _Weights(np.stack([whole * stack[0], stack[1]]), keep)


def _fit_errors(scenes: Scenes, labels: Array, cases: Sequence[_Case], weights: _Weights) -> tuple[Array, Array, Array]:
    """Variance of each class, variance model and calibration of the spread."""
    errors = [case.answers.errors(weights.stack[0], weights.stack[1], weights.keep) for case in cases]
    classes = [labels[case.pixels] for case in cases]
    table, without = class_errors(classes, [error**2 for error in errors], int(labels.max()) + 1)
    if len(cases) < 2:
        return table, *UNTAUGHT
    features = [
        _features(scenes, case, weights.stack, own[label])
        for case, label, own in zip(cases, classes, without, strict=True)
    ]
    return table, *fit_spread(features, errors)


def _features(scenes: Scenes, case: _Case, stack: Array, by_class: Array) -> Array:
    """``[4, m]``: 1, variance of the class, disagreement of near dates, misfit to the coarse scene."""
    left, grid = case.left, scenes.grid
    near = near_weights(scenes.times[left.rest], float(scenes.times[left.date]))
    means = combine(case.members, stack[0], stack[1], grid).means
    around = grid.up(misfit(left.coarse, means, grid))[case.pixels]
    return np.stack(
        [np.ones(len(around)), by_class, disagreement(scenes.fine[left.rest][:, case.pixels], near), around]
    )
