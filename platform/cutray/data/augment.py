"""Augment a sample: pure functions of a photo, its alpha and a random generator."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from cutray.config import AugmentSettings
from cutray.imaging.subject_box import mask_box
from cutray.matting.foreground import estimate_foreground

# What a mask may hold and still count as free of the subject.
_TRACE = 0.02
# Narrowest stripe that can be stretched to a background, as a share of the photo's side.
_NARROWEST = 0.25
# Softness of the edge of a subject on another photo (standard deviation of a Gaussian).
SOFT_EDGE_PX = 0.8
# A crop that would lose more of the subject is not taken.
LEAST_SUBJECT = 0.5
# Ranges of the single changes: blur in pixels, side of a smaller picture, brightness in low light, noise, JPEG quality.
BLUR_SIGMA, SHRINK, DARKNESS, GRAIN, QUALITY = (0.5, 2.5), (0.3, 0.8), (0.15, 0.5), (2.0, 12.0), (30, 90)
# How much of the subject's box the frame takes away when it cuts the subject, and what must be left of the photo.
CUT_SHARE, _LEAST_LEFT = (0.2, 0.6), 0.3


def augment(
    image: np.ndarray,
    alpha: np.ndarray,
    side_px: int,
    rng: Generator,
    settings: AugmentSettings,
    other: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a sample to the network's size, with random changes.

    Args:
        image: (H, W, 3) uint8, sRGB.
        alpha: (H, W) float32 in [0, 1].
        side_px: Side of the result.
        rng: Where all choices come from.
        settings: How strong and how often.
        other: (h, w, 3) uint8, sRGB, what becomes the new background.

    Returns:
        (side_px, side_px, 3) uint8 and (side_px, side_px) float32 in [0, 1].
    """
    if settings.cut_subject and rng.random() < settings.cut_subject:
        image, alpha = _cut(image, alpha, rng)
    else:
        image, alpha = _crop(image, alpha, rng, settings.crop)
    image, alpha = resize_pair(image, alpha, side_px)
    if rng.random() < settings.flip:
        image, alpha = image[:, ::-1], alpha[:, ::-1]
    if rng.random() < settings.warp:
        image, alpha = _warp(image, alpha, rng, settings)
    if other is not None:
        image = _compose(image, alpha, cv2.resize(other, (side_px, side_px), interpolation=cv2.INTER_AREA))
    return photometric(np.ascontiguousarray(image), rng, settings), np.ascontiguousarray(alpha)


