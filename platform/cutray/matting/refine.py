"""Fine detail and texture: a small network predicts the alpha of hair, fur, lace and mesh anew.

It predicts an alpha at working size and, for each pixel, how likely that one is better than the given one. Near the
outline it is used as it is. Inside a subject it is used only where that is known to be full of holes, because it takes
a smooth solid body for glass too easily. Its model card is docs/models/edge-refiner.md.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from cutray.errors import WeightsError
from cutray.imaging.resize import resize_area

# What `python -m pipelines.train_refiner` made; its model card is docs/models/edge-refiner.md.
WEIGHTS = Path(__file__).with_name("refiner.onnx")
# Side of a square with about as many pixels as the network sees, and what its sides are multiples of.
WORK_SIDE_PX, _STRIDE_PX = 480.0, 16
# OpenCV's network reads beyond its memory on narrower pictures.
_LEAST_STRIDES = 2
# How likely better the predicted alpha must be: from the first value on it counts, from the second on alone.
_DOUBTFUL, _LIKELY = 0.1, 0.5
# Near the outline is within this many pixels at working size, fading out over as many again.
_NEAR_PX = 12
# Corrections below this are none: a sure alpha stays exactly 0 or 1. What is corrected and this near to them becomes
# one of them.
_NONE = 0.03
# Rows handled at once.
_ROWS = 64

Region = Literal["edges", "everywhere", "unconditional"]


class Refiner:
    """A trained refiner, run by OpenCV; may be shared by threads."""

    def __init__(self, path: Path = WEIGHTS) -> None:
        """Read the file that ``export_refiner`` made.

        Raises:
            WeightsError: It cannot be read, or is not such a file.
        """
        try:
            self._file = np.frombuffer(path.read_bytes(), np.uint8)
            self._own = threading.local()  # OpenCV's networks remember their input
            self._own.network = cv2.dnn.readNetFromONNX(self._file)
        except (OSError, cv2.error) as error:
            raise WeightsError(
                got=f"{path} is no edge refiner: {str(error).strip().splitlines()[-1]}",
                allowed="a file from `python -m pipelines.train_refiner`",
            ) from error

    def correct(
        self, alpha: np.ndarray, image: np.ndarray, where: Region, work_side_px: float = WORK_SIDE_PX
    ) -> np.ndarray:
        """Correct a photo's alpha, seen at working size.

        Args:
            alpha: (H, W) float32 in [0, 1].
            image: (H, W, 3) uint8, sRGB.
            where: Which pixels are replaced: those near the outline that are likely better (edges), all that are
                likely better (everywhere), or all of them (unconditional).
            work_side_px: Side of a square with about as many pixels as the network sees.

        Returns:
            (H, W) float32 in [0, 1]; the same as before wherever nothing is to be corrected.
        """
        height, width = alpha.shape
        rows, columns = work_size(height, width, work_side_px)
        small = np.clip(resize_area(alpha, rows, columns), 0, 1)
        predicted, better = self.predict(resize_area(image, rows, columns), small)
        change = predicted - small
        if where != "unconditional":
            change *= np.clip((better - _DOUBTFUL) / (_LIKELY - _DOUBTFUL), 0, 1)
        if where == "edges":
            change *= _nearness(small)
        change[np.abs(change) < _NONE] = 0
        corrected = alpha.copy()
        stretched = cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR)
        for top in range(0, height, _ROWS):
            part, added = corrected[top : top + _ROWS], stretched[top : top + _ROWS]
            if added.any():
                np.copyto(part, np.clip((part + added - _NONE) / (1 - 2 * _NONE), 0, 1), where=added != 0)
        return corrected

    def predict(self, image: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network on a photo and its alpha.

        Args:
            image: (H, W, 3) uint8, sRGB; H and W multiples of 16.
            alpha: (H, W) float32 in [0, 1].

        Returns:
            The predicted alpha, and how likely it is better than the given one; both (H, W) float32 in [0, 1].
        """
        rows, columns = alpha.shape[0] // 2, alpha.shape[1] // 2
        planes = np.dstack([image.astype(np.float32) / np.float32(255), alpha]) - np.float32(0.5)
        folded = planes.reshape(rows, 2, columns, 2, 4).transpose(4, 1, 3, 0, 2).reshape(1, 16, rows, columns)
        if not hasattr(self._own, "network"):
            self._own.network = cv2.dnn.readNetFromONNX(self._file)
        self._own.network.setInput(np.ascontiguousarray(folded))
        predicted, better = (
            one[0].reshape(2, 2, rows, columns).transpose(2, 0, 3, 1).reshape(alpha.shape)
            for one in self._own.network.forward(("drawn", "better"))
        )
        return predicted, better


@cache
def built_in_refiner() -> Refiner:
    """Return the refiner that is part of the package, read once per process."""
    return Refiner()


def work_size(height_px: int, width_px: int, work_side_px: float = WORK_SIDE_PX) -> tuple[int, int]:
    """Return the height and width that a photo is refined at: about as many pixels as a square of that side."""
    scale = min(1.0, work_side_px / float(np.sqrt(height_px * width_px)))
    rows, columns = (
        max(_LEAST_STRIDES, round(side * scale / _STRIDE_PX)) * _STRIDE_PX for side in (height_px, width_px)
    )
    return rows, columns


def _nearness(alpha: np.ndarray) -> np.ndarray:
    """Return 1 near the outline of an alpha, falling to 0 away from it, (h, w) float32."""
    outline = cv2.morphologyEx((alpha > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    distance = cv2.distanceTransform(1 - outline, cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(np.clip(2 - distance / _NEAR_PX, 0, 1), np.float32)
