"""Coarse alphas for the edge refiner to learn from: what the large network saw, or the truth made as coarse."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from cutray.config import MattingSettings
from cutray.imaging.resize import shrink
from cutray.matting.alpha import level_probs, stretch_levels

# Chances of what may be wrong with a coarse truth.
_MOVED, _SOLID, _HAZY, _SPOTTED = 0.6, 0.3, 0.3, 0.3


def coarse_from_probs(probs: np.ndarray, shape: tuple[int, int], cell_px: float) -> np.ndarray:
    """Bring a map to a picture's size as the remover does, as if its cells were larger.

    Args:
        probs: (S, S) float32 in [0, 1].
        shape: Height and width of the picture.
        cell_px: Pixels per cell, wanted; the map's own cells are the finest there are.

    Returns:
        (H, W) float32 in [0, 1].
    """
    rows, columns = (min(probs.shape[0], max(8, round(side / cell_px))) for side in shape)
    return stretch_levels(level_probs(shrink(probs, rows, columns), MattingSettings()), *shape)


def coarse_from_truth(truth: np.ndarray, rng: Generator, cell_px: float) -> np.ndarray:
    """Make a truth coarse and wrong in the ways that the large network's maps are.

    Args:
        truth: (H, W) float32 in [0, 1].
        rng: Source of chance.
        cell_px: Pixels per cell.

    Returns:
        (H, W) float32 in [0, 1].
    """
    rows, columns = (max(8, round(side / cell_px)) for side in truth.shape)
    cells = shrink(truth, rows, columns)
    kernel = np.ones((3, 3), np.uint8)
    if rng.random() < _SOLID:
        # Lace and glass are often seen as solid things.
        cells = cv2.morphologyEx(np.minimum(1.0, cells * 4).astype(np.float32), cv2.MORPH_CLOSE, kernel, iterations=3)
    if rng.random() < _MOVED:
        moved = cv2.erode if rng.random() < 0.6 else cv2.dilate
        share = float(rng.random())
        cells = share * moved(cells, kernel) + (1 - share) * cells
    cells = cv2.GaussianBlur(cells, (0, 0), float(rng.uniform(0.3, 1.3)))
    if rng.random() < _HAZY:
        cells = cells * _clouds(cells.shape, rng, 0.4, 1.0)
    if rng.random() < _SPOTTED:
        cells = np.maximum(cells, np.square(_clouds(cells.shape, rng, 0.0, 0.7)))
    return stretch_levels(level_probs(np.clip(cells, 0, 1).astype(np.float32), MattingSettings()), *truth.shape)


def _clouds(shape: tuple[int, ...], rng: Generator, low: float, high: float) -> np.ndarray:
    """Draw smooth blobs between two levels, (h, w) float32."""
    coarse = rng.random((int(rng.integers(2, 7)), int(rng.integers(2, 7))), np.float32)
    smooth = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(low + (high - low) * np.clip((smooth - 0.3) / 0.4, 0, 1), np.float32)
