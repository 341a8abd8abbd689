"""Make pictures smaller, fast and without aliasing."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


def resize_area(array: npt.NDArray[Any], height_px: int, width_px: int) -> npt.NDArray[Any]:
    """Average an array down to a smaller size.

    Halving is several times faster than one resize by an odd factor, so it is done as long as it fits.

    Args:
        array: (H, W) or (H, W, C), uint8, uint16 or float32.
        height_px: New height.
        width_px: New width.

    Returns:
        (height_px, width_px[, C]) in the same dtype; an array that is small already is enlarged bilinearly.

    Raises:
        ValueError: A side of the new size is below 1.
    """
    if min(height_px, width_px) < 1:
        raise ValueError(f"a size of {width_px} × {height_px}: allowed is 1 × 1 or more")
    height, width = array.shape[:2]
    while height >= 4 * height_px and width >= 4 * width_px:
        height, width = (height + 1) // 2, (width + 1) // 2
        array = cv2.resize(array, (width, height), interpolation=cv2.INTER_LINEAR).reshape(
            height, width, *array.shape[2:]
        )
    way = cv2.INTER_AREA if height >= height_px and width >= width_px else cv2.INTER_LINEAR
    resized = cv2.resize(array, (width_px, height_px), interpolation=way)
    return np.asarray(resized).reshape(height_px, width_px, *array.shape[2:])


class SmallCopies:
    """Smaller copies of one picture, each computed once; they take little memory beside it."""

    def __init__(self) -> None:
        """Begin without one."""
        self._copies: dict[tuple[int, int], npt.NDArray[Any]] = {}

    def area(self, array: npt.NDArray[Any], height_px: int, width_px: int) -> npt.NDArray[Any]:
        """Return ``resize_area`` of the picture, which is the same one at every call; nobody may write to it."""
        size = (height_px, width_px)
        if size not in self._copies:
            self._copies[size] = resize_area(array, height_px, width_px)
        return self._copies[size]


def resize_within(image: npt.NDArray[Any], side_px: int) -> npt.NDArray[Any]:
    """Average a picture down until neither side is longer than ``side_px``; a small one stays as it is."""
    scale = min(1.0, side_px / max(image.shape[:2]))
    return resize_area(image, *(max(1, round(side * scale)) for side in image.shape[:2]))
