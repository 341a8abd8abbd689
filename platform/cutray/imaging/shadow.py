"""Soft shadows and outlines: what lies between a subject and its background."""

from __future__ import annotations

import math

import cv2
import numpy as np

from cutray.config import CanvasSettings
from cutray.imaging.resize import resize_area

Borders = tuple[float, float, float, float]

# All lengths are shares of the subject's longer side. A blur is twice the standard deviation, as in CSS.
_OFFSET_PER_BLUR = 0.6
_SEEN_SIGMAS = 2.2  # beyond, less than one step of 8 bits is left of a shadow
# The contact shadow: a dark rim that follows the lower edge, and a wide faint shadow that lies on the ground.
_RIM_DROP, _RIM_SIGMA, _RIM_HEIGHT = 0.008, 0.009, 0.3
_FOOT_HEIGHT, _GROUND_STRENGTH, _FLATNESS = 0.12, 0.75, 0.4
# A blurred picture has no detail that one with this many pixels per standard deviation lacks.
_SIGMA_PX = 3.0


def reach(options: CanvasSettings) -> Borders:
    """Return how far outline and shadow reach beyond the subject.

    Args:
        options: Shadow and outline.

    Returns:
        Left, top, right, bottom as shares of the subject's longer side, none below 0.
    """
    around = 0.0 if options.outline is None else options.outline_width / 100
    blur = options.shadow_blur / 100
    across, down = _direction(options.shadow_angle)
    if options.shadow == "drop":
        spread, shift = _SEEN_SIGMAS * blur / 2, _OFFSET_PER_BLUR * blur
        sides = (spread - shift * across, spread - shift * down, spread + shift * across, spread + shift * down)
    elif options.shadow == "contact":
        wide, shift = _SEEN_SIGMAS * blur / 2, _OFFSET_PER_BLUR * blur * across
        below = max(wide * _FLATNESS, _RIM_DROP + _SEEN_SIGMAS * _RIM_SIGMA)
        rim = _SEEN_SIGMAS * _RIM_SIGMA
        sides = (max(rim, wide - shift), 0.0, max(rim, wide + shift), below)
    else:
        sides = (0.0, 0.0, 0.0, 0.0)
    left, top, right, bottom = (around + max(0.0, side) for side in sides)
    return left, top, right, bottom


def cast_shadow(alpha: np.ndarray, options: CanvasSettings, subject_px: float) -> np.ndarray:
    """Cast the subject's shadow.

    Args:
        alpha: (H, W) float32 in [0, 1], of the canvas.
        options: Kind, strength, angle and blur.
        subject_px: The subject's longer side on the canvas, in pixels.

    Returns:
        (H, W) float32 in [0, 1], the opacity of a black layer under the subject.
    """
    height, width = alpha.shape
    sigma = max(0.3, options.shadow_blur / 200 * subject_px)
    finest = sigma if options.shadow == "drop" else min(sigma * _FLATNESS, _RIM_SIGMA * subject_px)
    factor = min(1.0, max(_SIGMA_PX / max(finest, 1e-6), 64 / max(height, width)))
    small = resize_area(alpha, max(1, round(height * factor)), max(1, round(width * factor)))
    unit = subject_px * factor
    across, down = _direction(options.shadow_angle)
    shift = _OFFSET_PER_BLUR * options.shadow_blur / 100 * unit
    if options.shadow == "drop":
        shadow = _blur(_move(small, shift * across, shift * down), sigma * factor, sigma * factor)
    else:
        shadow = _contact(small, sigma * factor, unit, shift * across)
    shadow *= np.float32(options.shadow_strength)
    full = cv2.resize(shadow, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full)


def draw_outline(alpha: np.ndarray, width_px: float) -> np.ndarray:
    """Draw a border around the subject.

    Args:
        alpha: (H, W) float32 in [0, 1].
        width_px: Width of the border, in pixels.

    Returns:
        (H, W) float32 in [0, 1], the opacity of a layer under the subject; smooth at its edge.
    """
    outside = (alpha < 0.5).astype(np.uint8)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.clip(np.float32(width_px + 0.5) - distance, 0, 1))


def _contact(alpha: np.ndarray, sigma: float, unit: float, shift: float) -> np.ndarray:
    """Darken the ground where the subject stands on it: along its lower edge, and flat around its foot."""
    height = alpha.shape[0]
    rows = np.flatnonzero((alpha > 0.5).any(axis=1))
    if rows.size == 0:
        return np.zeros_like(alpha)
    ground = float(rows[-1] + 1)
    ys = np.arange(height, dtype=np.float32)[:, None]
    lower = np.clip((ys - (ground - _RIM_HEIGHT * unit)) / max(1.0, _RIM_HEIGHT * unit), 0, 1)
    rim = _blur(_move(alpha, 0, _RIM_DROP * unit) * lower, _RIM_SIGMA * unit, _RIM_SIGMA * unit)
    nearness = np.clip((ys + 1 - ground) / max(1.0, _FOOT_HEIGHT * unit) + 1, 0, 1)
    foot = (np.minimum(alpha, nearness * (ys < ground))).max(axis=0) ** 2  # fades where a round edge lifts off
    across = cv2.GaussianBlur(foot[None, :], (0, 0), max(sigma, 0.1), borderType=cv2.BORDER_REPLICATE)
    down = np.exp(-0.5 * ((ys + 0.5 - ground) / max(sigma * _FLATNESS, 0.5)) ** 2)
    flat = np.float32(_GROUND_STRENGTH) * down * across
    if shift:
        flat = _move(flat, shift, 0)
    return np.asarray(1 - (1 - rim) * (1 - flat), np.float32)


def _blur(plane: np.ndarray, across: float, down: float) -> np.ndarray:
    """Blur; what is at the canvas's edge goes on behind it."""
    blurred = cv2.GaussianBlur(
        plane.astype(np.float32), (0, 0), max(across, 0.1), sigmaY=max(down, 0.1), borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(blurred)


def _move(plane: np.ndarray, across: float, down: float) -> np.ndarray:
    """Shift by parts of pixels, too."""
    matrix = np.array([[1, 0, across], [0, 1, down]], np.float32)
    size = (plane.shape[1], plane.shape[0])
    return np.asarray(cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _direction(degrees: float) -> tuple[float, float]:
    """Return the unit vector of an angle, clockwise from the right: 90° is straight down."""
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
