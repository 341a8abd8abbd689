"""Prepare a picture as the network was trained to see it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cutray.imaging.resize import resize_area
from cutray.models.catalog import ModelSpec


def prepare(image: np.ndarray, spec: ModelSpec, *, compat: bool = False) -> np.ndarray:
    """Shrink and normalise a picture as the network was trained to see it.

    The network learned from small, soft photos. Averaging down to twice its input and then halving with a
    triangle filter reproduces that softness for large photos; a sharper filter (Lanczos, in the classic recipe)
    measurably misleads it, see docs/decisions.

    Args:
        image: (H, W, 3) uint8, sRGB.
        spec: The model's input size, scale, mean and standard deviation.
        compat: Use the classic recipe's Lanczos filter.

    Returns:
        (3, S, S) float32, RGB, normalised.
    """
    side = spec.input_size_px
    if compat:
        small = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)
    else:
        if min(image.shape[:2]) > 2 * side:
            image = resize_area(image, 2 * side, 2 * side)
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    values = np.asarray(small, dtype=np.float32)
    peak = max(float(values.max()), 1e-6) if spec.scale == "max" else 255.0
    normalised = (values / peak - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), dtype=np.float32)
