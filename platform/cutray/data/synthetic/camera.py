"""A simple camera: soft focus that is the same on both sides of an edge, noise, and JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from cutray.data.synthetic.context import Layer
from cutray.data.synthetic.noise import F32, U8, blur, to_stored

_SEEN = 1e-3


def focus(layer: Layer, sigma_px: float) -> Layer:
    """Blur subject and background alike.

    The subject's light is blurred together with its alpha, so that the blurred parts still compose exactly.

    Args:
        layer: A sharp scene.
        sigma_px: Standard deviation of the blur, in pixels.

    Returns:
        The scene out of focus.
    """
    if sigma_px < 0.2:
        return layer
    weighted = np.dstack([layer.color * layer.alpha[..., None], layer.alpha])
    soft = blur(weighted, sigma_px)
    alpha = np.clip(soft[..., 3], 0, 1)
    color = np.where(alpha[..., None] > _SEEN, soft[..., :3] / np.maximum(alpha, _SEEN)[..., None], layer.color)
    return Layer(alpha, np.asarray(color, np.float32), blur(layer.behind, sigma_px))


def compose_light(layer: Layer) -> F32:
    """Add the subject's light to what comes through from behind, (H, W, 3) float32, linear light."""
    alpha = layer.alpha[..., None]
    return np.asarray(layer.color * alpha + layer.behind * (1 - alpha), np.float32)


def expose(light: F32, rng: np.random.Generator) -> U8:
    """Take the picture: noise that grows with the light, and most often JPEG.

    Args:
        light: (H, W, 3) float32, linear light.
        rng: Source of chance.

    Returns:
        (H, W, 3) uint8, sRGB.
    """
    strength = rng.choice([0.0, 0.004, 0.01, 0.02])
    if strength > 0:
        # One field for the three channels and one of color, at a third of the cost of three.
        noise = rng.standard_normal(light.shape[:2], dtype=np.float32) * np.float32(strength)
        light = light + (noise * np.sqrt(np.maximum(light[..., 1], 0.002)))[..., None]
    picture = to_stored(light)
    if rng.random() < 0.75:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(72, 97))]
        encoded = cv2.imencode(".jpg", picture[..., ::-1], quality)[1]
        decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
        picture = np.ascontiguousarray(decoded[..., ::-1])
    return np.asarray(picture, np.uint8)
