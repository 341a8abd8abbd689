"""Random fields over the picture plane, warps, and the step between stored values and light."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Real = NDArray[np.floating]
U8 = NDArray[np.uint8]

_ENCODE_STEPS = 8191


@lru_cache(maxsize=1)
def _decode_table() -> F32:
    """Light for each 8-bit sRGB value. Source: IEC 61966-2-1, section 5.2."""
    stored = np.arange(256) / 255.0
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4).astype(np.float32)


@lru_cache(maxsize=1)
def _encode_table() -> U8:
    """8-bit sRGB values for light, indexed by its square root, which spaces the steps about as the eye does."""
    light = np.square(np.linspace(0.0, 1.0, _ENCODE_STEPS + 1))
    stored = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(stored * 255), np.uint8)


def to_light(stored: U8) -> F32:
    """Decode sRGB.

    Args:
        stored: uint8, sRGB.

    Returns:
        float32 of the same shape, linear light in [0, 1].
    """
    return _decode_table()[stored]


def to_stored(light: F32) -> U8:
    """Encode light as sRGB.

    Args:
        light: float32, linear light; values outside [0, 1] are clipped.

    Returns:
        uint8 of the same shape, sRGB.
    """
    steps = np.sqrt(np.clip(light, 0.0, 1.0)) * np.float32(_ENCODE_STEPS) + np.float32(0.5)
    return _encode_table()[steps.astype(np.uint16)]


def grid(height_px: int, width_px: int) -> tuple[F32, F32]:
    """Return the row and the column of every pixel's centre, broadcastable: (H, 1) and (1, W) float32."""
    rows = np.arange(height_px, dtype=np.float32)[:, None] + np.float32(0.5)
    columns = np.arange(width_px, dtype=np.float32)[None, :] + np.float32(0.5)
    return rows, columns


def smooth_noise(rng: np.random.Generator, height_px: int, width_px: int, cell_px: float, stretch: float = 1.0) -> F32:
    """Draw noise without detail below a size.

    Args:
        rng: Source of chance.
        height_px: Height.
        width_px: Width.
        cell_px: Size of the details, in pixels.
        stretch: How many times longer the details are across than down.

    Returns:
        (H, W) float32, about normal with a standard deviation near 0.7.
    """
    across_px = cell_px * stretch
    rows, columns = math.ceil(height_px / cell_px) + 3, math.ceil(width_px / across_px) + 3
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    # Details larger than the picture are cut out of a middle-sized step, so that nothing huge is ever made.
    fine = max(1, math.ceil(32 / max(height_px / cell_px, width_px / across_px)))
    middle = cv2.resize(coarse, (columns * fine, rows * fine), interpolation=cv2.INTER_CUBIC) if fine > 1 else coarse
    down = min(rows * fine, fine + max(2, round(height_px / cell_px * fine)))
    right = min(columns * fine, fine + max(2, round(width_px / across_px * fine)))
    part = np.ascontiguousarray(middle[fine:down, fine:right])
    return np.asarray(cv2.resize(part, (width_px, height_px), interpolation=cv2.INTER_CUBIC), np.float32)


def fractal_noise(
    rng: np.random.Generator, height_px: int, width_px: int, cell_px: float, octaves: int = 4, stretch: float = 1.0
) -> F32:
    """Add noise of halving detail size and weight.

    Args:
        rng: Source of chance.
        height_px: Height.
        width_px: Width.
        cell_px: Size of the largest details, in pixels.
        octaves: Most layers; those below two pixels are left out.
        stretch: How many times longer the details are across than down.

    Returns:
        (H, W) float32, mostly within [-1, 1].
    """
    total = np.zeros((height_px, width_px), np.float32)
    weight = 0.5
    for _ in range(octaves):
        total += np.float32(weight) * smooth_noise(rng, height_px, width_px, cell_px, stretch)
        cell_px, weight = cell_px / 2, weight / 2
        if cell_px < 2:
            break
    return total


def displace(picture: F32, down_px: Real, across_px: Real) -> F32:
    """Look up each pixel somewhere else, mirrored at the border.

    Args:
        picture: (H, W[, C]) float32.
        down_px: (H, W) float32, how far below each pixel to look.
        across_px: (H, W) float32, how far to its right.

    Returns:
        A picture of the same shape.
    """
    rows, columns = grid(*picture.shape[:2])
    half = np.float32(0.5)
    return sample_at(picture, rows - half + down_px, columns - half + across_px)


def sample_at(picture: F32, rows: Real, columns: Real) -> F32:
    """Read a picture bilinearly at fractional rows and columns, (H, W) float32 each, mirrored at the border."""
    found = cv2.remap(
        picture,
        np.ascontiguousarray(columns, np.float32),
        np.ascontiguousarray(rows, np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(found, np.float32)


def blur(picture: F32, sigma_px: float) -> F32:
    """Blur by a Gaussian; wide ones at a smaller scale, where they cost less.

    Args:
        picture: (H, W[, C]) float32.
        sigma_px: Standard deviation, in pixels; below 0.2 nothing happens.

    Returns:
        A picture of the same shape.
    """
    if sigma_px < 0.2:
        return picture
    if sigma_px <= 4:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101), np.float32)
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (max(2, width // 2), max(2, height // 2)), interpolation=cv2.INTER_AREA)
    soft = blur(np.asarray(small, np.float32), sigma_px / 2)
    return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def ramp(distance: Real, width: float = 1.0) -> F32:
    """Turn a signed distance (positive inside) into coverage: 0 to 1 over ``width`` around zero."""
    return np.asarray(np.clip(distance / width + 0.5, 0.0, 1.0), np.float32)


def implicit_coverage(field: F32, softness_px: float = 1.0) -> F32:
    """Cover where a field is positive, with an edge one pixel wide whatever the field's slope.

    Args:
        field: (H, W) float32, smooth.
        softness_px: Width of the edge, in pixels.

    Returns:
        (H, W) float32 in [0, 1].
    """
    across = cv2.Sobel(field, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(field, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    slope = np.maximum(cv2.magnitude(across, down), 1e-6)
    return ramp(field / slope, softness_px)
