"""Separate subjects of one map: which there are, and which of them are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Parts below this share of the photo are dust, not subjects worth a line in a report. At most so many are listed.
_DUST, _MOST_LISTED = 5e-4, 100


@dataclass(frozen=True, slots=True)
class FoundObject:
    """One separate subject.

    Attributes:
        box: Left, top, right, bottom in the photo, in pixels.
        area_fraction: Share of the photo that it covers, in [0, 1].
    """

    box: tuple[int, int, int, int]
    area_fraction: float

    def moved(self, across_px: int, down_px: int, share: float) -> FoundObject:
        """Return the same subject in a larger picture.

        Args:
            across_px: Where the smaller picture begins from the left.
            down_px: Where it begins from the top.
            share: Its share of the larger picture's area.
        """
        left, top, right, bottom = self.box
        box = (left + across_px, top + down_px, right + across_px, bottom + down_px)
        return FoundObject(box, self.area_fraction * share)


def find_objects(probs: np.ndarray, height_px: int, width_px: int) -> tuple[FoundObject, ...]:
    """List the separate subjects of a map, the largest first; dust is left out.

    Args:
        probs: (h, w) float32 in [0, 1], of the whole photo.
        height_px: Height of the photo.
        width_px: Width of the photo.
    """
    rows, columns = probs.shape
    _, _, parts, _ = cv2.connectedComponentsWithStats((probs > 0.5).astype(np.uint8))
    across, down, area = width_px / columns, height_px / rows, float(rows * columns)
    found = []
    for left, top, width, height, cells in parts[1:].tolist():
        if cells >= _DUST * area:
            box = (left * across, top * down, (left + width) * across, (top + height) * down)
            found.append(FoundObject((round(box[0]), round(box[1]), round(box[2]), round(box[3])), cells / area))
    return tuple(sorted(found, key=lambda one: one.area_fraction, reverse=True)[:_MOST_LISTED])


def select_objects(probs: np.ndarray, most: int | None, min_fraction: float, keep: np.ndarray | None) -> np.ndarray:
    """Remove separate subjects that are not wanted, with their soft surroundings.

    Args:
        probs: (h, w) float32 in [0, 1].
        most: How many of the largest are kept; None keeps all.
        min_fraction: Smallest one that is kept, as a share of the map.
        keep: (h, w) bool, places whose subject is kept whatever its size, or None.

    Returns:
        (h, w) float32 in [0, 1].
    """
    count, labels, parts, _ = cv2.connectedComponentsWithStats((probs > 0.5).astype(np.uint8))
    areas = parts[:, cv2.CC_STAT_AREA]
    wanted = areas >= min_fraction * probs.size
    if most is not None:
        ranks = np.empty(count, np.intp)
        ranks[1 + np.argsort(-areas[1:], kind="stable")] = np.arange(count - 1)
        ranks[0] = count
        wanted &= ranks < most
    if keep is not None:
        wanted[np.unique(labels[keep])] = True
    wanted[0] = False
    if wanted[1:].all():
        return probs
    mine, others = wanted[labels], (labels > 0) & ~wanted[labels]
    if not mine.any():
        return np.zeros_like(probs)
    # What is soft belongs to the nearer one.
    far, near = (
        cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) for part in (mine, others)
    )
    return np.where(near < far, np.float32(0), probs)
