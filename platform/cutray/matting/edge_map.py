"""Draws what was detected: the photo with its edge cases marked, their scores, and the reasons."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cutray.imaging.resize import resize_area
from cutray.matting.detect import EDGE_CASES, EdgeCases, feature_contributions

_COLOURS = {
    "fine_detail": (255, 140, 0),
    "transparency": (0, 160, 255),
    "reflectivity": (220, 0, 200),
    "texture": (0, 190, 80),
}
_SIDE_PX, _PANEL_PX, _LINE_PX, _REASONS = 640, 360, 18, 5
# Below this the map is noise and only hides the photo.
_SHOWN = 0.15


def draw_edge_map(image: NDArray[np.uint8], found: EdgeCases) -> NDArray[np.uint8]:
    """Mark the detected cases on a photo, with scores and reasons beside it.

    Args:
        image: (H, W, 3) uint8, sRGB.
        found: What `detect_edge_cases` returned for it.

    Returns:
        (h, w, 3) uint8, sRGB.
    """
    scale = min(1.0, _SIDE_PX / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = resize_area(image, height, width)
    grey = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    shown = grey.astype(np.float32) * 0.6 + small * 0.3 + 25
    where = found.locate()
    for index, case in enumerate(EDGE_CASES):
        share = cv2.resize(np.ascontiguousarray(where[..., index]), (width, height), interpolation=cv2.INTER_LINEAR)
        share = np.clip((share - _SHOWN) / (1 - _SHOWN), 0, 0.75)[..., None]
        shown = shown * (1 - share) + np.array(_COLOURS[case], np.float32) * share
    picture = np.clip(shown, 0, 255).astype(np.uint8)
    lines = len(EDGE_CASES) * (_REASONS + 2) * _LINE_PX
    sheet = Image.new("RGB", (width + _PANEL_PX, max(height, lines)), (250, 250, 250))
    sheet.paste(Image.fromarray(picture), (0, 0))
    _write_reasons(ImageDraw.Draw(sheet), found, width + 14)
    return np.asarray(sheet)


def _write_reasons(draw: ImageDraw.ImageDraw, found: EdgeCases, left: int) -> None:
    """Write each case's score and what spoke for and against it."""
    heading, small = ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    reasons, top = feature_contributions(found, _REASONS), 8
    for case in EDGE_CASES:
        verdict = "present" if case in found.present else "not present"
        draw.rectangle((left, top + 3, left + 10, top + 13), fill=_COLOURS[case])
        title = f"{case.replace('_', ' ')}: {found.scores[case]:.2f}, {verdict}"
        draw.text((left + 18, top), title, fill=(30, 30, 30), font=heading)
        for number, reason in enumerate(reasons[case], 1):
            text = f"{reason.contribution:+.2f}  {reason.feature} = {reason.value:.3g}"
            draw.text((left + 18, top + number * _LINE_PX), text, fill=(90, 90, 90), font=small)
        top += (_REASONS + 2) * _LINE_PX
