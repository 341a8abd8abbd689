"""Holes: background that the subject encloses, as in a ring, between the links of a chain or in the back of a chair."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# A hole counts from this share of the picture on; smaller ones are mostly frayed outlines of the truth.
SMALLEST_SHARE = 5e-5


def holes_open(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Measure how much of the background inside the subject is kept open.

    A hole is a 4-connected region of the background that does not touch the frame, and that covers at least
    0.005 % of the picture. Each counts by its area. Where the subject itself is missing, its holes count as open:
    read the score beside the missing share.

    Args:
        predicted: (H,W) bool, the subject as it was found.
        truth: (H,W) bool.

    Returns:
        Share of the holes' area that is not subject in ``predicted``, in [0,1]; NaN if the truth has no hole.
    """
    found = find_holes(truth)
    return float((found & ~predicted).sum() / found.sum()) if found.any() else float("nan")


def find_holes(truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the background that the subject encloses.

    Args:
        truth: (H,W) bool.

    Returns:
        (H,W) bool, true in the holes that count; see ``holes_open``.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~truth).view(np.uint8), connectivity=4)
    is_hole = stats[:count, cv2.CC_STAT_AREA] >= SMALLEST_SHARE * truth.size
    is_hole[0] = False  # the subject
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        is_hole[side] = False
    return np.asarray(is_hole[labels])
