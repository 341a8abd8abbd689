"""Test-time augmentation: several views of one photo through the network, merged into one map.

The network was trained at one input size and fails far from it, so every view has that size: the frame, its mirror
image, and a crop around the subject enlarged. A doubtful subject has to be found again in the crop, else it is none.
Adaptive effort leaves out the mirror image where the network is sure of the frame, which it is for most photos.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cutray.config import Effort, MattingSettings
from cutray.engines.base import Engine, ResidentEngine, ResidentPhoto
from cutray.errors import EngineError
from cutray.imaging.subject_box import Box
from cutray.log_odds import average
from cutray.models.catalog import ModelSpec
from cutray.preprocess import ArrayViews, ResidentViews, View
from cutray.segmenter import Segmenter

# A part of the subject counts if it holds this share of it. The crop around all that count is widened by a share.
_PART, _ROOM = 0.05, 0.12
# A crop must be this small a part of the frame in one direction at least, else it shows nothing new.
_NEW = 0.97
# To show detail it must hold this many pixels per cell of the map, else enlarging would invent them.
_FULL = 0.5
# A frame is settled if so few cells, as a share of the subject's, are between the two probabilities.
_UNSETTLED, _UNSURE_FROM, _UNSURE_TO = 0.06, 0.25, 0.75
# A subject is doubtful if its mirror image shows next to nothing of it, or if it fills so much of a rectangle.
_STEADY, _RECTANGLE = 0.1, 0.82
# A doubtful subject is none if the crop shows less than this of it.
_FOUND = 0.08
# Two views that overlap less than this disagree; the frame's view stands, because it has the whole scene.
_AGREEMENT = 0.6
# The frame's view is left alone where it is sure. Within this distance of 0 or 1 it counts as increasingly sure.
_SURE = 0.1
# Share of the crop over which it fades in from the sides that lie inside the frame.
_FADE = 0.08
# The blended map is at most this many times as fine as that of one view.
_FINEST = 3.0


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the frame in pixels, right and bottom not included."""

    left: int
    top: int
    right: int
    bottom: int

    def has_resolution(self, map_size: int) -> bool:
        """Tell whether it has enough pixels for a view of ``map_size`` cells per side to show more detail."""
        return min(self.bottom - self.top, self.right - self.left) >= _FULL * map_size


@dataclass(frozen=True, slots=True)
class Prediction:
    """The network's answer for a photo, all views together.

    Attributes:
        probs: (T, T) float32 in [0, 1], of the whole frame.
        map_size: Cells along a side of a single view of the frame; T is larger where a crop was blended in.
        looks: How many views the network ran on.
        agreement: Overlap (IoU) of what the frame and its mirror image show, in [0, 1]; 1 where only one was seen.
    """

    probs: np.ndarray
    map_size: int
    looks: int
    agreement: float = 1.0


class TTARunner:
    """The views of one photo, batch by batch. It never calls the network, which may run in another process.

    Attributes:
        next_batch: (N, 3, S, S) float32, what the network is to run on next; None when the result is there. On the
            device of an engine that keeps the photo there.
    """

    next_batch: Any

    def __init__(
        self, image: np.ndarray, spec: ModelSpec, settings: MattingSettings, resident: ResidentPhoto | None = None
    ) -> None:
        """Prepare the first batch.

        Args:
            image: (H, W, 3) uint8, sRGB.
            spec: What the network was trained to see.
            settings: How many views.
            resident: The same photo where an engine keeps it.
        """
        self._result: Prediction | None = None
        self._views = (
            ArrayViews(image, spec, compat=settings.compat) if resident is None else ResidentViews(resident, spec)
        )
        effort = settings.effort_of(ensemble=spec.architecture == "ensemble")
        self._wanted = _run_views(image.shape[0], image.shape[1], effort, settings.min_confidence)
        self.next_batch = self._views.batch(next(self._wanted))

    def update(self, maps: np.ndarray) -> None:
        """Take the network's answer to ``next_batch`` and prepare the batch after it.

        Args:
            maps: (N, S, S) float32 in [0, 1].
        """
        try:
            self.next_batch = self._views.batch(self._wanted.send(maps))
        except StopIteration as end:
            self.next_batch, self._result = None, end.value

    @property
    def result(self) -> Prediction:
        """The prediction, once ``next_batch`` is None.

        Raises:
            EngineError: The network has not run on everything yet.
        """
        if self._result is None:
            raise EngineError(
                got="the network has not run on all views yet", fix="call `update` until `next_batch` is None"
            )
        return self._result


