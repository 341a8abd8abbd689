"""Pictures of results for people to judge: original, mask, and the cutout on two backgrounds."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cutray.imaging.checkerboard import draw_checkerboard
from cutray.imaging.compose import compose

# A strong colour that no subject has: any leftover of the old background shows at once.
_STRONG = (255, 0, 255)
_HEADINGS = ("photo", "mask", "cutout", "on a strong colour")


def draw_contact_sheet(rows: Sequence[tuple[str, np.ndarray, np.ndarray]], cell_px: int = 360) -> Image.Image:
    """Lay results out in rows of four pictures.

    Args:
        rows: Caption, photo (H, W, 3) uint8 and cutout (H, W, 4) uint8 of each result.
        cell_px: Longest side of each picture.

    Returns:
        One RGB picture with headings and captions.
    """
    tiles = [_tiles(photo, cutout, cell_px) for _, photo, cutout in rows]
    return draw_grid(_HEADINGS, tiles, [caption for caption, _, _ in rows], cell_px)


def draw_grid(
    headings: Sequence[str], rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str], cell_px: int
) -> Image.Image:
    """Lay pictures out in rows and columns.

    Args:
        headings: One for each column.
        rows: Pictures (H, W, 3) uint8, of one size in a row and no wider than a cell.
        captions: One for each row, written below it.
        cell_px: Width of a column.

    Returns:
        One RGB picture.
    """
    font = ImageFont.load_default(size=16)
    margin, heading = 12, 34
    heights = [row[0].shape[0] + heading for row in rows]
    size = (len(headings) * (cell_px + margin) + margin, sum(heights) + heading)
    sheet = Image.new("RGB", size, (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    for column, text in enumerate(headings):
        draw.text((margin + column * (cell_px + margin), 8), text, fill=(90, 90, 90), font=font)
    top = heading
    for caption, row, height in zip(captions, rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (margin + column * (cell_px + margin), top))
        draw.text((margin, top + row[0].shape[0] + 6), caption, fill=(40, 40, 40), font=font)
        top += height
    return sheet


def _tiles(photo: np.ndarray, cutout: np.ndarray, cell_px: int) -> list[np.ndarray]:
    """Make the four pictures of one row."""
    scale = cell_px / max(photo.shape[:2])
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    # Colours are weighted by alpha while resizing, else invisible black would creep into the edges.
    alpha = cutout[..., 3].astype(np.float32) / 255.0
    weighted = cv2.resize(cutout[..., :3].astype(np.float32) * alpha[..., None], size, interpolation=way)
    alpha = np.clip(cv2.resize(alpha, size, interpolation=way), 0, 1)
    colors = np.clip(weighted / np.maximum(alpha, 1e-3)[..., None], 0, 255).astype(np.uint8)
    small = cv2.resize(photo, size, interpolation=way)
    mask = np.repeat((alpha * 255).astype(np.uint8)[..., None], 3, axis=2)
    board = draw_checkerboard(size[1], size[0])
    return [small, mask, compose(colors, alpha, board), compose(colors, alpha, _STRONG)]
