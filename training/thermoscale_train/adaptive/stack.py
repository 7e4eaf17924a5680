"""How much each member counts, and how much of the finest detail is worth keeping: learnt on dates left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from thermoscale.arrays import Array
from thermoscale.numerics.adaptive_members import MEMBERS

FEW_DATES = 3
_TIME, _FREE, _TIED, _COARSE = range(len(MEMBERS))
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Answers:
    """The members' answers to one left-out date at a sample of its valid pixels.

    Attributes:
        truth: ``[m]``. detail, level: ``[J, m]``, their sum is the member's image. finest: ``[J, m]`` what softening
            takes from the image.
    """

    truth: Array
    detail: Array
    level: Array
    finest: Array

    def errors(self, detail: Array, level: Array, keep: float) -> Array:
        """``[m]`` truth minus the stack with these weights."""
        left: Array = self.truth - detail @ (self.detail - (1 - keep) * self.finest) - level @ self.level
        return left


def fit_stack(answers: Sequence[Answers], ridge: float) -> Array:
    """``[2, J]`` weights >= 0 of detail and of level (sum 1).

    Each date counts by 1 / its best member's RMSE, because the aim is the mean of the dates' RMSE. ``ridge`` pulls
    towards the best member, in shares of its own error. Two dates cannot teach weights: then half an even mixture of
    the two co-kriged members, half the better of them.
    """
    n_members = len(MEMBERS)
    errors = np.sqrt([((one.detail + one.level - one.truth) ** 2).mean(1) for one in answers])
    if len(answers) < FEW_DATES:
        better = _FREE + int(np.argmin(errors.mean(0)[[_FREE, _TIED]]))
        weights = 0.5 * np.eye(n_members)[better] + 0.25 * np.isin(np.arange(n_members), (_FREE, _TIED))
        return np.stack([weights, weights])
    matrix, right, total = np.zeros((2 * n_members, 2 * n_members)), np.zeros(2 * n_members), 0.0
    for one, error in zip(answers, errors, strict=True):
        inputs = np.concatenate([one.detail, one.level])
        weight = 1 / (error.min() + 0.05 * error.mean() + _TINY) / len(one.truth)
        matrix += weight * inputs @ inputs.T
        right += weight * inputs @ one.truth
        total += weight * len(one.truth)
    best = int(np.argmin(errors.mean(0)))
    pull = ridge * errors.mean(0).min() ** 2 * total
    return _non_negative(matrix + pull * np.eye(len(matrix)), right + pull * np.tile(np.eye(n_members)[best], 2))


def _non_negative(matrix: Array, right: Array) -> Array:
    """Least squares with weights >= 0; a heavy row makes the levels sum to 1."""
    half, size = len(matrix) // 2, np.trace(matrix) / len(matrix)
    one = np.repeat([0.0, 1.0], half)
    matrix = matrix + 1e4 * size * np.outer(one, one) + 1e-10 * size * np.eye(len(matrix))
    factor = np.linalg.cholesky(matrix)
    weights = nnls(factor.T, np.linalg.solve(factor, right + 1e4 * size * one), maxiter=500)[0]
    detail, level = weights[:half], weights[half:]
    return np.stack([detail, level / max(level.sum(), _TINY)])


def fit_sharpness(answers: Sequence[Answers], stack: Array, n_dates: int) -> tuple[float, float]:
    """Shares of the detail and of its finest band worth keeping: noise of one fine scene does not return in the next.

    The detail as a whole is scaled below three left-out dates only; else the stack has done it.
    """
    matrix, right = np.zeros((2, 2)), np.zeros(2)
    for one in answers:
        finest, detail = stack[0] @ one.finest, stack[0] @ one.detail
        inputs, truth = np.stack([detail - finest, finest]), one.truth - stack[1] @ one.level
        weight = 1 / (((truth - detail) ** 2).mean() + _TINY)
        matrix += weight * inputs @ inputs.T
        right += weight * inputs @ truth
    if matrix[1, 1] < _TINY * max(matrix[0, 0], _TINY):
        return 1.0, 1.0
    if len(answers) >= FEW_DATES:
        return 1.0, _carried(float((right[1] - matrix[1, 0]) / matrix[1, 1]), n_dates)
    both = np.linalg.solve(matrix + 1e-9 * np.trace(matrix) * np.eye(2), right)
    whole, finest = (_carried(float(share), n_dates) for share in both)
    return whole, min(finest / max(whole, 0.1), 1.0)


def _carried(share: float, n_dates: int) -> float:
    """A best share from ``n_dates - 1`` to ``n_dates`` library dates.

    For m dates of mutual correlation r it is m r / (1 + (m - 1) r).
    """
    m, share = max(n_dates - 1, 1), float(np.clip(share, 0.0, 1.0))
    correlation = share / (m - (m - 1) * share)
    return (m + 1) * correlation / (1 + m * correlation)