def predict(
    images: Sequence[np.ndarray],
    segmenter: Segmenter,
    settings: MattingSettings,
    batch_size: int,
    residents: Sequence[ResidentPhoto | None] | None = None,
) -> list[Prediction]:
    """Run the network on all views of some photos; views of several photos share forward passes.

    Args:
        images: (H, W, 3) uint8 sRGB each, sizes may differ.
        segmenter: The loaded network.
        settings: How many views.
        batch_size: Most views in one forward pass.
        residents: The same photos where the engine keeps them, or None for those that it does not keep.

    Returns:
        One prediction for each photo.

    Raises:
        EngineError: The network failed.
    """
    spec = segmenter.weights.spec
    # Views of one pass lie in one place: on the device all of them, or none.
    kept = residents if residents and None not in residents else [None] * len(images)
    runners = [TTARunner(image, spec, settings, one) for image, one in zip(images, kept, strict=True)]
    while waiting := [(runner, runner.next_batch) for runner in runners if runner.next_batch is not None]:
        maps = _run_network(segmenter.engine, [batch for _, batch in waiting], batch_size)
        for runner, batch in waiting:
            runner.update(maps[: len(batch)])
            maps = maps[len(batch) :]
    return [runner.result for runner in runners]


def _run_network(engine: Engine, batches: Sequence[Any], batch_size: int) -> np.ndarray:
    """Run the network on batches that are all arrays, or all on the engine's device."""
    if not isinstance(batches[0], np.ndarray) and isinstance(engine, ResidentEngine):
        return engine.infer_resident(batches, batch_size)
    views = np.concatenate(batches)
    starts = range(0, len(views), batch_size)
    return np.concatenate([engine.infer(views[start : start + batch_size]) for start in starts])


def _run_views(
    height: int, width: int, effort: Effort, min_confidence: float
) -> Generator[list[View], np.ndarray, Prediction]:
    """Yield the views of the frame, then those of a crop if it is asked for or the subject is doubtful."""

    def both(box: Box | None) -> Generator[list[View], np.ndarray, list[np.ndarray]]:
        maps = yield [View(box), View(box, mirrored=True)]
        return [maps[0], maps[1][:, ::-1]]

    if effort.looks == 1 or effort.adaptive:
        (frame,) = yield [View()]
        if effort.looks == 1 or is_settled(frame):
            return Prediction(frame, frame.shape[0], looks=1)
        (mirrored,) = yield [View(mirrored=True)]
        each = [frame, mirrored[:, ::-1]]
    else:
        each = yield from both(None)
    frame = average(each)
    map_size, agreement = frame.shape[0], mask_agreement(*each)
    crop = crop_around_subject(frame, height, width)
    if crop is None:
        return Prediction(frame, map_size, 2, agreement)
    blends = effort.looks == 4 and crop.has_resolution(map_size)
    doubtful = is_doubtful(frame=each[0], mirrored=each[1])
    if not (blends or doubtful):
        return Prediction(frame, map_size, 2, agreement)
    closer = average((yield from both((crop.left, crop.top, crop.right, crop.bottom))))
    # With a lowest confidence of 0 any subject will do, as where somebody has drawn a box around it.
    if doubtful and min_confidence > 0 and not is_confirmed(frame, closer, crop, height, width):
        return Prediction(np.zeros_like(frame), map_size, 4, agreement)
    return Prediction(blend_crop(frame, closer, crop, height, width) if blends else frame, map_size, 4, agreement)


