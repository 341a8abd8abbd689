"""Put a part of a cutout on its canvas, resized."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from cutray.imaging.layout import Layout
from cutray.imaging.resize import resize_area

# What full opacity is while resizing. Smooth enlargement overshoots at edges, and needs room for it.
_FULL, _FULL_ENLARGED = 65_535, 32_767
_STRIP_ROWS = 256


def place_alpha(alpha: np.ndarray, layout: Layout) -> np.ndarray:
    """Put an alpha channel alone on its canvas.

    Args:
        alpha: (h, w) float32 in [0, 1], of the layout's window.
        layout: Where it goes.

    Returns:
        (H, W) float32 in [0, 1]; the array itself if it is the whole canvas.
    """
    if layout.is_window:
        return alpha
    return _paste(np.clip(_resize(alpha, layout), 0, 1), layout)


def place_cutout(foreground: np.ndarray, alpha: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Put a cutout on its canvas.

    Args:
        foreground: (h, w, 3) uint8 or uint16, the subject's own colours in the layout's window.
        alpha: (h, w) float32 in [0, 1].
        layout: Where it goes.

    Returns:
        (H, W, 3) colours in the same dtype and (H, W) alpha; the arrays themselves if they are the whole canvas.
        Colours are multiplied by alpha while they are resized, so that what nobody sees leaves no dark fringe.

    Source: Porter and Duff, Compositing Digital Images (1984), section 3: premultiplied colours are what filters take.
    """
    if layout.is_window:
        return foreground, alpha
    if layout.resizes_to == layout.window_size:
        return _paste(foreground, layout), _paste(alpha, layout)
    full = _FULL if layout.shrinks else _FULL_ENLARGED
    resized = _resize(_premultiply(foreground, alpha, full), layout)
    colors, opacity = _divide(resized, full, foreground.dtype)
    return _paste(colors, layout), _paste(opacity, layout)


def _premultiply(foreground: np.ndarray, alpha: np.ndarray, full: int) -> np.ndarray:
    """Join colours times alpha, and alpha, to (h, w, 4) uint16."""
    result = np.empty((*alpha.shape, 4), np.uint16)
    factor = np.float32(full / np.iinfo(foreground.dtype).max)
    for top in range(0, alpha.shape[0], _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        result[rows, :, :3] = foreground[rows] * (alpha[rows, :, None] * factor) + np.float32(0.5)
        result[rows, :, 3] = alpha[rows] * np.float32(full) + np.float32(0.5)
    return result


def _divide(premultiplied: np.ndarray, full: int, dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Split (h, w, 4) uint16 into straight colours of a dtype and alpha as float32."""
    colors = np.empty((*premultiplied.shape[:2], 3), dtype)
    alpha = np.minimum(premultiplied[..., 3].astype(np.float32) / np.float32(full), 1)
    brightest = np.float32(np.iinfo(dtype).max)
    for top in range(0, alpha.shape[0], _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        part = premultiplied[rows].astype(np.float32)
        straight = part[..., :3] / np.maximum(part[..., 3:], 1) * brightest
        colors[rows] = np.minimum(straight, brightest) + np.float32(0.5)
    return colors, alpha


def _resize(array: np.ndarray, layout: Layout) -> np.ndarray:
    """Resize to the size on the canvas: averaged when smaller, smoothly interpolated when larger."""
    width, height = layout.resizes_to
    if (width, height) == layout.window_size:
        return array
    if layout.shrinks:
        return resize_area(array, height, width)
    return np.asarray(cv2.resize(array, (width, height), interpolation=cv2.INTER_CUBIC))


def _paste(array: np.ndarray, layout: Layout) -> np.ndarray:
    """Lay an array on an empty canvas; what reaches beyond is cut off."""
    canvas = np.zeros((layout.height, layout.width, *array.shape[2:]), array.dtype)
    left, top, right, bottom = layout.target
    inside = np.s_[max(0, top) : min(layout.height, bottom), max(0, left) : min(layout.width, right)]
    rows, columns = inside
    canvas[inside] = array[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return canvas
