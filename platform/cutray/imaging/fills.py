"""Backgrounds that are painted: colours, gradients and patterns."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from cutray.errors import OptionError
from cutray.imaging.color_names import ALLOWED_COLORS, Color, parse_color

KINDS = ("gradient", "radial", "checker", "stripes", "dots")
_DOWN = 90.0
_TILE_SHARE = 0.04  # of the shorter side
# Source: Bayer 1973, "An optimum method for two-level rendition of continuous-tone pictures", the 4 x 4 matrix.
_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) / 16 + np.float32(1 / 32)
_STRIP_ROWS = 256


@dataclass(frozen=True, slots=True)
class Fill:
    """Two colours and the way in which they fill a picture.

    Attributes:
        kind: One of ``KINDS``.
        first: The colour at the start or in the middle, or of the ground.
        second: The other colour.
        angle: Direction of a gradient or of stripes, in degrees clockwise from the right; 90 is down.
    """

    kind: str
    first: Color
    second: Color
    angle: float = _DOWN


def is_fill(text: str) -> bool:
    """Whether a text is meant as a gradient or a pattern."""
    return text.strip().lower().startswith(tuple(f"{kind}:" for kind in KINDS))


def parse_fill(text: str) -> Fill | Color:
    """Read a colour, a gradient or a pattern.

    Args:
        text: A colour, or ``KIND:COLOR-COLOR`` with an angle in degrees after a further colon, such as
            ``gradient:white-#ddd`` or ``stripes:#fff-#eee:45``.

    Raises:
        OptionError: It is none.

    >>> parse_fill("gradient:white-#ddd")
    Fill(kind='gradient', first=(255, 255, 255), second=(221, 221, 221), angle=90.0)
    """
    if not is_fill(text):
        return parse_color(text)
    kind, _, rest = text.strip().partition(":")
    match = re.fullmatch(r"([^-:]+)-([^-:]+)(?::(\d{1,3}(?:\.\d+)?))?", rest)
    if match is None or float(match[3] or 0) > 360:
        raise OptionError(
            got=f"the background {text!r} is no gradient or pattern",
            allowed=ALLOWED_COLORS,
            fix="write gradient:white-#ddd, or with an angle of 0 to 360 degrees gradient:white-#ddd:45",
        )
    angle = _DOWN if match[3] is None else float(match[3])
    return Fill(kind.lower(), parse_color(match[1]), parse_color(match[2]), angle)


def paint(fill: Fill, height_px: int, width_px: int) -> np.ndarray:
    """Paint a gradient or a pattern.

    Args:
        fill: What to paint.
        height_px: Height.
        width_px: Width.

    Returns:
        (height_px, width_px, 3) uint8 sRGB. Gradients are dithered, so that no bands show.
    """
    picture = np.empty((height_px, width_px, 3), np.uint8)
    first, second = (np.asarray(color, np.float32) for color in (fill.first, fill.second))
    for top in range(0, height_px, _STRIP_ROWS):
        rows = slice(top, min(height_px, top + _STRIP_ROWS))
        share = _share(fill, rows, height_px, width_px)[..., None]
        values = first + (second - first) * share
        noise = np.tile(_BAYER, (-(-share.shape[0] // 4), -(-width_px // 4)))[: share.shape[0], :width_px, None]
        picture[rows] = np.minimum(values + (noise if fill.kind in ("gradient", "radial") else np.float32(0.5)), 255)
    return picture


def _share(fill: Fill, rows: slice, height: int, width: int) -> np.ndarray:
    """Return how much of the second colour there is, in [0, 1], for some rows."""
    x = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5 - width / 2)
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(0.5 - height / 2)
    across, down = math.cos(math.radians(fill.angle)), math.sin(math.radians(fill.angle))
    tile = max(2.0, _TILE_SHARE * min(height, width))
    if fill.kind == "gradient":
        length = abs(width * across) + abs(height * down)
        return np.asarray(np.clip((x * across + y * down) / length + np.float32(0.5), 0, 1))
    if fill.kind == "radial":
        return np.asarray(np.clip(np.hypot(x, y) / math.hypot(width / 2, height / 2), 0, 1))
    if fill.kind == "checker":
        return np.asarray((np.floor(x / tile) + np.floor(y / tile)) % 2, np.float32)
    if fill.kind == "stripes":  # a soft step of one pixel
        wave = np.abs(((x * across + y * down) / (2 * tile)) % 1 - np.float32(0.5)) * (2 * tile)
        return np.asarray(np.clip(wave - tile / 2 + np.float32(0.5), 0, 1))
    distance = np.hypot((x + tile / 2) % tile - tile / 2, (y + tile / 2) % tile - tile / 2)
    return np.asarray(np.clip(max(1.5, tile * 0.2) - distance + np.float32(0.5), 0, 1))
