"""Structure scores of a saliency map: S-measure and weighted F-measure."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

OBJECT_SHARE = 0.5
_WINDOW_RADIUS_PX = 3
_WINDOW_SIGMA_PX = 5.0
_HALVING_PX = 5.0


def s_measure(alpha: NDArray[np.float32], truth: NDArray[np.bool_], object_share: float = OBJECT_SHARE) -> float:
    """Score how well the shape of a map and its four parts resemble the truth.

    An empty truth scores 1 minus the mean alpha, a full one the mean alpha.

    Source: Fan et al., Structure-measure, ICCV 2017, with α = 0.5 and λ = 0.5.

    Args:
        alpha: (H,W) float32 in [0,1].
        truth: (H,W) bool.
        object_share: Weight of the object term against the region term, in [0,1].

    Returns:
        Score in [0,1], 1 is best.
    """
    share = float(truth.mean())
    if share in (0.0, 1.0):
        mean = float(alpha.mean(dtype=np.float64))
        return mean if share else 1.0 - mean
    inside, outside = alpha[truth], 1.0 - alpha[~truth]
    objects = share * _object_similarity(inside) + (1 - share) * _object_similarity(outside)
    return max(0.0, object_share * objects + (1 - object_share) * _region_similarity(alpha, truth))


def _object_similarity(values: NDArray[np.float32]) -> float:
    """Score pixels that should all be 1, the object-aware term."""
    mean = float(values.mean(dtype=np.float64))
    spread = float(values.std(dtype=np.float64, ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean * mean + 1 + spread)


def _region_similarity(alpha: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Average the similarity of the four quadrants around the truth's centroid, weighted by area."""
    height, width = truth.shape
    rows, columns = np.nonzero(truth)
    # Both neighbours of the cut keep the centroid's own row and column in the upper left part.
    row, column = int(np.round(rows.mean())) + 1, int(np.round(columns.mean())) + 1
    total = 0.0
    for vertical in (slice(0, row), slice(row, height)):
        for horizontal in (slice(0, column), slice(column, width)):
            part = truth[vertical, horizontal]
            if part.size:
                total += part.size / truth.size * _similarity(alpha[vertical, horizontal], part)
    return total


def _similarity(alpha: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Compare means, contrasts and correlation of one part, as SSIM does; 1 where both are flat."""
    x, y = alpha.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = float(x.mean()), float(y.mean())
    dx, dy = x - mean_x, y - mean_y
    count = max(x.size - 1, 1)
    # Plain sums: a dot product would wake the BLAS threads, which costs more than it saves at this size.
    covariance = float((dx * dy).sum()) / count
    variances = float((dx * dx).sum() + (dy * dy).sum()) / count
    numerator = 4 * mean_x * mean_y * covariance
    denominator = (mean_x**2 + mean_y**2) * variances
    if numerator != 0:
        return numerator / denominator
    return 1.0 if denominator == 0 else 0.0


def weighted_f(alpha: NDArray[np.float32], truth: NDArray[np.bool_], beta_squared: float = 1.0) -> float:
    """Weigh errors by their place: scattered inside the subject or far away from it, they cost more.

    An empty truth scores 1 when the whole alpha is 0, else 0 (common toolkits give 0 for both).

    Source: Margolin et al., How to evaluate foreground maps?, CVPR 2014, with β² = 1.

    Args:
        alpha: (H,W) float32 in [0,1].
        truth: (H,W) bool.
        beta_squared: Weight of recall against precision.

    Returns:
        Score in [0,1], 1 is best.
    """
    foreground = int(np.count_nonzero(truth))
    if foreground == 0:
        return 0.0 if alpha.any() else 1.0
    error = np.abs(alpha - truth).astype(np.float32)
    smooth = _smooth_errors(error, truth)
    inside = float(np.minimum(error, smooth)[truth].sum(dtype=np.float64))
    distance = cv2.distanceTransform((~truth).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    importance = 2.0 - np.exp2(distance[~truth] / -_HALVING_PX)
    outside = float((error[~truth] * importance).sum(dtype=np.float64))
    hits = foreground - inside
    recall = hits / foreground
    precision = hits / (hits + outside) if hits + outside > 0 else 0.0
    weight = recall + beta_squared * precision
    return (1 + beta_squared) * recall * precision / weight if weight > 0 else 0.0


def _smooth_errors(error: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Average errors over a Gaussian window, with the background showing the error of the nearest subject pixel.

    Only background that a window of the subject reaches matters, so the search for the nearest subject pixel
    stays within a few pixels and needs no full nearest-neighbour transform.
    """
    radius = _WINDOW_RADIUS_PX
    window = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    rows, columns = np.nonzero(cv2.dilate(truth.view(np.uint8), window).astype(bool) & ~truth)
    # The farthest corner of the window lies at radius·√2, which bounds the way to the nearest subject pixel.
    reach = int(radius * 2**0.5)
    padded_truth = np.pad(truth, reach)
    padded_error = np.pad(error, reach)
    filled = error.copy()
    open_ = np.arange(rows.size)
    for row_step, column_step in _steps_by_distance(reach):
        r, c = rows[open_] + reach + row_step, columns[open_] + reach + column_step
        found = padded_truth[r, c]
        filled[rows[open_[found]], columns[open_[found]]] = padded_error[r[found], c[found]]
        open_ = open_[~found]
        if open_.size == 0:
            break
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * _WINDOW_SIGMA_PX**2))
    kernel /= kernel.sum()
    return cv2.sepFilter2D(filled, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_CONSTANT).astype(np.float32)


def _steps_by_distance(reach: int) -> list[tuple[int, int]]:
    """List the steps of a square neighbourhood, nearest first."""
    span = range(-reach, reach + 1)
    return sorted(((r, c) for r in span for c in span), key=lambda step: step[0] ** 2 + step[1] ** 2)
