"""Logistic regression by Newton's method, and what is read off its scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_STEPS = 60
_SETTLED = 1e-7
_LEAST_CURVATURE = 1e-6


def fit_logistic(inputs: F64, labels: F64, *, ridge: float) -> tuple[F64, float]:
    """Fit one model.

    Args:
        inputs: (N, K) float64, brought to about the same size.
        labels: (N,) float64, 0 or 1; examples with NaN do not count.
        ridge: Strength of the penalty on squared coefficients, per example; the bias has none.

    Returns:
        (K,) coefficients and the bias.

    Source: Hastie et al., The elements of statistical learning, section 4.4.1 (iteratively reweighted least squares).
    """
    known = ~np.isnan(labels)
    extended = np.column_stack([inputs[known], np.ones(int(known.sum()))])
    y = labels[known]
    penalty = np.full(extended.shape[1], ridge)
    penalty[-1] = 0.0
    solution = np.zeros(extended.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(extended @ solution, -30, 30)))
        slope = extended.T @ (p - y) / len(y) + penalty * solution
        curvature = np.maximum(p * (1 - p), _LEAST_CURVATURE) / len(y)
        hessian = (extended * curvature[:, None]).T @ extended + np.diag(penalty + 1e-9)
        step = np.linalg.solve(hessian, slope)
        solution -= step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-9))
        if float(np.abs(step).max()) < _SETTLED:
            break
    return solution[:-1], float(solution[-1])


def area_under_curve(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Return the chance that a positive example scores above a negative one; NaN without both kinds.

    Source: Hanley and McNeil 1982.
    """
    positive, negative = scores[labels], scores[~labels]
    if not (positive.size and negative.size):
        return float("nan")
    above = (positive[:, None] > negative[None]).mean()
    return float(above + 0.5 * (positive[:, None] == negative[None]).mean())


def level_for_precision(
    scores: NDArray[np.floating], labels: NDArray[np.bool_], precision: float, prior: float
) -> float:
    """Find the lowest score from which at least a given share of verdicts is right.

    Args:
        scores: (N,) in [0, 1].
        labels: (N,) bool.
        precision: Share of positives wanted among all that score at least the level.
        prior: Share of positives where the verdicts will be given, which the examples' own share need not be.

    Returns:
        The level; one that nothing reaches if none will do.
    """
    order = np.argsort(-scores)
    right = np.cumsum(labels[order]) / max(int(labels.sum()), 1) * prior
    wrong = np.cumsum(~labels[order]) / max(int((~labels).sum()), 1) * (1 - prior)
    good = np.flatnonzero((right > 0) & (right >= precision * (right + wrong)))
    return float(scores[order][good[-1]]) if good.size else 1.01
