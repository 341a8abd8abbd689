"""Prepare a picture as the network was trained to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cutray.engines.base import ResidentPhoto, ViewRecipe
from cutray.imaging.resize import resize_area
from cutray.imaging.subject_box import Box
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
    values = np.asarray(small)
    peak = max(float(values.max()), 1e-6) if spec.scale == "max" else 255.0
    levels = np.arange(256, dtype=np.float32)
    planes = [
        ((levels / peak - np.float32(mean)) / np.float32(std))[values[..., channel]]
        for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True))
    ]
    return np.stack(planes)


@dataclass(frozen=True, slots=True)
class View:
    """What the network is shown of a photo.

    Attributes:
        box: Left, top, right, bottom in pixels, right and bottom not included; None for all of the photo.
        mirrored: Whether left and right change places.
    """

    box: Box | None = None
    mirrored: bool = False


class ArrayViews:
    """Prepares views of a photo that is an array."""

    def __init__(self, image: np.ndarray, spec: ModelSpec, *, compat: bool) -> None:
        """Keep the photo.

        Args:
            image: (H, W, 3) uint8, sRGB.
            spec: What the network was trained to see.
            compat: Use the classic recipe's filter.
        """
        self._image, self._spec, self._compat = image, spec, compat
        self._last: tuple[Box | None, np.ndarray] | None = None

    def batch(self, views: Sequence[View]) -> np.ndarray:
        """Prepare views, (N, 3, S, S) float32; a mirror image is made of the view before it where that is the same."""
        return np.concatenate([self._tensor(view) for view in views])

    def _tensor(self, view: View) -> np.ndarray:
        """Prepare one view, (1, 3, S, S)."""
        if self._last is None or self._last[0] != view.box:
            left, top, right, bottom = view.box or (0, 0, *self._image.shape[1::-1])
            part = self._image[top:bottom, left:right]
            self._last = view.box, prepare(part, self._spec, compat=self._compat)[None]
        tensor = self._last[1]
        return tensor[..., ::-1] if view.mirrored else tensor


class ResidentViews:
    """Prepares views of a photo that an engine keeps on its device, there."""

    def __init__(self, photo: ResidentPhoto, spec: ModelSpec) -> None:
        """Keep the photo and what the network was trained to see."""
        self._photo = photo
        self._recipe = ViewRecipe(spec.input_size_px, spec.scale, spec.mean, spec.std)

    def batch(self, views: Sequence[View]) -> Any:
        """Prepare views as ``ResidentEngine.infer_resident`` takes them."""
        return self._photo.views([(view.box, view.mirrored) for view in views], self._recipe)
