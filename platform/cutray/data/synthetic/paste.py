"""Puts the subject of a real photo, with its known soft alpha, on a new background."""

from __future__ import annotations

import numpy as np

from cutray.data.synthetic.backgrounds import draw_background
from cutray.data.synthetic.camera import compose_light, expose
from cutray.data.synthetic.context import Family, Layer
from cutray.data.synthetic.noise import F32, U8, to_light
from cutray.matting.foreground import estimate_foreground


def paste_subject(photo: U8, alpha: F32, rng: np.random.Generator, *, family: Family = "train") -> U8:
    """Compose a real subject onto a drawn background.

    An alpha that was solved for on its own photo fits that photo too well; on a new background it is exact.

    Args:
        photo: (H, W, 3) uint8, sRGB.
        alpha: (H, W) float32 in [0, 1], of the subject in the photo.
        rng: Source of chance.
        family: Whose painters draw the background.

    Returns:
        The new photo, (H, W, 3) uint8 sRGB; its alpha is the same.
    """
    behind = draw_background(rng, alpha.shape[0], alpha.shape[1], family)
    layer = Layer(alpha, to_light(estimate_foreground(photo, alpha)), behind)
    return expose(compose_light(layer), rng)
