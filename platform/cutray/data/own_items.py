"""Reads what a data set of the user's own yields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cutray.errors import DatasetError


def own_pair(item: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Read what a data set of the user's own yields.

    Args:
        item: Photo and alpha, as a pair or under the names ``image`` and ``alpha``: (H, W, 3) uint8 sRGB, and (H, W)
            or (H, W, 1) as uint8 in 0 … 255, as booleans, or as floats in [0, 1].
        what: Names it in errors.

    Returns:
        (H, W, 3) uint8 and (H, W) float32 in [0, 1].

    Raises:
        DatasetError: It is something else.
    """
    image, alpha = (item["image"], item["alpha"]) if isinstance(item, Mapping) else item
    pixels, cover = np.asarray(image), np.asarray(alpha)
    cover = cover[..., 0] if cover.ndim == 3 and cover.shape[2] == 1 else cover
    values = cover.astype(np.float32) / np.float32(255 if cover.dtype == np.uint8 else 1)
    right = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.shape[:2] == cover.shape
    if not right or not (values.min() >= 0 and values.max() <= 1):
        raise DatasetError(
            got=f"{what}: photo {pixels.dtype} {pixels.shape}, alpha {cover.dtype} {cover.shape}",
            allowed="a photo (H, W, 3) in uint8, and an alpha (H, W) in uint8, bool, or float in [0, 1]",
            fix="convert them in the data set",
        )
    return pixels, values
