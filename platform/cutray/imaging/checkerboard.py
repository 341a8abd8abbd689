"""The grey squares that stand for transparency."""

from __future__ import annotations

import numpy as np

from cutray.imaging.compose import compose

_LIGHT, _DARK = 255, 204


def draw_checkerboard(height_px: int, width_px: int, square_px: int = 12) -> np.ndarray:
    """Draw the squares.

    Args:
        height_px: Height of the picture.
        width_px: Width of the picture.
        square_px: Side of a square.

    Returns:
        (height_px, width_px, 3) uint8.
    """
    rows, columns = np.mgrid[:height_px, :width_px] // square_px
    grey = np.where((rows + columns) % 2, _DARK, _LIGHT).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def lay_on_checkerboard(cutout: np.ndarray, square_px: int) -> np.ndarray:
    """Lay a transparent picture on the squares.

    Args:
        cutout: (H, W, 4) uint8 straight RGBA.
        square_px: Side of a square.

    Returns:
        (H, W, 3) uint8.
    """
    alpha = cutout[..., 3].astype(np.float32) / np.float32(255)
    height, width = alpha.shape
    board = draw_checkerboard(height, width, square_px)
    return compose(np.ascontiguousarray(cutout[..., :3]), alpha, board)
