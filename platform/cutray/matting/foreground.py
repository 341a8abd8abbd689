"""Take the old background's colour out of soft edges.

A half-transparent pixel of a photo shows a mix of subject and background. Stored as it is, it drags a fringe
of the old background onto every new one. Here the pure subject colour is estimated for those pixels; all
other pixels keep the photo's own bytes.
"""

from __future__ import annotations

import math
from functools import partial

import cv2
import numpy as np

from cutray.imaging.resize import resize_area
from cutray.parallel import run_parallel

# The colours vary slowly, so they are solved for on a picture of about the network's own resolution ...
_SOLVE_SIDE_PX = 320
# ... starting from the mean colours on a few pixels and doubling, with more steps while a step costs next to nothing.
_SMALLEST_SIDE_PX, _COARSE_STEPS, _FINE_STEPS, _COARSE_SIDE_PX = 8, 10, 4, 64
# Smoothness of the colours: everywhere a little, across the edge of the subject a lot.
_SMOOTHNESS, _EDGE_SMOOTHNESS = 5e-3, 1.0
# How far the full-size colour may leave the solved one to explain the pixel that was really seen.
_TRUST = 0.02
# Scales the faintest alpha that an 8-bit channel can hold to 1, so that rounding tells what is visible.
_VISIBLE = 255.0
# Pixels handled at once: their arrays fit into the processor's second-level cache. A square number, for remap.
_CHUNK_SIDE = 128


