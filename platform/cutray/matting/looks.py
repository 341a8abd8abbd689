"""Several looks of the network at one photo, made into one map.

The network was trained at one input size and collapses away from it, so every look is at that size: at the frame,
at its mirror image, and at the subject's surroundings enlarged. What is doubtful, and not seen again there, is no
subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

# Probabilities are kept this far from 0 and 1, so that no single look outvotes all others for good.
_MARGIN = 1e-3
# A part of the subject counts if it holds this share of it; the box around all that count is widened by a share.
_PART, _ROOM = 0.05, 0.12
# A crop must be this small a part of the frame in one direction at least, else it shows nothing new ...
_NEW = 0.97
# ... and, to show detail, hold this many pixels per side of the network's input, else enlarging it would invent them.
_FULL = 0.5
# A subject is doubted if its mirror image shows next to nothing of it, or if it fills so much of a rectangle ...
_STEADY, _RECTANGLE = 0.1, 0.82
# ... and is none if a look at its surroundings finds less than this of it.
_FOUND = 0.08
# Two looks that overlap less than this speak of different things; the first one saw the whole scene.
_AGREEMENT = 0.6
# A first look within this distance of 0 or 1 is increasingly sure of itself, and is left alone.
_SURE = 0.1
# Share of the box over which the second look fades in from the sides that lie inside the frame.
_FADE = 0.08
# The joint map is at most this many times as fine as one look.
_FINEST = 3.0


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the frame in pixels, right and bottom not included."""

    left: int
    top: int
    right: int
    bottom: int

    def has_resolution(self, cells: int) -> bool:
        """Tell whether it has enough pixels for a look of so many cells per side to see more than from afar."""
        return min(self.bottom - self.top, self.right - self.left) >= _FULL * cells


@dataclass(frozen=True, slots=True)
class Seen:
    """What all looks together saw.

    Attributes:
        probs: (T, T) float32 in [0, 1], of the whole frame.
        cells: Cells along a side of a single look at the frame; T is larger where a second look was joined in.
    """

    probs: np.ndarray
    cells: int


