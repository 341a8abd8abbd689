"""A cutout as two files: colours that lose a little, and alpha that loses nothing. Together smaller than a PNG."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import cv2
import numpy as np

from cutray.imaging.encode import encode_image
from cutray.imaging.resize import resize_area, resize_within

_FILL_SIDE_PX = 256
_FILL_SIGMA = 6.0


def encode_zip(picture: np.ndarray, mask: np.ndarray, **facts: Any) -> bytes:
    """Encode a result as a zip of ``color.jpg`` and ``alpha.png``.

    Args:
        picture: (h, w, 4) straight RGBA, or (h, w, 3) on a background, uint8.
        mask: (h, w) uint8, the alpha channel where the picture has none.
        facts: Quality, profile, resolution and metadata, as for ``encode_image``.
    """
    has_alpha = picture.shape[2] == 4
    alpha = np.ascontiguousarray(picture[..., 3]) if has_alpha else mask
    colors = _spread(picture) if has_alpha else picture
    plain = {name: value for name, value in facts.items() if name == "dpi"}
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("color.jpg", encode_image(colors, "JPEG", **facts))
        archive.writestr("alpha.png", encode_image(alpha, "PNG", **plain))
    return sink.getvalue()


def _spread(picture: np.ndarray) -> np.ndarray:
    """Fill what is invisible with the colours around: black there would bleed into the edges of a JPEG."""
    small = resize_within(picture, _FILL_SIDE_PX).astype(np.float32)
    weight = small[..., 3] / 255
    weighted = cv2.GaussianBlur(np.dstack([small[..., :3] * weight[..., None], weight]), (0, 0), _FILL_SIGMA)
    average = (small[..., :3] * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)
    soft = (weighted[..., :3] + np.float32(1e-3) * average) / (weighted[..., 3:] + np.float32(1e-3))
    height, width = picture.shape[:2]
    fill = resize_area(np.clip(soft, 0, 255).astype(np.uint8), height, width)
    return np.where(picture[..., 3:] > 0, picture[..., :3], fill)
