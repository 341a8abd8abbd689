"""Glass and clear plastic: what is behind them shows through, by how little they differ from a plain background.

The network sees a glass as one solid thing. On a plain background the photo tells more: where the glass looks like the
background, it is clear; highlights, dark rims, liquid and labels differ, and stay. That is an approximation: a solid
part with the background's own colour becomes clear too, so a person has to say that the subject is clear.
"""

from __future__ import annotations

import cv2
import numpy as np

from cutray.imaging.resize import resize_area

# The background is guessed on a picture of this side, from the mean of so many known pixels on either side.
_FILL_SIDE_PX, _MEAN_PX = 256, 9
# Room around the subject that may still be of its colour, as a share of the side.
_MARGIN = 0.02
# Below this opacity nothing is seen of a pixel at that size.
_SEEN = 0.02
# Error of such a guess, in [0, 1], from which the background is too busy.
_BUSY = 0.1
# The least opacity that explains a difference is stretched, because few things are as pure as it assumes; and the
# clearest glass still dims a little. Both were chosen on drawn scenes.
_GAIN, _FLOOR = 1.3, 0.1
_ROWS = 256


def clear_alpha(alpha: np.ndarray, image: np.ndarray) -> np.ndarray | None:
    """Let a plain background show through the subject.

    Args:
        alpha: (H, W) float32 in [0, 1], the subject as a solid thing.
        image: (H, W, 3) uint8, sRGB.

    Returns:
        (H, W) float32 in [0, 1], nowhere more than ``alpha``; None where the background is too busy to tell.

    Source: the least opacity that explains a pixel before a known background is the "color to alpha" of the GNU Image
    Manipulation Program; the guess of the background is this project's own.
    """
    height, width = alpha.shape
    scale = min(1.0, _FILL_SIDE_PX / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = resize_area(image, rows, columns).astype(np.float32) / np.float32(255)
    subject = (resize_area(alpha, rows, columns) > _SEEN).astype(np.uint8)
    if not subject.any():  # next to nothing to clear
        return alpha
    reach = max(1, round(_MARGIN * max(rows, columns)))
    known = cv2.dilate(subject, np.ones((2 * reach + 1,) * 2, np.uint8)) == 0
    further = cv2.dilate(subject, np.ones((8 * reach + 1,) * 2, np.uint8)) == 0
    if not further.any():
        return None
    # How well the background can be guessed is seen where it is known: in the ring around the subject.
    ring = known & ~further
    spread = float(np.sqrt(np.mean(np.square(_fill(small, further) - small)[ring])))
    if spread > _BUSY:
        return None
    guess = np.rint(np.clip(_fill(small, known), 0, 1) * 255).astype(np.uint8)
    behind = cv2.resize(guess, (width, height), interpolation=cv2.INTER_LINEAR)
    cleared = np.zeros_like(alpha)
    used = np.flatnonzero(alpha.any(axis=1))
    for top in range(int(used[0]), int(used[-1]) + 1, _ROWS):  # a photo of 12 MP would take half a gigabyte at once
        part = slice(top, top + _ROWS)
        least = _least_opacity(image[part], behind[part])
        cleared[part] = alpha[part] * np.clip((least - spread) / (1 - spread) * _GAIN, _FLOOR, 1.0)
    return cleared


def _least_opacity(seen: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Return the least alpha for which some colour over ``behind`` gives ``seen``, both (h, w, 3) uint8."""
    difference = np.subtract(seen, behind, dtype=np.int16).astype(np.float32)
    room = np.where(difference > 0, 255 - behind, behind)
    return np.asarray((np.abs(difference) / np.maximum(room, 1)).max(2).clip(0, 1), dtype=np.float32)


def _fill(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill in what is not known from the left and the right, because a table's edge and a horizon are level.

    Rows in which nothing is known are filled in from those above and below.
    """
    weight = known.astype(np.float32)
    size = (_MEAN_PX, 1)
    means = cv2.blur(image * weight[..., None], size) / np.maximum(cv2.blur(weight, size), 1e-6)[..., None]
    filled, at = image.copy(), np.arange(image.shape[1])
    rows = np.flatnonzero(known.any(1))
    for row in rows:
        there, gaps = np.flatnonzero(known[row]), ~known[row]
        for channel in range(3):
            filled[row, gaps, channel] = np.interp(at[gaps], there, means[row, there, channel])
    nearest = rows[np.abs(np.arange(image.shape[0])[:, None] - rows).argmin(1)]
    return np.asarray(filled[nearest])