def merge_views(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Average maps of the same scene as odds, in which a sure look weighs more than a doubtful one.

    Args:
        maps: (S, S) float32 in [0, 1] each; a single one comes back as it is.

    Returns:
        (S, S) float32 in [0, 1].
    """
    if len(maps) == 1:
        return maps[0]
    return _to_probs(np.mean([_to_logits(one) for one in maps], axis=0))


def crop_around_subject(probs: np.ndarray, height_px: int, width_px: int) -> Box | None:
    """Choose what a second look is worth.

    Args:
        probs: (S, S) float32 in [0, 1], the first look.
        height_px: Height of the photo.
        width_px: Width of the photo.

    Returns:
        The subject's surroundings, or None if there is no subject or it fills the frame.
    """
    side = probs.shape[0]
    count, labels = cv2.connectedComponents((probs > 0.5).astype(np.uint8))
    mass = np.bincount(labels.ravel(), weights=probs.ravel(), minlength=count)
    mass[0] = 0.0
    if count < 2:
        return None
    parts = (mass > _PART * mass.sum())[labels]
    rows, columns = np.flatnonzero(parts.any(axis=1)), np.flatnonzero(parts.any(axis=0))
    top, bottom = _widen(rows[0] / side, (rows[-1] + 1) / side, height_px)
    left, right = _widen(columns[0] / side, (columns[-1] + 1) / side, width_px)
    height, width = bottom - top, right - left
    if min(height / height_px, width / width_px) > _NEW:
        return None
    return Box(left, top, right, bottom)


def is_doubtful(first: np.ndarray, mirrored: np.ndarray) -> bool:
    """Tell whether the subject may be a false one: walls, floors and shelves are full of rectangles.

    Args:
        first: (S, S) float32 in [0, 1], a look at the frame.
        mirrored: (S, S) float32 in [0, 1], the look at its mirror image, mirrored back.
    """
    if max(first.max(), mirrored.max()) <= 0.5:
        return False
    if _overlap(first, mirrored) < _STEADY:
        return True
    _, labels, parts, _ = cv2.connectedComponentsWithStats((first > 0.5).astype(np.uint8))
    largest = 1 + int(parts[1:, cv2.CC_STAT_AREA].argmax())
    outline, _ = cv2.findContours((labels == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width, height = cv2.minAreaRect(outline[0])[1]
    # An outline runs through the centres of its cells, so that half a cell is missing on each side.
    return bool(parts[largest, cv2.CC_STAT_AREA] > _RECTANGLE * (width + 1) * (height + 1))


def is_confirmed(first: np.ndarray, second: np.ndarray, box: Box, height_px: int, width_px: int) -> bool:
    """Tell whether a look at its surroundings finds enough of the subject again.

    Args:
        first: (S, S) float32 in [0, 1], of the whole frame.
        second: (S, S) float32 in [0, 1], of the box.
        box: From ``crop_around_subject``.
        height_px: Height of the photo.
        width_px: Width of the photo.
    """
    rows, columns = first.shape[0] / height_px, first.shape[0] / width_px  # cells per pixel
    # Whole cells of the first look, so up to a cell more than the box: near enough for a share.
    window = first[
        int(box.top * rows) : int(np.ceil(box.bottom * rows)),
        int(box.left * columns) : int(np.ceil(box.right * columns)),
    ]
    subject = cv2.resize(window, second.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    return bool(second[subject].mean() >= _FOUND) if subject.any() else True


def blend_crop(first: np.ndarray, second: np.ndarray, box: Box, height_px: int, width_px: int) -> np.ndarray:
    """Let a second look settle what the first one was unsure of.

    Args:
        first: (S, S) float32 in [0, 1], of the whole frame.
        second: (S, S) float32 in [0, 1], of the box.
        box: From ``crop_around_subject``.
        height_px: Height of the photo.
        width_px: Width of the photo.

    Returns:
        (T, T) float32 in [0, 1], of the whole frame, with T at least S. The first look itself if the two disagree.
    """
    side = first.shape[0]
    shares = (box.bottom - box.top) / height_px, (box.right - box.left) / width_px
    fine = round(side * min(1.0 / min(shares), _FINEST))
    top, bottom = round(box.top / height_px * fine), max(1, round(box.bottom / height_px * fine))
    left, right = round(box.left / width_px * fine), max(1, round(box.right / width_px * fine))
    window = slice(min(top, bottom - 1), bottom), slice(min(left, right - 1), right)
    fused = np.clip(cv2.resize(first, (fine, fine), interpolation=cv2.INTER_CUBIC), 0.0, 1.0)
    old = fused[window]
    new = np.clip(cv2.resize(second, old.shape[::-1], interpolation=cv2.INTER_CUBIC), 0.0, 1.0)
    if _overlap(old, new) < _AGREEMENT:
        return first
    fade = np.minimum.outer(_ramp(window[0], fine), _ramp(window[1], fine))
    doubt = np.clip(np.minimum(old, 1.0 - old) / _SURE, 0.0, 1.0)
    both = merge_views([old, new])
    fused[window] = old + fade * doubt * (both - old)
    return np.asarray(fused, dtype=np.float32)


def _widen(start: float, stop: float, length_px: int) -> tuple[int, int]:
    """Turn a span in [0, 1] into whole pixels with room on both sides, within the photo."""
    room = _ROOM * (stop - start)
    return max(0, int((start - room) * length_px)), min(length_px, int(np.ceil((stop + room) * length_px)))


def _ramp(span: slice, length: int) -> np.ndarray:
    """Rise from 0 to 1 over the first and last cells of a span, but not at the ends of the frame."""
    size = span.stop - span.start
    at = np.arange(size, dtype=np.float32) + 0.5
    reach = max(1.0, _FADE * size)
    ramp = np.ones(size, np.float32)
    if span.start > 0:
        ramp = np.minimum(ramp, at / reach)
    if span.stop < length:
        ramp = np.minimum(ramp, at[::-1] / reach)
    return ramp


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two maps at one half."""
    one, two = first > 0.5, second > 0.5
    return float((one & two).sum() / max(1, (one | two).sum()))


def _to_logits(probs: np.ndarray) -> np.ndarray:
    """Logarithm of the odds."""
    safe = np.clip(probs, _MARGIN, 1.0 - _MARGIN)
    return np.asarray(np.log(safe / (1.0 - safe)))


def _to_probs(logits: np.ndarray) -> np.ndarray:
    """Probabilities, reaching from 0 to 1 although their logits were kept from the ends."""
    probs = 1.0 / (1.0 + np.exp(-logits))
    return np.asarray(np.clip((probs - _MARGIN) / (1.0 - 2.0 * _MARGIN), 0.0, 1.0), dtype=np.float32)
