"""Region scores of a saliency map: overlap, F-measure and E-measure.

All of them need only the number of foreground and background pixels at or above each threshold, which two
256-bin histograms give at once. Nothing here stretches the prediction to the full range first: a stretch
turns an empty answer into a confident wrong one and changes every score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
F_BETA_SQUARED = 0.3
# Lifts k/255 stored as float32 over the rounding error that would drop it into the bin below.
_QUANTUM_SLACK = 1e-3


@dataclass(frozen=True, slots=True)
class ThresholdCounts:
    """Pixels at or above each threshold of a sweep.

    Attributes:
        hits: (T,) float64, foreground pixels of the truth that are predicted, in pixels.
        false_alarms: (T,) float64, background pixels of the truth that are predicted, in pixels.
        foreground: Foreground pixels of the truth, in pixels.
        pixels: All pixels.
    """

    hits: NDArray[np.float64]
    false_alarms: NDArray[np.float64]
    foreground: int
    pixels: int


def sweep_thresholds(alpha: NDArray[np.float32], truth: NDArray[np.bool_]) -> ThresholdCounts:
    """Count the predicted pixels at the thresholds 0/255, 1/255 … 255/255.

    Args:
        alpha: (H,W) float32 in [0,1]; a pixel is predicted when it is at or above the threshold.
        truth: (H,W) bool.

    Returns:
        256 counts each, for rising thresholds.
    """
    bins = (alpha * np.float32(LEVELS - 1) + np.float32(_QUANTUM_SLACK)).astype(np.intp)
    inside = np.bincount(bins[truth], minlength=LEVELS)
    total = np.bincount(bins.ravel(), minlength=LEVELS)
    hits = inside[::-1].cumsum()[::-1].astype(np.float64)
    predicted = total[::-1].cumsum()[::-1].astype(np.float64)
    return ThresholdCounts(hits, predicted - hits, int(np.count_nonzero(truth)), truth.size)


def count_at(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> ThresholdCounts:
    """Count the pixels of one binary prediction.

    Args:
        predicted: (H,W) bool.
        truth: (H,W) bool.

    Returns:
        Counts of length 1.
    """
    hits = float(np.count_nonzero(predicted & truth))
    false_alarms = float(np.count_nonzero(predicted)) - hits
    return ThresholdCounts(np.array([hits]), np.array([false_alarms]), int(np.count_nonzero(truth)), truth.size)


def binarise_adaptively(alpha: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Binarise at twice the mean of the map, at most 1.

    An alpha of zeros predicts nothing, although its threshold is 0.

    Source: Achanta et al., Frequency-tuned salient region detection, CVPR 2009 (adaptive threshold).

    Args:
        alpha: (H,W) float32 in [0,1].

    Returns:
        (H,W) bool.
    """
    threshold = min(2.0 * float(alpha.mean(dtype=np.float64)), 1.0)
    return (alpha >= threshold) & (alpha > 0)


def iou(counts: ThresholdCounts) -> NDArray[np.float64]:
    """Divide intersection by union; 1 where truth and prediction are both empty.

    Source: Jaccard, 1901: |P ∩ T| / |P ∪ T|.
    """
    union = counts.foreground + counts.false_alarms
    return np.where(union > 0, counts.hits / np.maximum(union, 1), 1.0)


def dice(counts: ThresholdCounts) -> NDArray[np.float64]:
    """Divide twice the intersection by both areas; 1 where truth and prediction are both empty.

    Source: Dice, 1945: 2 |P ∩ T| / (|P| + |T|).
    """
    areas = counts.hits + counts.false_alarms + counts.foreground
    return np.where(areas > 0, 2 * counts.hits / np.maximum(areas, 1), 1.0)


def f_measure(counts: ThresholdCounts, beta_squared: float = F_BETA_SQUARED) -> NDArray[np.float64]:
    """Weigh precision against recall at every threshold.

    With counts it reads (1+β²)·TP / (β²·|T| + |P|), which needs no special case but one: an empty truth with an
    empty prediction scores 1. An empty truth scores 0 as soon as one pixel is predicted.

    Source: Achanta et al., Frequency-tuned salient region detection, CVPR 2009, with β² = 0.3.
    """
    weight = beta_squared * counts.foreground + counts.hits + counts.false_alarms
    return np.where(weight > 0, (1 + beta_squared) * counts.hits / np.where(weight > 0, weight, 1), 1.0)


def e_measure(counts: ThresholdCounts) -> NDArray[np.float64]:
    """Compare both binary maps after taking out their means, at every threshold.

    An empty truth scores the share of pixels that are not predicted, a full one the share that is. The sum is
    divided by all pixels, as in the paper; the authors' program divides by one pixel less.

    Source: Fan et al., Enhanced-alignment measure, IJCAI 2018 (bias matrices, alignment, enhanced alignment).
    """
    pixels, foreground = counts.pixels, counts.foreground
    predicted = counts.hits + counts.false_alarms
    if foreground == 0:
        return 1.0 - predicted / pixels
    if foreground == pixels:
        return predicted / pixels
    predicted_mean, truth_mean = predicted / pixels, foreground / pixels
    misses = foreground - counts.hits
    parts = (
        (counts.hits, 1.0, 1.0),
        (counts.false_alarms, 1.0, 0.0),
        (misses, 0.0, 1.0),
        (pixels - predicted - misses, 0.0, 0.0),
    )
    total = np.zeros_like(predicted)
    for amount, predicted_value, truth_value in parts:
        a, b = predicted_value - predicted_mean, truth_value - truth_mean
        # b is never 0 here, because the truth is neither empty nor full.
        alignment = 2 * a * b / (a * a + b * b)
        total += amount * (alignment + 1) ** 2 / 4
    return total / pixels
