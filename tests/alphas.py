"""Procedural truths and predictions with known flaws, for the tests of the metrics."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def disc(height: int = 120, width: int = 160, radius: float = 35.0, shift: float = 0.0) -> NDArray[np.float32]:
    """Draw a hard disc near the middle.

    Args:
        height: In pixels.
        width: In pixels.
        radius: In pixels.
        shift: How far the centre lies to the right of the middle, in pixels.

    Returns:
        (H,W) float32, 0 or 1.
    """
    return (distance_to_centre(height, width, shift) <= radius).astype(np.float32)


def soft_disc(height: int = 120, width: int = 160, radius: float = 35.0, softness: float = 8.0) -> NDArray[np.float32]:
    """Draw a disc whose alpha falls from 1 to 0 over a ramp of the given width in pixels.

    Returns:
        (H,W) float32 in [0,1].
    """
    ramp = (radius - distance_to_centre(height, width, 0.0)) / softness + 0.5
    return np.clip(ramp, 0, 1).astype(np.float32)


def distance_to_centre(height: int, width: int, shift: float) -> NDArray[np.float64]:
    """Measure every pixel's distance to a point near the middle, in pixels."""
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(np.hypot(rows - height * 0.48, columns - width * 0.53 - shift), np.float64)


def scene(seed: int, height: int = 150, width: int = 200) -> NDArray[np.float32]:
    """Draw a random union of ellipses and bars, never empty and never full.

    Returns:
        (H,W) float32, 0 or 1.
    """
    rng = np.random.default_rng(seed)
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        centre = (int(rng.integers(30, width - 30)), int(rng.integers(30, height - 30)))
        axes = (int(rng.integers(8, 45)), int(rng.integers(8, 45)))
        cv2.ellipse(canvas, centre, axes, float(rng.integers(0, 180)), 0, 360, 1, -1)
        end = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.line(canvas, centre, end, 1, int(rng.integers(1, 6)))
    return canvas.astype(np.float32)


def perturb(truth: NDArray[np.float32], seed: int, blur_px: float = 3.0) -> NDArray[np.float32]:
    """Turn a truth into a plausible prediction: shifted, blurred, with a ghost, a hole and faint noise.

    Args:
        truth: (H,W) float32 in [0,1].
        seed: Equal seeds give equal predictions.
        blur_px: Sigma of the blur, in pixels.

    Returns:
        (H,W) float32 in [0,1], multiples of 1/255.
    """
    rng = np.random.default_rng(seed)
    height, width = truth.shape
    moved = np.roll(truth, tuple(int(step) for step in rng.integers(-3, 4, 2)), axis=(0, 1))
    alpha = cv2.GaussianBlur(moved, (0, 0), blur_px).astype(np.float32)
    ghost, hole = np.zeros((2, height, width), np.float32)
    for canvas in (ghost, hole):
        cv2.circle(
            canvas, (int(rng.integers(0, width)), int(rng.integers(0, height))), int(rng.integers(4, 14)), 1.0, -1
        )
    alpha = np.maximum(alpha, ghost * np.float32(rng.uniform(0.2, 0.9))) * (1 - hole * np.float32(0.7))
    alpha += rng.normal(0, 0.02, truth.shape).astype(np.float32)
    return quantise(alpha)


def quantise(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip an alpha to [0,1] and round it to multiples of 1/255, as saving it in 8 bits does."""
    return np.asarray(np.rint(np.clip(alpha, 0, 1) * 255) / 255, np.float32)
