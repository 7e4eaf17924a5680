"""Variance components by iterated MINQUE, which is near REML (Rao 1971; Searle, Variance Components, 1992, ch. 11)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear, nnls

from thermoscale.arrays import Array

Components = Mapping[str, Array]
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class _Normal:
    """Normal equations of one round: ``matrix [p, p]``, right sides of q q' and of x q'."""

    matrix: Array
    own: Array
    shared: Array


def fit_variances(
    innovations: Sequence[Array],
    truths: Sequence[Array],
    components: Sequence[Components],
    names: Sequence[str],
    rounds: int,
) -> tuple[dict[str, float], dict[str, float]]:
    """Variances of the innovation, and how much of each it shares with the truth (0 to all of it).

    Args:
        innovations, truths: ``[m]`` per date. components: ``[m, m]`` by name, per date. names: those to be fitted.
    """
    total = float(np.mean([(values**2).mean() for values in innovations]))
    traces = np.array([np.mean([np.trace(one[name]) / len(one[name]) for one in components]) for name in names])
    if total < _TINY:
        zero = dict.fromkeys(names, 0.0)
        return zero, dict(zero)
    scale = np.where(traces > 1e-9 * traces.max(), traces, np.inf)
    dates = list(zip(innovations, truths, components, strict=True))
    variances = total / len(names) / scale
    for _ in range(rounds):
        normal = _normal_equations(dates, names, variances, total)
        unit = 1 / np.sqrt(np.diag(normal.matrix) + 1e-300)
        matrix = normal.matrix * unit[:, None] * unit + 1e-6 * np.eye(len(names))
        variances = nnls(matrix, normal.own * unit)[0] * unit + 1e-5 * total / len(names) / scale
    factor = np.linalg.cholesky(matrix)
    bound = np.maximum(variances / unit, _TINY)
    shared = lsq_linear(factor.T * bound, np.linalg.solve(factor, normal.shared * unit), (0, 1)).x * bound * unit
    return dict(zip(names, variances.tolist(), strict=True)), dict(zip(names, shared.tolist(), strict=True))


def _normal_equations(
    dates: Sequence[tuple[Array, Array, Components]], names: Sequence[str], variances: Array, total: float
) -> _Normal:
    p = len(names)
    sums = _Normal(np.zeros((p, p)), np.zeros(p), np.zeros(p))
    for innovation, truth, components in dates:
        covariance = np.tensordot(variances, np.stack([components[name] for name in names]), 1)
        covariance += (1e-4 * np.trace(covariance) / len(covariance) + 1e-9 * total) * np.eye(len(covariance))
        inverse = np.linalg.inv(covariance)
        own, shared = inverse @ innovation, inverse @ truth
        weighted = [inverse @ components[name] for name in names]
        sums.matrix[:] += np.stack([a.ravel() for a in weighted]) @ np.stack([a.T.ravel() for a in weighted]).T
        sums.own[:] += [own @ components[name] @ own for name in names]
        sums.shared[:] += [shared @ components[name] @ own for name in names]
    return sums
