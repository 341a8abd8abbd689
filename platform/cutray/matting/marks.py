"""Marks of a person spread over the network's map, along the photo's own edges.

A mark speaks for all places that can be reached from it without crossing an edge of the photo or of the map. How far a
place is from a mark is the length of the shortest path between them, on which steps across edges cost more; of two
marks the nearer one in this sense decides. What looks like a mark, has the map's value of the mark and is not far away
belongs to it, too, even across an edge. Away from all marks the map stays what it was.

Source: geodesic distances by raster scans, Criminisi et al. 2008, "GeoS: Geodesic Image Segmentation".
"""

from __future__ import annotations

import cv2
import numpy as np

from cutray.imaging.resize import resize_area
from cutray.log_odds import to_log_odds

# Side of the grid on which marks spread, in cells.
_GRID = 240
# Cost of a step across a whole change of colour (100 in CIELAB), and of the map, in steps within an even area.
_EDGE_COST, _MAP_COST = 60.0, 60.0
# Reach of a mark, as a share of the longer side.
_REACH = 0.35
# Log odds that a mark outweighs.
_STRENGTH = 12.0
# What looks like a mark: weight beside what is reached from it, and standard deviations of colour (100 in CIELAB), of
# the map, and of the place as a share of the longer side. Only the largest strokes are compared with.
_ALIKE, _COLOR_SIGMA, _MAP_SIGMA, _PLACE_SIGMA, _MOST_STROKES = 0.8, 0.1, 0.2, 0.2, 16
_SWEEPS = 2


