"""One photo whose mask a person may correct: what the network saw of it is kept, so that a mark costs no new pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cutray.config import MattingSettings
from cutray.engines.base import ResidentPhoto
from cutray.hints import Hints, cut_box
from cutray.imaging.resize import SmallCopies, resize_area
from cutray.imaging.subject_box import Box
from cutray.matting.full_size import FullSizeArray
from cutray.matting.marks import Marks, MarkSpreader
from cutray.matting.matte import Matte, compute_matte
from cutray.sources import Photo
from cutray.tta import Prediction


class Edit:
    """The state that is kept of one photo."""

    def __init__(self, image: np.ndarray, settings: MattingSettings) -> None:
        """Begin without a prediction.

        Args:
            image: (H, W, 3) uint8, sRGB.
            settings: Levels, edges, refinement, and which subjects are wanted.
        """
        self._image = image
        self._settings = settings
        self._seen: dict[Box, Prediction] = {}
        self._spreaders: dict[Box, MarkSpreader] = {}
        self._copies: dict[Box, SmallCopies] = {}

    def missing_view(self, hints: Hints) -> np.ndarray | None:
        """Return the part of the photo that the network still has to look at, (h, w, 3) uint8, or None."""
        return None if hints.view in self._seen else cut_box(self._image, hints.view)

    def add(self, hints: Hints, prediction: Prediction) -> None:
        """Take the network's answer to ``missing_view``; that of an earlier box is given up."""
        whole = (0, 0, hints.width_px, hints.height_px)
        self._seen = {view: seen for view, seen in self._seen.items() if view == whole}
        self._seen[hints.view] = prediction

    def matte(self, hints: Hints) -> Matte:
        """Compute the alpha channel.

        Args:
            hints: What was said about the photo, all of it.

        Returns:
            The alpha channel: 1 wherever something is marked as kept, 0 where it is marked as dropped.
        """
        prediction, window = self._seen[hints.view], hints.window
        probs = _place(prediction.probs, hints.view, window)
        keep, drop = (None if mask is None else Marks(cut_box(mask, window)) for mask in (hints.keep, hints.drop))
        image = cut_box(self._image, window)
        if keep is not None or drop is not None:
            probs = self._spreader(window, image).spread(probs, keep, drop)
        wanted = None if keep is None else keep.downscale(*probs.shape)
        pixels = FullSizeArray(image, self._small(window))
        matte = compute_matte(image, probs, prediction.map_size, self._adapt(hints), wanted, pixels)
        for marks, value in ((keep, 1.0), (drop, 0.0)):
            if marks is not None:
                marks.write(matte.alpha, value)
        return _enlarge(matte, window, hints)

    def _adapt(self, hints: Hints) -> MattingSettings:
        """Whoever points at a subject knows that there is one; shares of the photo become shares of the window."""
        left, top, right, bottom = hints.window
        share = (right - left) * (bottom - top) / (hints.width_px * hints.height_px)
        changes = {"min_area": min(100.0, self._settings.min_area / share)}
        if hints.box is not None or hints.keep is not None:
            changes |= {"min_confidence": 0.0, "min_area_fraction": 0.0}
        return self._settings.model_copy(update=changes)

    def _spreader(self, window: Box, image: np.ndarray) -> MarkSpreader:
        """Return what spreads marks in a part of the photo; only the last one is kept."""
        if window not in self._spreaders:
            self._spreaders = {window: MarkSpreader(image)}
        return self._spreaders[window]

    def _small(self, window: Box) -> SmallCopies:
        """Return the smaller copies of a part of the photo; only those of the last one are kept."""
        if window not in self._copies:
            self._copies = {window: SmallCopies()}
        return self._copies[window]


def _place(probs: np.ndarray, view: Box, window: Box) -> np.ndarray:
    """Bring the map of a view to the window, which holds it; what the network has not seen is background."""
    if view == window:
        return probs
    side = probs.shape[0]
    across, down = side / (window[2] - window[0]), side / (window[3] - window[1])
    # A view that is tiny beside its window still takes a cell.
    left, top = (min(side - 1, round((view[i] - window[i]) * by)) for i, by in ((0, across), (1, down)))
    right, bottom = (
        max(left + 1, round((view[2] - window[0]) * across)),
        max(top + 1, round((view[3] - window[1]) * down)),
    )
    placed = np.zeros_like(probs)
    placed[top:bottom, left:right] = resize_area(probs, bottom - top, right - left)
    return placed


def _enlarge(matte: Matte, window: Box, hints: Hints) -> Matte:
    """Bring what was found in the window to the whole photo."""
    left, top, right, bottom = window
    if (right - left, bottom - top) == (hints.width_px, hints.height_px):
        return matte
    alpha = np.zeros((hints.height_px, hints.width_px), np.float32)
    alpha[top:bottom, left:right] = matte.alpha
    share = (right - left) * (bottom - top) / alpha.size
    objects = tuple(one.moved(left, top, share) for one in matte.objects)
    subject = replace(matte.subject, area_fraction=matte.subject.area_fraction * share)
    return replace(matte, alpha=alpha, subject=subject, objects=objects)


def matte_photo(
    photo: Photo, prediction: Prediction, settings: MattingSettings, resident: ResidentPhoto | None = None
) -> Matte:
    """Compute the alpha channel of a photo, by the hints that came with it if there are any.

    Args:
        photo: From ``decode_source``.
        prediction: The network's answer to ``photo.view``.
        settings: Levels, edges, refinement, and which subjects are wanted.
        resident: The same photo where an engine keeps it; of use without hints.
    """
    if photo.hints is None:
        return compute_matte(photo.flattened, prediction.probs, prediction.map_size, settings, pixels=resident)
    edit = Edit(photo.flattened, settings)
    edit.add(photo.hints, prediction)
    return edit.matte(photo.hints)
