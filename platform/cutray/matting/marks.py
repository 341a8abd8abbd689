"""Marks of a person spread over the network's map, along the photo's own edges.

A mark speaks for all places that can be reached from it without crossing an edge of the photo or of the map. How far a
place is from a mark is the length of the shortest path between them, on which steps across edges cost more; of two
marks the nearer one in this sense decides. What looks like a mark, has the map's value of the mark and is not far away
belongs to it, too, even across an edge. Away from all marks the map stays what it was.

How far a mark reaches depends on how far it lies from the outline that the map has drawn: close to it, a sliver is
meant; deep inside of what the map took for background or subject, a whole part is.

Source: geodesic distances by raster scans, Criminisi et al. 2008, "GeoS: Geodesic Image Segmentation".
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cutray.imaging.resize import resize_area
from cutray.log_odds import to_log_odds

# Side of the grid on which marks spread, in cells.
_GRID = 160
# Cost of a step across a whole change of colour (100 in CIELAB), and of the map, in steps of a grid of 240 cells.
_EDGE_COST, _MAP_COST, _COST_GRID = 60.0, 60.0, 240
# Reach of a mark, as a share of the longer side: so many times its distance from the map's outline, within limits.
_REACH_PER_DEPTH, _LEAST_REACH, _MOST_REACH = 6.0, 0.05, 0.3
# Marks whose reach differs by less than this factor spread together.
_SAME_REACH = 1.35
# Log odds that a mark outweighs.
_STRENGTH = 17.0
# How much firmer the map becomes where marks speak, which they do from this share of their strength on.
_FIRMNESS, _SPEAKS = 4.0, 0.25
# What looks like a mark: weight beside what is reached from it, and standard deviations of colour (100 in CIELAB), of
# the map, and of the place as a share of the longer side. Only the largest strokes are compared with.
_ALIKE, _COLOR_SIGMA, _MAP_SIGMA, _PLACE_SIGMA, _MOST_STROKES = 0.6, 0.14, 0.15, 0.2, 16
_SWEEPS = 2


class Marks:
    """Pixels of a photo that are marked as one kind."""

    def __init__(self, mask: np.ndarray) -> None:
        """Find them, once for all that needs them.

        Args:
            mask: (H, W) bool.
        """
        self._mask = mask
        marked = np.flatnonzero(mask.any(axis=1))
        top, bottom = (int(marked[0]), int(marked[-1]) + 1) if marked.size else (0, 0)
        rows, self._columns = np.nonzero(mask[top:bottom])
        self._rows = rows + top

    def downscale(self, rows: int, columns: int) -> np.ndarray:
        """Bring them to another grid, (rows, columns) bool; none is lost."""
        height, width = self._mask.shape
        here = min(rows, height), min(columns, width)  # one side may be smaller there, and the other larger
        cells = np.zeros(here, np.uint8)
        cells[self._rows * here[0] // height, self._columns * here[1] // width] = 1
        if here != (rows, columns):
            cells = cv2.resize(cells, (columns, rows), interpolation=cv2.INTER_NEAREST)
        return np.asarray(cells > 0)

    def write(self, array: np.ndarray, value: float) -> None:
        """Set them in an array of the photo's size."""
        array[self._rows, self._columns] = value


