"""Draws a scene of a case: backdrop, subject, camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from cutray.data.synthetic.backgrounds import draw_background
from cutray.data.synthetic.camera import compose_light, expose, focus
from cutray.data.synthetic.context import Family, Layer, SceneContext
from cutray.data.synthetic.fine_detail import draw_fine_detail
from cutray.data.synthetic.noise import F32, U8, to_light, to_stored
from cutray.data.synthetic.ordinary import draw_ordinary
from cutray.data.synthetic.reflectivity import draw_reflectivity
from cutray.data.synthetic.texture import draw_texture
from cutray.data.synthetic.transparency import draw_transparency
from cutray.errors import InputError

CaseName = Literal["ordinary", "fine_detail", "transparency", "reflectivity", "texture", "empty"]
CASES: tuple[CaseName, ...] = get_args(CaseName)
FAMILIES: tuple[Family, ...] = get_args(Family)

_MIN_SIDE_PX = 64


def _draw_empty(context: SceneContext) -> Layer:
    """Leave the background alone."""
    alpha = np.zeros((context.height_px, context.width_px), np.float32)
    return Layer(alpha, np.zeros_like(context.behind), context.behind)


_GENERATORS: dict[CaseName, Callable[[SceneContext], Layer]] = {
    "ordinary": draw_ordinary,
    "fine_detail": draw_fine_detail,
    "transparency": draw_transparency,
    "reflectivity": draw_reflectivity,
    "texture": draw_texture,
    "empty": _draw_empty,
}


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A drawn photo and all that is known about it.

    Attributes:
        image: (H, W, 3) uint8, sRGB.
        alpha: (H, W) float32 in [0, 1], exact.
        foreground: (H, W, 3) uint8, sRGB: the subject's own colors, defined where alpha is above 0.
        background: (H, W, 3) uint8, sRGB: what lies behind as seen there, with shadows and refraction. In linear
            light and but for the camera, ``image = alpha · foreground + (1 - alpha) · background``.
        case: What the scene is about.
        family: Whose generators drew it.
        difficulty: 0 is a large subject that stands out, 1 a small one in the background's colors.
    """

    image: U8
    alpha: F32
    foreground: U8
    background: U8
    case: CaseName
    family: Family
    difficulty: float


def draw_scene(
    case: CaseName,
    rng: np.random.Generator,
    height_px: int,
    width_px: int,
    *,
    family: Family = "train",
    background: U8 | None = None,
    difficulty: float | None = None,
    camera: bool = True,
) -> Scene:
    """Draw one scene; equal generators in equal states draw equal scenes.

    Args:
        case: One of `CASES`.
        rng: Source of chance.
        height_px: Height of the picture, at least 64.
        width_px: Width of the picture, at least 64.
        family: One of `FAMILIES`; the two share no generator of subjects or backgrounds.
        background: (h, w, 3) uint8 sRGB photo to stand before, cropped to fit; None draws a background. What the
            photo shows is background, so it should have no subject of its own.
        difficulty: In [0, 1]; None draws it.
        camera: Whether there are soft focus, noise and JPEG.

    Returns:
        The scene.

    Raises:
        InputError: The case or family is unknown, a side is too small, the difficulty is out of range, or the photo
            is not (h, w, 3) uint8.
    """
    _check(case, family, height_px, width_px, difficulty)
    hardness = float(rng.random()) if difficulty is None else difficulty
    if background is None:
        behind = draw_background(rng, height_px, width_px, family)
    elif background.ndim != 3 or background.shape[2] != 3 or background.dtype != np.uint8:
        raise InputError(got=f"a photo of shape {background.shape} and {background.dtype}", allowed="(h, w, 3) uint8")
    else:
        behind = to_light(_crop_to(background, height_px, width_px, rng))
    drawn = _GENERATORS[case](SceneContext.place(rng, behind, family, hardness))
    layer = Layer(drawn.alpha, np.clip(drawn.color, 0, 1), np.clip(drawn.behind, 0, 1))
    if camera:
        layer = focus(layer, float(rng.choice([0.0, 0.45, 0.7, 1.0])) * max(1.0, min(height_px, width_px) / 1024))
    light = compose_light(layer)
    return Scene(
        image=expose(light, rng) if camera else to_stored(light),
        alpha=layer.alpha,
        foreground=to_stored(layer.color),
        background=to_stored(layer.behind),
        case=case,
        family=family,
        difficulty=hardness,
    )


def _check(case: str, family: str, height_px: int, width_px: int, difficulty: float | None) -> None:
    """Refuse what cannot be drawn."""
    if case not in CASES:
        raise InputError(got=f"the case {case!r}", allowed=", ".join(CASES))
    if family not in FAMILIES:
        raise InputError(got=f"the family {family!r}", allowed=", ".join(FAMILIES))
    if min(height_px, width_px) < _MIN_SIDE_PX:
        raise InputError(got=f"a scene of {width_px}x{height_px} px", allowed=f"at least {_MIN_SIDE_PX} px a side")
    if difficulty is not None and not 0 <= difficulty <= 1:
        raise InputError(got=f"a difficulty of {difficulty}", allowed="0 to 1")


def _crop_to(photo: U8, height_px: int, width_px: int, rng: np.random.Generator) -> U8:
    """Cut a part of the right shape out of a photo, sometimes mirrored, and bring it to size."""
    height, width = photo.shape[:2]
    scale = min(height / height_px, width / width_px) * rng.uniform(0.7, 1.0)
    rows, columns = max(1, int(height_px * scale)), max(1, int(width_px * scale))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    part = photo[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    way = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width_px, height_px), interpolation=way), np.uint8)
