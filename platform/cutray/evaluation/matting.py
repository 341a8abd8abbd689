"""Errors of a soft alpha: SAD, MSE, gradient and connectivity, over the picture and in the unknown band."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SOFT_RANGE = (0.02, 0.98)
BAND_SHARE = 0.005
BAND_MIN_PX = 5
GRADIENT_SIGMA_PX = 1.4
CONNECTIVITY_STEPS = 10
CONNECTIVITY_SLACK = 0.15


@dataclass(frozen=True, slots=True)
class AlphaErrors:
    """Errors of one alpha over one region; 0 is best.

    Attributes:
        sad: Sum of absolute differences, in thousands.
        mse: Mean squared difference, times 1000.
        grad: Sum of squared differences of the gradient magnitudes, in thousands.
        conn: Sum of differences in connectedness, in thousands.
    """

    sad: float
    mse: float
    grad: float
    conn: float


UNDEFINED = AlphaErrors(float("nan"), float("nan"), float("nan"), float("nan"))


def alpha_errors(alpha: NDArray[np.float32], truth: NDArray[np.float32]) -> tuple[AlphaErrors, AlphaErrors]:
    """Measure the four matting errors over the whole picture and in the unknown band.

    Source: Rhemann et al., A perceptually motivated online benchmark for image matting, CVPR 2009
    (SAD, MSE, gradient with σ = 1.4, connectivity with θ = 0.15 and steps of 0.1).

    Args:
        alpha: (H,W) float32 in [0,1].
        truth: (H,W) float32 in [0,1].

    Returns:
        Whole picture, unknown band. A truth without soft pixels has no band, and its errors there are NaN.
    """
    difference = alpha - truth
    gradient = np.square(_gradient_magnitude(alpha) - _gradient_magnitude(truth))
    connectivity = _connectivity_difference(alpha, truth)
    absolute, squared = np.abs(difference), np.square(difference)

    def over(region: NDArray[np.bool_] | slice) -> AlphaErrors:
        return AlphaErrors(
            sad=float(absolute[region].sum(dtype=np.float64)) / 1e3,
            mse=float(squared[region].mean(dtype=np.float64)) * 1e3,
            grad=float(gradient[region].sum(dtype=np.float64)) / 1e3,
            conn=float(connectivity[region].sum(dtype=np.float64)) / 1e3,
        )

    band = unknown_band(truth)
    return over(slice(None)), over(band) if band.any() else UNDEFINED


def unknown_band(truth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find the soft pixels of a truth and their surroundings.

    Soft is above 0.02 and below 0.98; the surroundings reach 0.5 % of the longer side, at least 5 px, in steps
    to the four neighbours.

    Args:
        truth: (H,W) float32 in [0,1].

    Returns:
        (H,W) bool, all false for a truth without soft pixels.
    """
    soft = (truth > SOFT_RANGE[0]) & (truth < SOFT_RANGE[1])
    if not soft.any():
        return soft
    reach_px = max(BAND_MIN_PX, int(BAND_SHARE * max(truth.shape)))
    distance = cv2.distanceTransform((~soft).view(np.uint8), cv2.DIST_L1, cv2.DIST_MASK_3)
    band: NDArray[np.bool_] = distance <= reach_px
    return band


def _gradient_magnitude(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Measure the slope with derivatives of a Gaussian, per pixel."""
    radius = int(4 * GRADIENT_SIGMA_PX + 0.5)
    offsets = np.arange(-radius, radius + 1)
    smooth = np.exp(-(offsets**2) / (2 * GRADIENT_SIGMA_PX**2))
    smooth /= smooth.sum()
    slope = smooth * offsets / GRADIENT_SIGMA_PX**2
    border = cv2.BORDER_REFLECT
    across = cv2.sepFilter2D(alpha, cv2.CV_32F, slope, smooth, borderType=border)
    down = cv2.sepFilter2D(alpha, cv2.CV_32F, smooth, slope, borderType=border)
    magnitude: NDArray[np.float32] = np.hypot(across, down).astype(np.float32, copy=False)
    return magnitude


def _connectivity_difference(alpha: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compare how far each pixel's value rises above the level at which it still joins the main body.

    The main body at a level is the largest 4-connected region where both alphas reach it.
    """
    joined = np.zeros(alpha.shape, np.float32)
    still = np.ones(alpha.shape, bool)
    lowest = np.minimum(alpha, truth)
    for step in range(1, CONNECTIVITY_STEPS + 1):
        level = np.float32(step / CONNECTIVITY_STEPS)
        still &= _largest_region(lowest >= level)
        if not still.any():
            break
        joined[still] = level
    difference: NDArray[np.float32] = np.abs(_disconnection(alpha - joined) - _disconnection(truth - joined))
    return difference


def _disconnection(above: NDArray[np.float32]) -> NDArray[np.float32]:
    """Forgive small excesses over the joining level."""
    return np.where(above >= CONNECTIVITY_SLACK, above, np.float32(0))


def _largest_region(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest 4-connected region of a mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    if count < 2:
        return np.zeros_like(mask)
    largest: NDArray[np.bool_] = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return largest