@dataclass(frozen=True, slots=True)
class _Stroke:
    """Marks of one kind that reach equally far, on the grid.

    Attributes:
        keeps: Whether they are the subject's.
        reach: As a share of the longer side.
        cells: (rows, columns) bool.
    """

    keeps: bool
    reach: float
    cells: np.ndarray


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
        self._places = places / np.float32(max(self.rows, self.columns))

    def distances(self, marks: np.ndarray, probs: np.ndarray) -> np.ndarray:
        """Measure the shortest paths from several sets of marks.

        Args:
            marks: (N, rows, columns) bool.
            probs: (rows, columns) float32 in [0, 1], the map.

        Returns:
            (N, rows, columns) float64, in steps of an even area; infinite where there are no marks.
        """
        share = np.float32(max(self.rows, self.columns) / _COST_GRID)  # of the steps that a path has on that grid
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

    def likeness(self, stroke: np.ndarray, probs: np.ndarray, reach: float) -> np.ndarray:
        """Tell how much each place is like one of some strokes.

        Args:
            stroke: (rows, columns) bool.
            probs: (rows, columns) float32 in [0, 1], the map.
            reach: How far the strokes reach, as a share of the longer side.

        Returns:
            (rows, columns) float32 in [0, 1].
        """
        share = np.float32(reach / _MOST_REACH)
        sigmas = np.float32(_COLOR_SIGMA), np.float32(_MAP_SIGMA), np.float32(_PLACE_SIGMA) * share
        looks = np.dstack([self._lab / sigmas[0], probs / sigmas[1], self._places / sigmas[2]])
        count, labels, parts, _ = cv2.connectedComponentsWithStats(stroke.astype(np.uint8))
        likest = np.zeros(stroke.shape, np.float32)
        for label in sorted(range(1, count), key=lambda one: -parts[one, cv2.CC_STAT_AREA])[:_MOST_STROKES]:
            difference = np.square(looks - looks[labels == label].mean(axis=0)).sum(axis=-1)
            np.maximum(likest, np.exp(-difference / 2), out=likest)
        return likest * share

    def spread(self, probs: np.ndarray, keep: Marks | None, drop: Marks | None) -> np.ndarray:
        """Correct a map by marks.

        Args:
            probs: (h, w) float32 in [0, 1], of the photo.
            keep: What is marked as the subject, or None.
            drop: What is marked as background, or None.

        Returns:
            (h, w) float32 in [0, 1]: 1 at marks of the subject, 0 at those of the background.
        """
        small = resize_area(probs, self.rows, self.columns)
        strokes = self._strokes(small, keep, drop)
        if not strokes:
            return probs
        distances = self.distances(np.stack([stroke.cells for stroke in strokes]), small)
        kept, dropped = np.zeros(small.shape), np.zeros(small.shape)
        for stroke, distance in zip(strokes, distances, strict=True):
            hold = kept if stroke.keeps else dropped
            reached = np.exp(-np.square(distance / (stroke.reach * max(self.rows, self.columns))))
            alike = _ALIKE * self.likeness(stroke.cells, small, stroke.reach)
            np.maximum(hold, np.maximum(reached, alike), out=hold)
        nearer = kept / np.maximum(kept + dropped, 1e-9)
        push = _STRENGTH * (kept * nearer - dropped * (1 - nearer))
        stretched = cv2.resize(push.astype(np.float32), probs.shape[::-1], interpolation=cv2.INTER_LINEAR)
        # Where marks speak, their area ends with an outline, not in a haze.
        firmness = 1 + _FIRMNESS * np.minimum(1, np.abs(stretched) / (_SPEAKS * _STRENGTH))
        odds = (to_log_odds(probs) + stretched) * firmness
        spread = np.where(stretched == 0, probs, 1 / (1 + np.exp(-np.clip(odds, -50, 50)))).astype(np.float32)
        for marks, value in ((keep, 1), (drop, 0)):
            if marks is not None:
                spread[marks.downscale(*probs.shape)] = value
        return spread

    def _strokes(self, probs: np.ndarray, keep: Marks | None, drop: Marks | None) -> list[_Stroke]:
        """Group the marks by kind and reach."""
        depth = _depth(probs > 0.5)
        found: dict[tuple[bool, int], np.ndarray] = {}
        for keeps, marks in ((True, keep), (False, drop)):
            if marks is None:
                continue
            count, found_labels = cv2.connectedComponents(marks.downscale(self.rows, self.columns).astype(np.uint8))
            labels = np.asarray(found_labels, np.intp)
            deepest = np.zeros(count)
            np.maximum.at(deepest, labels.ravel(), depth.ravel())
            reach = np.clip(_REACH_PER_DEPTH * deepest, _LEAST_REACH, _MOST_REACH)
            classes = np.rint(np.log(reach / _MOST_REACH) / np.log(_SAME_REACH)).astype(int)
            for one in set(classes[1:].tolist()):
                found[keeps, one] = (labels > 0) & (classes == one)[labels]
        return [_Stroke(keeps, _MOST_REACH * _SAME_REACH**one, cells) for (keeps, one), cells in found.items()]


def _depth(subject: np.ndarray) -> np.ndarray:
    """Measure how far each place is from the outline between subject and background.

    Args:
        subject: (rows, columns) bool.

    Returns:
        (rows, columns) float32, as a share of the longer side; the frame is no outline.
    """
    framed = cv2.copyMakeBorder(subject.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    inside, outside = (cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_5) for part in (framed, 1 - framed))
    return np.asarray(np.maximum(inside, outside)[1:-1, 1:-1] / np.float32(max(subject.shape)))


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
