"""Turn the network's small probability map into an alpha channel of the picture's size."""

from __future__ import annotations

import math

import cv2
import numpy as np
from PIL import Image

from cutray.config import MattingSettings

# Distance from the outline, in cells of the network's map, at which solidifying begins and is complete.
_EDGE_CELLS, _DEEP_CELLS = 2.5, 5.0
# Below this the network is in doubt, and a patch of doubt must not turn into scattered opaque spots.
_INSIDE = 0.7
# A hole in the subject has a place at least as unlikely as this (docs/decisions/holes.md).
_HOLE = 0.25


def rescale_probs(probs: np.ndarray, settings: MattingSettings) -> np.ndarray:
    """Make sure of the sure parts of a map, at the map's own size.

    A sigmoid never quite reaches 0 or 1, which would leave a faint haze over the whole background; values at
    or beyond ``settings.sure_background`` and ``settings.sure_foreground`` become 0 and 1 or pass them.

    Args:
        probs: (S, S) float32 in [0, 1].
        settings: The two levels, and whether the inside of the subject is made opaque.

    Returns:
        (S, S) float32: 0 and below is background, 1 and above is subject. It is not clipped.
    """
    low, high = settings.sure_background, settings.sure_foreground
    if settings.solid_interior:
        probs = solidify_interior(probs)
    return np.asarray((probs - low) * (1.0 / (high - low)), dtype=np.float32)


def upsample_alpha(levelled: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Resize a levelled map, and only then clip it: a clipped one has a kink for cubic interpolation to overshoot at.

    Args:
        levelled: (h, w) float32, from ``rescale_probs``.
        height_px: New height.
        width_px: New width.

    Returns:
        (height_px, width_px) float32 in [0, 1].
    """
    alpha = cv2.resize(levelled, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    return np.clip(alpha, 0.0, 1.0, out=alpha)


def solidify_interior(probs: np.ndarray) -> np.ndarray:
    """Make the inside of the subject opaque.

    Deep inside a subject a probability of 0.9 means that the network is nearly sure, not that the subject is
    see-through there; taken as opacity it gives dark visors and reflections the colour of the new background.

    Args:
        probs: (S, S) float32 in [0, 1].

    Returns:
        (S, S) float32 in [0, 1], raised towards 1 with growing distance from the outline.
    """
    inside = _without_doubtful_islands(probs > _INSIDE, probs).astype(np.uint8)
    # Replicated borders: a subject that is cut off by the frame has no outline there.
    border = math.ceil(_DEEP_CELLS) + 1
    framed = cv2.copyMakeBorder(inside, border, border, border, border, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[border:-border, border:-border]
    weight = np.clip((depth - _EDGE_CELLS) / (_DEEP_CELLS - _EDGE_CELLS), 0.0, 1.0)
    return np.asarray(probs + weight * (1.0 - probs), dtype=np.float32)


def _without_doubtful_islands(inside: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Close the holes in which the network is in doubt everywhere; in a real hole it is sure of the background."""
    count, labels = cv2.connectedComponents((~inside).astype(np.uint8))
    is_hole = np.zeros(count, np.bool_)  # by label; what is inside has 0
    is_hole[labels[probs <= _HOLE]] = True
    return np.asarray(~is_hole[labels])


def classic_alpha(probs: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Reproduce the classic recipe: min-max stretch, 8 bits, Lanczos.

    The stretch makes a subject out of an empty scene; use it only to compare with tools that work this way.

    Args:
        probs: (S, S) float32 in [0, 1].
        height_px: Height of the picture.
        width_px: Width of the picture.

    Returns:
        (height_px, width_px) float32 in [0, 1], in steps of 1/255.

    Source: U-2-Net ``u2net_test.py`` (normPRED) and rembg's session classes.
    """
    low, high = float(probs.min()), float(probs.max())
    stretched = (probs - low) / max(high - low, 1e-6)
    small = Image.fromarray((stretched * 255.0).astype(np.uint8))
    full = small.resize((width_px, height_px), Image.Resampling.LANCZOS)
    return np.asarray(full, dtype=np.float32) / 255.0
