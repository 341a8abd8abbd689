"""Edges from a small learned network: it redraws the whole map by the photo, at working size.

The large network says what the subject is; this one has learned, on pictures whose alpha is known exactly, how the
edges of such subjects run: strands, mesh, chains, and glass that lets the background through.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

WEIGHTS = Path(__file__).with_name("refiner.onnx")
# Sides of what the network sees are multiples of this.
_STRIDE_PX = 16
# How much the coarse alpha counts of its own in the logits; the network is trained with it.
_PULL = 2.0
_HAZE = 0.03
_thread = threading.local()


def redraw(image: np.ndarray, coarse: np.ndarray, *, stretch: float = _HAZE) -> np.ndarray:
    """Let the network draw alpha anew.

    Args:
        image: (H, W, 3) uint8, sRGB; H and W multiples of 16.
        coarse: (H, W) float32 in [0, 1].
        stretch: What lies this near to 0 or 1 becomes 0 or 1, because a sigmoid never quite gets there.

    Returns:
        (H, W) float32 in [0, 1].
    """
    rows, columns = coarse.shape[0] // 2, coarse.shape[1] // 2
    planes = np.dstack([image.astype(np.float32) / np.float32(255), coarse]) - np.float32(0.5)
    folded = planes.reshape(rows, 2, columns, 2, 4).transpose(4, 1, 3, 0, 2).reshape(1, 16, rows, columns)
    network = _network()
    network.setInput(np.ascontiguousarray(folded))
    change = network.forward()[0].reshape(2, 2, rows, columns).transpose(2, 0, 3, 1).reshape(coarse.shape)
    alpha = 1 / (1 + np.exp(-change - _PULL * (coarse - np.float32(0.5))))
    return np.asarray(np.clip((alpha - stretch) / (1 - 2 * stretch), 0, 1), np.float32)


def work_size(height_px: int, width_px: int, work_side_px: int) -> tuple[int, int]:
    """Return the height and width that a photo is redrawn at: about as many pixels as a square of that side."""
    scale = min(1.0, work_side_px / float(np.sqrt(height_px * width_px)))
    rows, columns = (max(1, round(side * scale / _STRIDE_PX)) * _STRIDE_PX for side in (height_px, width_px))
    return rows, columns


def _network() -> Any:
    """Return this thread's network; one cannot be shared."""
    if not hasattr(_thread, "network"):
        _thread.network = cv2.dnn.readNetFromONNX(_weights())
    return _thread.network


@cache
def _weights() -> np.ndarray:
    """Read the file once."""
    return np.frombuffer(WEIGHTS.read_bytes(), np.uint8)