def estimate_foreground(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Estimate the subject's own colours where the subject is half transparent.

    Args:
        image: (H, W, 3) uint8, sRGB.
        alpha: (H, W) float32 in [0, 1].

    Returns:
        (H, W, 3) uint8, sRGB: ``image`` where alpha is 1, the estimate where it is between 0 and 1, and black
        where it is 0, because what nobody can see should neither leak nor cost bytes.

    Source: Germer et al. 2020, "Fast Multi-Level Foreground Estimation", solved here with Jacobi steps on a
    small picture; the full-size pixels are then corrected by the closed-form solution of the same energy.
    """
    alpha = np.ascontiguousarray(alpha)  # a part of a larger one would be copied for each chunk of pixels
    foreground = cv2.copyTo(image, cv2.convertScaleAbs(alpha, alpha=_VISIBLE))
    soft = np.flatnonzero((alpha > 0) & (alpha < 1))
    if soft.size == 0:
        return foreground
    colors, backdrop = _solve_small(image, alpha)
    size = _CHUNK_SIDE * _CHUNK_SIDE
    chunks = (soft[start : start + size] for start in range(0, soft.size, size))
    run_parallel(partial(_correct_pixels, foreground, image, alpha, chunk, colors, backdrop) for chunk in chunks)
    return foreground


def _solve_small(image: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve for smooth subject and background colours on a small picture, coarse to fine.

    Args:
        image: (H, W, 3) uint8.
        alpha: (H, W) float32.

    Returns:
        Two (h, w, 3) float32 pictures in [0, 1]: the subject's colours and the background's.
    """
    height, width = alpha.shape
    scale = min(1.0, _SOLVE_SIDE_PX / max(height, width))
    small_height, small_width = max(1, round(height * scale)), max(1, round(width * scale))
    small_image = resize_area(image, small_height, small_width).astype(np.float32) / 255.0
    small_alpha = resize_area(alpha, small_height, small_width)
    colors = _weighted_mean(small_image, small_alpha)
    backdrop = _weighted_mean(small_image, 1.0 - small_alpha)
    for image_here, alpha_here in reversed(_smaller_copies(small_image, small_alpha)):
        rows, columns = alpha_here.shape
        steps = _COARSE_STEPS if max(rows, columns) <= _COARSE_SIDE_PX else _FINE_STEPS
        colors, backdrop = _relax(
            _planes(image_here),
            alpha_here,
            _enlarge(colors, rows, columns),
            _enlarge(backdrop, rows, columns),
            steps,
        )
    return np.ascontiguousarray(colors.transpose(1, 2, 0)), np.ascontiguousarray(backdrop.transpose(1, 2, 0))


def _smaller_copies(image: np.ndarray, alpha: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the picture and its alpha at each level, the finest first; each is about half the one before."""
    height, width = alpha.shape
    levels = max(1, math.ceil(math.log2(max(height, width, 2))))
    copies = [(image, alpha)]
    for level in range(levels - 1, 0, -1):
        rows, columns = (max(1, round(side ** (level / levels))) for side in (height, width))
        if max(rows, columns) < _SMALLEST_SIDE_PX:
            break
        copies.append((resize_area(copies[-1][0], rows, columns), resize_area(copies[-1][1], rows, columns)))
    return copies


def _relax(
    image: np.ndarray, alpha: np.ndarray, colors: np.ndarray, backdrop: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Improve both colour pictures by Jacobi steps on the compositing equation plus smoothness.

    Every step solves, for each pixel on its own, ``min (aF + (1-a)B - I)^2 + sum_n w_n((F-F_n)^2 + (B-B_n)^2)``
    over its four neighbours n, with weights that are larger where alpha changes.

    Args:
        image: (3, h, w) float32 in [0, 1].
        alpha: (h, w) float32 in [0, 1].
        colors: (3, h, w) float32, current F.
        backdrop: (3, h, w) float32, current B.
        steps: Number of steps.

    Returns:
        Improved F and B, clipped to [0, 1].
    """
    across = _SMOOTHNESS + _EDGE_SMOOTHNESS * np.abs(np.diff(alpha, axis=1))
    down = _SMOOTHNESS + _EDGE_SMOOTHNESS * np.abs(np.diff(alpha, axis=0))
    total = np.full_like(alpha, 1e-6)  # a picture of one pixel has no neighbours
    total[:, :-1] += across
    total[:, 1:] += across
    total[:-1] += down
    total[1:] += down
    rest = 1.0 - alpha
    inverse = 1.0 / ((alpha**2 + total) * (rest**2 + total) - (alpha * rest) ** 2)
    own = np.stack(((rest**2 + total) * inverse, (alpha**2 + total) * inverse)).reshape(2, -1)
    mixed = (alpha * rest * inverse).ravel()
    # Rows lie end to end, so that a step works on long runs of numbers; nothing pulls from one row's end to the next.
    width = alpha.shape[1]
    across, down = np.pad(across, ((0, 0), (0, 1))).ravel()[:-1], down.ravel()
    both = np.stack((colors, backdrop), 1).reshape(3, 2, -1)
    seen = np.stack((alpha * image, rest * image), 1).reshape(3, 2, -1)

    def relax(channels: slice) -> None:
        values = both[channels]
        pull, product = np.empty_like(values), np.empty_like(values)
        beside, below = product[..., 1:], product[..., width:]
        for _ in range(steps):
            np.multiply(values, 1e-6, out=pull)
            pull[..., :-1] += np.multiply(across, values[..., 1:], out=beside)
            pull[..., 1:] += np.multiply(across, values[..., :-1], out=beside)
            pull[..., :-width] += np.multiply(down, values[..., width:], out=below)
            pull[..., width:] += np.multiply(down, values[..., :-width], out=below)
            pull += seen[channels]
            np.multiply(own, pull, out=values)
            values -= np.multiply(mixed, pull, out=product)[:, ::-1]
            np.clip(values, 0.0, 1.0, out=values)

    # Large pictures channel by channel, because the arrays of one fit into the processor's cache.
    channels = 1 if max(alpha.shape) > _COARSE_SIDE_PX else 3
    run_parallel(partial(relax, slice(first, first + channels)) for first in range(0, 3, channels))
    return both[:, 0].reshape(image.shape), both[:, 1].reshape(image.shape)


def _correct_pixels(
    foreground: np.ndarray,
    image: np.ndarray,
    alpha: np.ndarray,
    index: np.ndarray,
    colors: np.ndarray,
    backdrop: np.ndarray,
) -> None:
    """Fill in the subject's colour of some full-size pixels.

    The solved colours F0 and B0 are smooth; the pixel itself has detail. The closest F to F0 that explains the
    pixel is ``F0 + a(I - aF0 - (1-a)B0) / (a^2 + (1-a)^2 + trust)``.

    Args:
        foreground: (H, W, 3) uint8, written in place.
        image: (H, W, 3) uint8.
        alpha: (H, W) float32.
        index: Flat indices of the pixels, at most ``_CHUNK_SIDE`` squared.
        colors: (h, w, 3) float32, F0.
        backdrop: (h, w, 3) float32, B0.
    """
    height, width = alpha.shape
    rows, columns = np.divmod(index, width)
    scale_y, scale_x = colors.shape[0] / height, colors.shape[1] / width
    # Pixel centres, not corners, are what resizing keeps in place.
    at_y = ((rows + 0.5) * scale_y - 0.5).astype(np.float32)
    at_x = ((columns + 0.5) * scale_x - 0.5).astype(np.float32)
    a = alpha.ravel()[index][:, None]
    seen = image.reshape(-1, 3)[index] * np.float32(1 / 255)
    f0, b0 = _sample(colors, at_x, at_y), _sample(backdrop, at_x, at_y)
    residual = seen - b0 - a * (f0 - b0)
    gain = a / (a * a + (1.0 - a) ** 2 + _TRUST)
    estimate = np.clip(f0 + gain * residual, 0.0, 1.0)
    foreground.reshape(-1, 3)[index] = (estimate * 255.0 + 0.5).astype(np.uint8)


def _sample(picture: np.ndarray, at_x: np.ndarray, at_y: np.ndarray) -> np.ndarray:
    """Read (n, 3) values of a small picture at fractional positions, bilinearly."""
    if at_x.size % _CHUNK_SIDE:  # remap takes no side beyond 32767, so a long list must become a rectangle
        missing = _CHUNK_SIDE - at_x.size % _CHUNK_SIDE
        padded = _sample(picture, np.pad(at_x, (0, missing)), np.pad(at_y, (0, missing)))
        return padded[:-missing]
    shape = (-1, _CHUNK_SIDE)
    values = cv2.remap(
        picture, at_x.reshape(shape), at_y.reshape(shape), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return values.reshape(-1, 3)


def _weighted_mean(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the mean colour under a weight as a (3, 1, 1) float32 picture."""
    mean = np.tensordot(weight, image, axes=2) / max(float(weight.sum()), 1e-6)
    return mean.astype(np.float32).reshape(3, 1, 1)


def _planes(image: np.ndarray) -> np.ndarray:
    """Turn (h, w, 3) into (3, h, w), which numpy multiplies by (h, w) several times faster."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _enlarge(planes: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resize (3, h, w) to (3, rows, columns) by repetition, each plane in one piece, which indexing would not do."""
    at_row = np.arange(rows) * planes.shape[1] // rows
    at_column = np.arange(columns) * planes.shape[2] // columns
    return np.asarray(planes.take(at_row, 1).take(at_column, 2))
