"""Put a subject on something: nothing, a colour, a picture, its own blurred background."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageOps

from cutray.errors import ShapeMismatchError
from cutray.imaging.color_names import Color
from cutray.imaging.resize import resize_area

# A blur that reads as out of focus whatever the photo's size.
_BLUR_FRACTION = 0.02


def compose(
    foreground: np.ndarray, alpha: np.ndarray, background: Color | np.ndarray, opacity: np.ndarray | None = None
) -> np.ndarray:
    """Lay the subject over a background.

    Source: Porter and Duff, Compositing Digital Images (1984), operator "over".

    Args:
        foreground: (H, W, 3) uint8 or uint16, the subject's own colours.
        alpha: (H, W) float32 in [0, 1].
        background: A colour in 0–255, or an (H, W, 3) uint8 picture.
        opacity: (H, W) uint8, straight alpha of the background; None for an opaque one.

    Returns:
        (H, W, 3) in the dtype of ``foreground``, or (H, W, 4) with straight alpha over a background with an opacity.
        The blend is done on the stored (gamma-encoded) values, as browsers and every image editor do by default, so
        that the result matches what the cutout shows there.

    Raises:
        ShapeMismatchError: The background picture has another size.
    """
    below = np.asarray(background)
    if below.ndim == 3 and below.shape != foreground.shape:
        raise ShapeMismatchError(
            got=f"a background of shape {below.shape}",
            allowed=f"shape {foreground.shape}",
            fix="fit it with cover_fit first",
        )
    result = np.empty((*foreground.shape[:2], 3 if opacity is None else 4), foreground.dtype)
    full = 257 if foreground.dtype == np.uint16 else 1
    for top in range(0, alpha.shape[0], 256):  # in strips: no full-size float picture is ever held
        rows = slice(top, top + 256)
        a = alpha[rows, :, None]
        under = (below[rows] if below.ndim == 3 else below).astype(np.float32) * full
        if opacity is not None:
            total = a + (1 - a) * (opacity[rows, :, None].astype(np.float32) / 255)
            result[rows, :, 3:] = (total * (255 * full) + 0.5).astype(foreground.dtype)
            a = np.divide(a, total, out=np.zeros_like(a), where=total > 0)
            under = np.where(total > 0, under, 0)  # what cannot be seen is black
        result[rows, :, :3] = (under + a * (foreground[rows] - under) + 0.5).astype(foreground.dtype)
    return result


def lay_under(
    foreground: np.ndarray, alpha: np.ndarray, color: Color, opacity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put a layer of one colour under the subject, and join the two.

    Args:
        foreground: (H, W, 3) uint8 or uint16, the subject's own colours.
        alpha: (H, W) float32 in [0, 1].
        color: The layer's colour, in 0–255.
        opacity: (H, W) float32 in [0, 1], the layer's alpha.

    Returns:
        Straight colours in the same dtype, and alpha of both together.
    """
    result, joined = np.empty_like(foreground), np.empty_like(alpha)
    under = np.asarray(color, np.float32) * (257 if foreground.dtype == np.uint16 else 1)
    for top in range(0, alpha.shape[0], 256):
        rows = slice(top, top + 256)
        a = alpha[rows]
        below = (1 - a) * opacity[rows]
        total = joined[rows] = a + below
        weight = np.divide(a, total, out=np.zeros_like(a), where=total > 0)[..., None]
        colors = under + weight * (foreground[rows] - under) + np.float32(0.5)
        result[rows] = np.where(total[..., None] > 0, colors, 0)
    return result, joined


def join_channels(foreground: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Join colours and opacity to one picture; numpy's stacking functions take ten times as long.

    Args:
        foreground: (h, w, 3) uint8 or uint16.
        opacity: (h, w), in the same dtype.

    Returns:
        (h, w, 4) straight RGBA.
    """
    picture = cv2.cvtColor(foreground, cv2.COLOR_RGB2RGBA)
    picture[..., 3] = opacity
    return picture


def cover_fit(picture: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Scale a picture so that it covers a size, and cut off what stands out evenly.

    Args:
        picture: (h, w, 3) RGB or (h, w, 4) straight RGBA, uint8.
        height_px: Height to cover.
        width_px: Width to cover.

    Returns:
        (height_px, width_px, 3 or 4) uint8.
    """
    return np.asarray(ImageOps.fit(Image.fromarray(picture), (width_px, height_px)))


def blur_background(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Throw the photo's own background out of focus, without the subject bleeding into it.

    Args:
        image: (H, W, 3) uint8.
        alpha: (H, W) float32 in [0, 1].

    Returns:
        (H, W, 3) uint8: the blurred surroundings, to be laid under the subject.
    """
    height, width = alpha.shape
    scale = min(1.0, 1024 / max(height, width))  # a blurred picture has no detail that a small one lacks
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = resize_area(image, *size).astype(np.float32)
    weight = 1.0 - resize_area(alpha, *size) + 1e-3
    sigma = max(1.0, _BLUR_FRACTION * max(size))
    spread = cv2.GaussianBlur(small * weight[..., None], (0, 0), sigma)
    blurred = spread / cv2.GaussianBlur(weight, (0, 0), sigma)[..., None]
    full = cv2.resize(blurred.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full)
