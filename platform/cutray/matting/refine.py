"""Runs an edge refiner: a small learned network that redraws the large network's map by the photo's own pixels.

No refiner is part of the package: none has measured better than `edges` yet, see docs/decisions/edge-refiner.md.
`python -m pipelines.train_refiner` makes one, and `cutray bench edges --refiner` measures it.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cutray.errors import WeightsError
from cutray.imaging.resize import shrink
from cutray.matting.alpha import stretch_levels

# Sides of what the network sees are multiples of this.
_STRIDE_PX = 16
# How much the coarse alpha counts of its own in the logits; the network is trained with it.
_PULL = 2.0
# A sigmoid never quite reaches 0 or 1: what is this near becomes it.
_HAZE = 0.03


class Refiner:
    """A trained refiner, run by OpenCV; not to be shared by threads."""

    def __init__(self, path: Path) -> None:
        """Read the file that ``export_refiner`` made.

        Raises:
            WeightsError: It cannot be read, or is not such a file.
        """
        try:
            self._network = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), np.uint8))
        except (OSError, cv2.error) as error:
            raise WeightsError(
                got=f"{path} is no edge refiner: {str(error).strip().splitlines()[-1]}",
                allowed="a file from `python -m pipelines.train_refiner`",
            ) from error

    def draw(self, levelled: np.ndarray, image: np.ndarray, work_side_px: float) -> np.ndarray:
        """Draw a photo's alpha at working size and bring it to full size.

        Args:
            levelled: (T, T) float32, from ``level_probs``.
            image: (H, W, 3) uint8, sRGB.
            work_side_px: Side of a square with about as many pixels as the network sees.

        Returns:
            (H, W) float32 in [0, 1].
        """
        height, width = image.shape[:2]
        rows, columns = work_size(height, width, work_side_px)
        small = self.redraw(shrink(image, rows, columns), stretch_levels(levelled, rows, columns))
        spread = (small - _HAZE) / (1 - 2 * _HAZE)
        return stretch_levels(np.asarray(spread, np.float32), height, width)

    def redraw(self, image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Draw alpha anew.

        Args:
            image: (H, W, 3) uint8, sRGB; H and W multiples of 16.
            coarse: (H, W) float32 in [0, 1].

        Returns:
            (H, W) float32 between 0 and 1, which are never quite reached.
        """
        rows, columns = coarse.shape[0] // 2, coarse.shape[1] // 2
        planes = np.dstack([image.astype(np.float32) / np.float32(255), coarse]) - np.float32(0.5)
        folded = planes.reshape(rows, 2, columns, 2, 4).transpose(4, 1, 3, 0, 2).reshape(1, 16, rows, columns)
        self._network.setInput(np.ascontiguousarray(folded))
        change = self._network.forward()[0].reshape(2, 2, rows, columns).transpose(2, 0, 3, 1).reshape(coarse.shape)
        return np.asarray(1 / (1 + np.exp(-change - _PULL * (coarse - np.float32(0.5)))), np.float32)


def work_size(height_px: int, width_px: int, work_side_px: float) -> tuple[int, int]:
    """Return the height and width that a photo is redrawn at: about as many pixels as a square of that side."""
    scale = min(1.0, work_side_px / float(np.sqrt(height_px * width_px)))
    rows, columns = (max(1, round(side * scale / _STRIDE_PX)) * _STRIDE_PX for side in (height_px, width_px))
    return rows, columns
