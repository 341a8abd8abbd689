"""What a subject is laid on: a colour, a painted fill, a picture, or the photo's own blur."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from cutray.config import InputLimits
from cutray.imaging.color import convert_colors
from cutray.imaging.color_names import Color, parse_color
from cutray.imaging.compose import blur_background, cover_fit, join_channels
from cutray.imaging.decode import DecodedImage, decode_image
from cutray.imaging.files import read_bytes
from cutray.imaging.fills import Fill, is_fill, paint, parse_fill
from cutray.imaging.layout import Layout


@dataclass(frozen=True, slots=True)
class Background:
    """What the subject is laid on: a colour or an (h, w, 3) uint8 picture in its own space, and its opacity."""

    colors: Color | np.ndarray
    opacity: np.ndarray | None = None
    icc_profile: bytes | None = None

    def converted_to(self, profile: bytes | None) -> Background | None:
        """Bring it into the space of the result; None if that space cannot be converted to."""
        if self.icc_profile == profile:
            return self
        colors = np.asarray(self.colors, np.uint8)
        converted = convert_colors(colors.reshape(1, 1, 3) if colors.ndim == 1 else colors, self.icc_profile, profile)
        if converted is None:
            return None
        red, green, blue = (int(value) for value in converted[0, 0])
        return Background((red, green, blue) if colors.ndim == 1 else converted, self.opacity, profile)


def read_background(
    wanted: str,
    backdrop: DecodedImage | None,
    photo: DecodedImage,
    alpha: np.ndarray,
    layout: Layout,
    limits: InputLimits,
) -> Background:
    """Read what the subject is to be laid on, at the size of the result.

    Args:
        wanted: A colour, a gradient or pattern, a path, or ``blur``.
        backdrop: A decoded picture that takes its place, or None.
        photo: The photo, for its blur.
        alpha: (H, W) float32 in [0, 1], of the whole photo.
        layout: The canvas.
        limits: What a background picture may cost.

    Raises:
        OptionError: It is none of these.
        InputError: The picture cannot be read.
    """
    size = (layout.height, layout.width)
    if backdrop is None and wanted == "blur":
        if not layout.is_window:
            return Background(cover_fit(blur_background(photo.pixels, alpha), *size), None, photo.icc_profile)
        left, top, right, bottom = layout.window
        window = np.s_[top:bottom, left:right]
        return Background(blur_background(photo.pixels[window], alpha[window]), None, photo.icc_profile)
    if backdrop is None and is_fill(wanted):
        fill = parse_fill(wanted)
        return Background(paint(fill, *size) if isinstance(fill, Fill) else fill)
    if backdrop is None and os.path.isfile(wanted):  # unlike pathlib, it takes a text of any length
        backdrop = decode_image(read_bytes(wanted, limits), limits, keep_profile=True)
    if backdrop is None:
        return Background(parse_color(wanted))
    if backdrop.alpha is None:
        return Background(cover_fit(backdrop.pixels, *size), None, backdrop.icc_profile)
    fitted = cover_fit(join_channels(backdrop.pixels, backdrop.alpha), *size)
    return Background(np.ascontiguousarray(fitted[..., :3]), fitted[..., 3], backdrop.icc_profile)
