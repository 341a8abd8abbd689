"""One picture that shows a photo in several templates, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cutray.imaging.checkerboard import lay_on_checkerboard
from cutray.imaging.resize import resize_within

_GAP_PX, _LINE_PX = 16, 26
_PAPER, _INK = (232, 232, 232), (60, 60, 60)


def draw_sheet(pictures: Mapping[str, np.ndarray], side_px: int = 320) -> np.ndarray:
    """Draw pictures in a row, each above its name, transparent ones on grey squares.

    Args:
        pictures: (h, w, 3) RGB or (h, w, 4) straight RGBA, uint8, by name.
        side_px: Longest side of each.

    Returns:
        (H, W, 3) uint8.
    """
    tiles = {name: _tile(picture, side_px) for name, picture in pictures.items()}
    height = max(tile.shape[0] for tile in tiles.values()) + _LINE_PX + 2 * _GAP_PX
    sheet = Image.new("RGB", (sum(tile.shape[1] + _GAP_PX for tile in tiles.values()) + _GAP_PX, height), _PAPER)
    draw, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(size=15), _GAP_PX
    for name, tile in tiles.items():
        sheet.paste(Image.fromarray(tile), (left, height - _LINE_PX - _GAP_PX - tile.shape[0]))
        draw.text((left, height - _LINE_PX - 4), name, fill=_INK, font=font)
        left += tile.shape[1] + _GAP_PX
    return np.asarray(sheet)


def _tile(picture: np.ndarray, side_px: int) -> np.ndarray:
    """Make one picture small and opaque."""
    if picture.ndim == 2:
        picture = np.dstack([picture] * 3)
    if picture.shape[2] == 4:
        picture = lay_on_checkerboard(picture, max(4, max(picture.shape[:2]) // 32))
    return resize_within(picture, side_px)
