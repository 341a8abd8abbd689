"""Edge scores of a mask: boundary IoU and boundary accuracy within a tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

WIDE_BAND = 0.02
FINE_BAND = 0.002
TOLERANCES_PX = (1, 2, 3, 5)
EDGE_BETA_SQUARED = 0.3

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def wide_boundary_iou(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Compare the inner bands of two masks, 2 % of the diagonal wide.

    Source: Cheng et al., Boundary IoU, CVPR 2021: the band is what erosion by a square removes, the
    width is rounded and at least one pixel, and the frame of the picture counts as an edge.

    Args:
        predicted: (H,W) bool.
        truth: (H,W) bool.

    Returns:
        Score in [0,1]; 1 when both masks are empty.
    """
    width_px = max(1, round(WIDE_BAND * float(np.hypot(*truth.shape))))
    return _band_iou(predicted, truth, width_px, "square")


def fine_boundary_iou(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Compare the inner bands of two masks, 0.2 % of the diagonal wide: sensitive to fine edges.

    The formula of `wide_boundary_iou` with a diamond as the eroding shape and the width rounded down, at least
    one pixel.

    Args:
        predicted: (H,W) bool.
        truth: (H,W) bool.

    Returns:
        Score in [0,1]; 1 when both masks are empty.
    """
    width_px = max(1, int(FINE_BAND * float(np.hypot(*truth.shape))))
    return _band_iou(predicted, truth, width_px, "diamond")


def boundary_accuracy(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], tolerances_px: Sequence[float] = TOLERANCES_PX
) -> dict[float, float]:
    """Score how many edge pixels have a counterpart within a tolerance, as an F-measure with β² = 0.3.

    Precision is the share of predicted edge pixels that are near a true one, recall the reverse. An edge is the
    outermost pixel of a mask; the frame of the picture is no edge. Two masks without any edge score 1, one
    without scores 0.

    Source: Qin et al., BASNet, CVPR 2019 (relaxed boundary F-measure; the paper's tolerance is 3 px).

    Args:
        predicted: (H,W) bool.
        truth: (H,W) bool.
        tolerances_px: Largest Euclidean distances that count as near, in pixels.

    Returns:
        Tolerance in pixels to score in [0,1].
    """
    predicted_edge, true_edge = _edge(predicted), _edge(truth)
    predicted_any, true_any = bool(predicted_edge.any()), bool(true_edge.any())
    if not (predicted_any and true_any):
        return dict.fromkeys(tolerances_px, float(predicted_any == true_any))
    to_truth = _distance_to(true_edge)[predicted_edge]
    to_predicted = _distance_to(predicted_edge)[true_edge]
    scores: dict[float, float] = {}
    for tolerance in tolerances_px:
        precision = float((to_truth <= tolerance).mean())
        recall = float((to_predicted <= tolerance).mean())
        weight = EDGE_BETA_SQUARED * precision + recall
        scores[tolerance] = (1 + EDGE_BETA_SQUARED) * precision * recall / weight if weight > 0 else 0.0
    return scores


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that have a neighbour outside it within the picture."""
    eroded: NDArray[np.bool_] = cv2.erode(mask.view(np.uint8), _CROSS).astype(bool)
    return mask & ~eroded


def _distance_to(edge: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Measure the Euclidean distance of every pixel to the nearest edge pixel, in pixels."""
    distance = cv2.distanceTransform((~edge).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance.astype(np.float32, copy=False)


def _band_iou(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], width_px: int, shape: Literal["square", "diamond"]
) -> float:
    """Divide intersection by union of the two inner bands."""
    band, true_band = _inner_band(predicted, width_px, shape), _inner_band(truth, width_px, shape)
    union = np.count_nonzero(band | true_band)
    return np.count_nonzero(band & true_band) / union if union else 1.0


def _inner_band(mask: NDArray[np.bool_], width_px: int, shape: Literal["square", "diamond"]) -> NDArray[np.bool_]:
    """Return what eroding ``width_px`` times would remove; the outside of the picture is background.

    One distance transform costs the same for every width, unlike repeated erosion.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    metric = cv2.DIST_C if shape == "square" else cv2.DIST_L1
    depth = cv2.distanceTransform(padded, metric, cv2.DIST_MASK_3)[1:-1, 1:-1]
    band: NDArray[np.bool_] = mask & (depth <= width_px)
    return band
