"""Reads the EXIF orientation tag and turns arrays upright."""

from __future__ import annotations

import struct
from typing import TypeVar

import cv2
import numpy as np

_ORIENTATION_TAG = 0x0112
_SHORT = 3

ArrayT = TypeVar("ArrayT", bound=np.ndarray)


def read_orientation(exif: bytes | None) -> int:
    """Find the orientation in a block of EXIF data.

    Source: EXIF 2.32, section 4.6.4 (tag 0x0112), in the TIFF 6.0 structure of section 2.

    Args:
        exif: The block, with or without its ``Exif`` prefix, or None.

    Returns:
        1 to 8; 1 when there is no tag or its value means nothing.
    """
    if not exif:
        return 1
    tiff = exif[6:] if exif.startswith(b"Exif\x00") else exif
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(bytes(tiff[:4]))
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(min(count, 1000)):
            tag, kind, number, value = struct.unpack_from(order + "HHIH", tiff, at + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return value if kind == _SHORT and number == 1 and 1 <= value <= 8 else 1
    except struct.error:
        return 1  # offsets beyond the block: a damaged tag is no reason to refuse the picture
    return 1


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