def resize_pair(image: np.ndarray, alpha: np.ndarray, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Resize a sample to a square, as the network sees every photo; sizes as in ``augment``."""
    way = cv2.INTER_AREA if min(image.shape[:2]) >= side_px else cv2.INTER_LINEAR
    size = (side_px, side_px)
    return (
        np.asarray(cv2.resize(image, size, interpolation=way)),
        np.asarray(cv2.resize(alpha, size, interpolation=way), np.float32),
    )


def background_crop(image: np.ndarray, alpha: np.ndarray) -> np.ndarray | None:
    """Cut the largest stripe beside the subject out of a photo, for use as a background.

    Args:
        image: (H, W, 3) uint8, sRGB.
        alpha: (H, W) float32 in [0, 1].

    Returns:
        A part of the photo without any of the subject, or None where that would be a narrow strip.
    """
    stripe = background_stripe(alpha)
    return None if stripe is None else image[stripe]


def background_stripe(alpha: np.ndarray) -> tuple[slice, slice] | None:
    """Tell where the largest stripe beside the subject is; None where that would be a narrow strip.

    Args:
        alpha: (H, W) float32 in [0, 1].

    Returns:
        Rows and columns.
    """
    return stripe_beside(subject_box(alpha), *alpha.shape)


def stripe_beside(box: tuple[int, int, int, int] | None, height: int, width: int) -> tuple[slice, slice] | None:
    """Tell where the largest stripe of a photo beside a box is; None where that would be a narrow strip.

    Args:
        box: Top, left, bottom and right of the subject in pixels; None without one.
        height: That of the photo, in pixels.
        width: Likewise.

    Returns:
        Rows and columns.
    """
    if box is None:
        return slice(0, height), slice(0, width)
    top, left, bottom, right = box
    every = slice(0, height), slice(0, width)
    stripes = [
        (slice(0, top), every[1]),
        (slice(bottom, height), every[1]),
        (every[0], slice(0, left)),
        (every[0], slice(right, width)),
    ]
    rows, columns = max(stripes, key=lambda one: (one[0].stop - one[0].start) * (one[1].stop - one[1].start))
    narrow = min((rows.stop - rows.start) / height, (columns.stop - columns.start) / width) < _NARROWEST
    return None if narrow else (rows, columns)


def subject_box(alpha: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return top, left, bottom and right of the subject in an alpha (H, W), or None without one."""
    box = mask_box(alpha > _TRACE)
    return None if box is None else (box[1], box[0], box[3], box[2])


def cut_window(
    box: tuple[float, float, float, float], height: float, width: float, rng: Generator
) -> tuple[float, float, float, float]:
    """Choose a frame that cuts away 20 to 60 % of the subject's box from one side, as frames do with near subjects.

    Args:
        box: Top, left, bottom and right of the subject.
        height: That of the photo, in the same unit.
        width: Likewise.
        rng: Where all choices come from.

    Returns:
        Top, left, bottom and right of the frame; the whole photo where hardly any of it would be left.
    """
    top, left, bottom, right = box
    share = float(rng.uniform(*CUT_SHARE))
    down, across = share * (bottom - top), share * (right - left)
    frames = [
        (top + down, 0.0, height, width),
        (0.0, 0.0, bottom - down, width),
        (0.0, left + across, height, width),
        (0.0, 0.0, height, right - across),
    ]
    chosen = [one for one in frames if min((one[2] - one[0]) / height, (one[3] - one[1]) / width) >= _LEAST_LEFT]
    return chosen[int(rng.integers(len(chosen)))] if chosen else (0.0, 0.0, height, width)


def _cut(image: np.ndarray, alpha: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Let the frame cut the subject."""
    box = subject_box(alpha)
    if box is None:
        return image, alpha
    top, left, bottom, right = (round(one) for one in cut_window(box, alpha.shape[0], alpha.shape[1], rng))
    return image[top:bottom, left:right], alpha[top:bottom, left:right]


def _crop(image: np.ndarray, alpha: np.ndarray, rng: Generator, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Take a random part; one that would lose nearly all of the subject is not taken."""
    height, width = alpha.shape
    rows, columns = (max(1, round(size * (1 - most * rng.random()))) for size in (height, width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    part = alpha[top : top + rows, left : left + columns]
    if part.sum() < 0.5 * alpha.sum():
        return image, alpha
    return image[top : top + rows, left : left + columns], part


def _warp(
    image: np.ndarray, alpha: np.ndarray, rng: Generator, settings: AugmentSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the sample and look at it from another side; what comes into view mirrors the photo."""
    side = alpha.shape[0]
    matrix = random_view(side, rng, settings)
    # The mirrored part must not show a second subject that the truth calls background: both are mirrored.
    turned = [
        np.asarray(cv2.warpPerspective(values, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101))
        for values in (image, alpha)
    ]
    return turned[0], np.clip(turned[1], 0, 1)


def random_view(side: int, rng: Generator, settings: AugmentSettings) -> np.ndarray:
    """Return a random homography (3, 3) of a square: a turn about its middle, and then a shift of each corner."""
    angle = float(rng.uniform(-settings.rotate_deg, settings.rotate_deg))
    turn = np.vstack([cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1.0), [0, 0, 1]])
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    shifts = rng.uniform(-settings.perspective, settings.perspective, (4, 2)).astype(np.float32) * side
    return np.asarray(cv2.getPerspectiveTransform(corners, corners + shifts) @ turn)


def _compose(image: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Lay the subject on another photo. Hard masks get the soft edge that a camera would give them.

    A half covered pixel of the photo shows the old background already: laid on as it is, it would count its cover
    twice. The subject's own color is put there first.
    """
    soft = np.clip(cv2.GaussianBlur(alpha, (0, 0), SOFT_EDGE_PX), 0, 1)
    own, cover = estimate_foreground(np.ascontiguousarray(image), soft), soft[..., None]
    return np.asarray(own * cover + background * (1 - cover) + 0.5, np.uint8)


def photometric(image: np.ndarray, rng: Generator, settings: AugmentSettings) -> np.ndarray:
    """Vary light, color, focus, noise and compression.

    Args:
        image: (H, W, 3) uint8, sRGB.
        rng: Where all choices come from.
        settings: How strong and how often.

    Returns:
        (H, W, 3) uint8, sRGB.
    """
    if settings.color:
        image = _colors(image, rng, settings.color)
    if rng.random() < settings.grey:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    if rng.random() < settings.blur:
        image = _soften(image, rng)
    dark = rng.random() < settings.low_light
    if dark:
        image = np.asarray(image * rng.uniform(*DARKNESS), np.uint8)
    if dark or rng.random() < settings.noise:
        grain = rng.standard_normal(image.shape, np.float32) * rng.uniform(*GRAIN)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if rng.random() < settings.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*QUALITY))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
    return image


def _colors(image: np.ndarray, rng: Generator, strength: float) -> np.ndarray:
    """Change gamma, contrast, warmth and saturation."""
    gamma, contrast = np.exp(rng.uniform(-strength, strength, 2))
    warmth = np.exp(rng.uniform(-0.3, 0.3, 3) * strength)
    saturation = np.exp(rng.uniform(-1, 1) * strength)
    levels = np.arange(256) / 255.0
    curve = np.clip((levels**gamma - 0.5) * contrast + 0.5, 0, 1)
    table = np.clip(curve[:, None] * warmth * 255, 0, 255).astype(np.uint8)[None]
    mix = np.full((3, 3), (1 - saturation) / 3)  # of each channel with the mean of all three
    np.fill_diagonal(mix, mix[0, 0] + saturation)
    return np.asarray(cv2.transform(cv2.LUT(image, table), mix))


def _soften(image: np.ndarray, rng: Generator) -> np.ndarray:
    """Lose detail: out of focus, or from a smaller picture."""
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(*BLUR_SIGMA))))
    side = image.shape[0]
    small = max(8, round(side * rng.uniform(*SHRINK)))
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_CUBIC))