class MarkSpreader:
    """One photo, ready for marks: its edges are looked for once."""

    def __init__(self, image: np.ndarray) -> None:
        """Find the edges.

        Args:
            image: (H, W, 3) uint8, sRGB.
        """
        height, width = image.shape[:2]
        scale = min(1.0, _GRID / max(height, width))
        self.rows, self.columns = max(2, round(height * scale)), max(2, round(width * scale))
        small = resize_area(image, self.rows, self.columns)
        smooth = cv2.bilateralFilter(small, 7, 30, 4).astype(np.float32) / np.float32(255)
        self._lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB) / np.float32(100)
        places = np.indices((self.rows, self.columns), np.float32).transpose(1, 2, 0)
        self._places = places / np.float32(_PLACE_SIGMA * max(self.rows, self.columns))

    def distances(self, marks: np.ndarray, probs: np.ndarray) -> np.ndarray:
        """Measure the shortest paths from several sets of marks.

        Args:
            marks: (N, rows, columns) bool.
            probs: (rows, columns) float32 in [0, 1], the map.

        Returns:
            (N, rows, columns) float64, in steps of an even area; infinite where there are no marks.
        """
        share = np.float32(max(self.rows, self.columns) / _GRID)  # of the steps that a path has on a grid of full size
        planes = np.dstack([self._lab * (share * _EDGE_COST), probs * (share * _MAP_COST)])

        def cost(one: np.ndarray, two: np.ndarray, length: float) -> np.ndarray:
            change = one - two
            edges = np.sqrt(np.square(change[..., :3]).sum(axis=-1))
            return np.asarray(length * (1 + edges) + np.abs(change[..., 3]))

        down = cost(planes[1:], planes[:-1], 1.0)
        right_down = cost(planes[1:, 1:], planes[:-1, :-1], 2**0.5)
        left_down = cost(planes[1:, :-1], planes[:-1, 1:], 2**0.5)
        along = np.pad(np.cumsum(cost(planes[:, 1:], planes[:, :-1], 1.0), axis=1, dtype=np.float64), ((0, 0), (1, 0)))
        found = np.where(marks, 0.0, np.inf).transpose(1, 0, 2)
        for _ in range(_SWEEPS):
            _pass_row(found[0], along[0])
            for row in range(1, self.rows):
                _step(found[row], found[row - 1], down[row - 1], right_down[row - 1], left_down[row - 1])
                _pass_row(found[row], along[row])
            for row in range(self.rows - 2, -1, -1):
                _step(found[row], found[row + 1], down[row], left_down[row], right_down[row])
                _pass_row(found[row], along[row])
        return found.transpose(1, 0, 2)

    def likeness(self, marks: np.ndarray, probs: np.ndarray) -> np.ndarray:
        """Tell how much each place is like one of some strokes.

        Args:
            marks: (rows, columns) bool.
            probs: (rows, columns) float32 in [0, 1], the map.

        Returns:
            (rows, columns) float32 in [0, 1].
        """
        looks = np.dstack([self._lab / np.float32(_COLOR_SIGMA), probs / np.float32(_MAP_SIGMA), self._places])
        count, labels, parts, _ = cv2.connectedComponentsWithStats(marks.astype(np.uint8))
        likest = np.zeros(marks.shape, np.float32)
        for label in sorted(range(1, count), key=lambda one: -parts[one, cv2.CC_STAT_AREA])[:_MOST_STROKES]:
            difference = np.square(looks - looks[labels == label].mean(axis=0)).sum(axis=-1)
            np.maximum(likest, np.exp(-difference / 2), out=likest)
        return likest

    def spread(self, probs: np.ndarray, keep: np.ndarray | None, drop: np.ndarray | None) -> np.ndarray:
        """Correct a map by marks.

        Args:
            probs: (h, w) float32 in [0, 1], of the photo.
            keep: (H, W) bool, marked as the subject, or None.
            drop: (H, W) bool, marked as background, or None.

        Returns:
            (h, w) float32 in [0, 1]: 1 at marks of the subject, 0 at those of the background.
        """
        marks = [shrink_marks(mask, self.rows, self.columns) for mask in (keep, drop)]
        if not any(mark.any() for mark in marks):
            return probs
        small = resize_area(probs, self.rows, self.columns)
        distances = self.distances(np.stack(marks), small) / (_REACH * max(self.rows, self.columns))
        kept, dropped = (
            np.maximum(reached, _ALIKE * self.likeness(mark, small))
            for reached, mark in zip(np.exp(-np.square(distances)), marks, strict=True)
        )
        nearer = kept / np.maximum(kept + dropped, 1e-9)
        push = _STRENGTH * (kept * nearer - dropped * (1 - nearer))
        size = probs.shape[::-1]
        push = cv2.resize(push.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        odds = to_log_odds(probs) + push
        spread = np.where(push == 0, probs, 1 / (1 + np.exp(-odds))).astype(np.float32)
        for mask, value in ((keep, 1), (drop, 0)):
            spread[shrink_marks(mask, *probs.shape)] = value
        return spread


def _step(here: np.ndarray, there: np.ndarray, straight: np.ndarray, right: np.ndarray, left: np.ndarray) -> None:
    """Let paths come from a neighbouring row: straight on, to the right and to the left."""
    np.minimum(here, there + straight, out=here)
    np.minimum(here[:, 1:], there[:, :-1] + right, out=here[:, 1:])
    np.minimum(here[:, :-1], there[:, 1:] + left, out=here[:, :-1])


def _pass_row(here: np.ndarray, along: np.ndarray) -> None:
    """Let paths run along a row, to both sides at once for all its cells; ``along`` is the cost from its start."""
    to_right = np.minimum.accumulate(here - along, axis=1) + along
    to_left = np.minimum.accumulate((here + along)[:, ::-1], axis=1)[:, ::-1] - along
    np.minimum(to_right, to_left, out=here)


def shrink_marks(mask: np.ndarray | None, rows: int, columns: int) -> np.ndarray:
    """Bring marks to another grid; none is lost.

    Args:
        mask: (H, W) bool, or None for no marks.
        rows: Height of the grid.
        columns: Width of the grid.

    Returns:
        (rows, columns) bool.
    """
    if mask is None:
        return np.zeros((rows, columns), bool)
    if rows > mask.shape[0] or columns > mask.shape[1]:
        return cv2.resize(mask.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
    at_row, at_column = np.nonzero(mask)
    small = np.zeros((rows, columns), bool)
    small[at_row * rows // mask.shape[0], at_column * columns // mask.shape[1]] = True
    return small