def crop_around_subject(probs: np.ndarray, height_px: int, width_px: int) -> Crop | None:
    """Choose the crop that is worth a closer view.

    Args:
        probs: (S, S) float32 in [0, 1], of the whole frame.
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
    return Crop(left, top, right, bottom)


def is_settled(frame: np.ndarray) -> bool:
    """Tell whether the frame's view needs no other one: it shows a subject that may not be a false one, and is sure.

    Args:
        frame: (S, S) float32 in [0, 1], of the frame.
    """
    subject = int((frame > 0.5).sum())
    unsure = int(((frame > _UNSURE_FROM) & (frame < _UNSURE_TO)).sum())
    return subject > 0 and unsure < _UNSETTLED * subject and not _is_rectangle(frame)


def is_doubtful(frame: np.ndarray, mirrored: np.ndarray) -> bool:
    """Tell whether the subject may be a false one: walls, floors and shelves are full of rectangles.

    Args:
        frame: (S, S) float32 in [0, 1], of the frame.
        mirrored: (S, S) float32 in [0, 1], of the mirror image, mirrored back.
    """
    if max(frame.max(), mirrored.max()) <= 0.5:
        return False
    return _iou(frame, mirrored) < _STEADY or _is_rectangle(frame)


def is_confirmed(frame: np.ndarray, closer: np.ndarray, crop: Crop, height_px: int, width_px: int) -> bool:
    """Tell whether the view of the crop finds enough of the subject again.

    Args:
        frame: (S, S) float32 in [0, 1], of the whole frame.
        closer: (S, S) float32 in [0, 1], of the crop.
        crop: From ``crop_around_subject``.
        height_px: Height of the photo.
        width_px: Width of the photo.
    """
    rows, columns = frame.shape[0] / height_px, frame.shape[0] / width_px  # cells per pixel
    # Whole cells of the frame's map, so up to a cell more than the crop: near enough for a share.
    window = frame[
        int(crop.top * rows) : int(np.ceil(crop.bottom * rows)),
        int(crop.left * columns) : int(np.ceil(crop.right * columns)),
    ]
    subject = cv2.resize(window, closer.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    return bool(closer[subject].mean() >= _FOUND) if subject.any() else True


def blend_crop(frame: np.ndarray, closer: np.ndarray, crop: Crop, height_px: int, width_px: int) -> np.ndarray:
    """Let the view of a crop settle what that of the frame is unsure of.

    Args:
        frame: (S, S) float32 in [0, 1], of the whole frame.
        closer: (S, S) float32 in [0, 1], of the crop.
        crop: From ``crop_around_subject``.
        height_px: Height of the photo.
        width_px: Width of the photo.

    Returns:
        (T, T) float32 in [0, 1], of the whole frame, with T at least S; ``frame`` itself if the two disagree.
    """
    side = frame.shape[0]
    shares = (crop.bottom - crop.top) / height_px, (crop.right - crop.left) / width_px
    fine = round(side * min(1.0 / min(shares), _FINEST))
    top, bottom = round(crop.top / height_px * fine), max(1, round(crop.bottom / height_px * fine))
    left, right = round(crop.left / width_px * fine), max(1, round(crop.right / width_px * fine))
    window = slice(min(top, bottom - 1), bottom), slice(min(left, right - 1), right)
    fused = np.clip(cv2.resize(frame, (fine, fine), interpolation=cv2.INTER_CUBIC), 0.0, 1.0)
    old = fused[window]
    new = np.clip(cv2.resize(closer, old.shape[::-1], interpolation=cv2.INTER_CUBIC), 0.0, 1.0)
    if _iou(old, new) < _AGREEMENT:
        return frame
    fade = np.minimum.outer(_ramp(window[0], fine), _ramp(window[1], fine))
    doubt = np.clip(np.minimum(old, 1.0 - old) / _SURE, 0.0, 1.0)
    both = average([old, new])
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


def _is_rectangle(probs: np.ndarray) -> bool:
    """Tell whether the largest part of the subject fills nearly all of a rectangle, which may be turned."""
    _, labels, parts, _ = cv2.connectedComponentsWithStats((probs > 0.5).astype(np.uint8))
    if len(parts) < 2:
        return False
    largest = 1 + int(parts[1:, cv2.CC_STAT_AREA].argmax())
    outline, _ = cv2.findContours((labels == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width, height = cv2.minAreaRect(outline[0])[1]
    # An outline runs through the centres of its cells, so that half a cell is missing on each side.
    return bool(parts[largest, cv2.CC_STAT_AREA] > _RECTANGLE * (width + 1) * (height + 1))


def mask_agreement(one: np.ndarray, two: np.ndarray) -> float:
    """Return the overlap (IoU) of two maps of a size, in [0, 1]; two that show nothing agree."""
    return _iou(one, two) if max(one.max(), two.max()) > 0.5 else 1.0


def _iou(one: np.ndarray, two: np.ndarray) -> float:
    """Intersection over union of two maps at one half."""
    first, second = one > 0.5, two > 0.5
    return float((first & second).sum() / max(1, (first | second).sum()))
