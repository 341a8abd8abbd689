"""Turn arrays upright."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np

ArrayT = TypeVar("ArrayT", bound=np.ndarray)


def swaps_sides(orientation: int) -> bool:
    """Tell whether an orientation exchanges width and height."""
    return orientation in (5, 6, 7, 8)


def apply_orientation(array: ArrayT, orientation: int) -> ArrayT:
    """Turn or mirror an array so that it is seen as the camera meant it.

    Args:
        array: (H, W) or (H, W, C) array, uint8 or uint16.
        orientation: EXIF value 1 to 8.

    Returns:
        The upright array, contiguous; the same object for orientation 1.
    """
    if orientation == 1:
        return array
    source = np.ascontiguousarray(array)
    if orientation == 2:
        return cv2.flip(source, 1)  # type: ignore[return-value]
    if orientation == 3:
        return cv2.rotate(source, cv2.ROTATE_180)  # type: ignore[return-value]
    if orientation == 4:
        return cv2.flip(source, 0)  # type: ignore[return-value]
    if orientation == 5:
        return cv2.transpose(source)  # type: ignore[return-value]
    if orientation == 6:
        return cv2.rotate(source, cv2.ROTATE_90_CLOCKWISE)  # type: ignore[return-value]
    if orientation == 7:
        return cv2.flip(cv2.transpose(source), -1)  # type: ignore[return-value]
    return cv2.rotate(source, cv2.ROTATE_90_COUNTERCLOCKWISE)  # type: ignore[return-value]
