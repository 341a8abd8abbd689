"""Glass and clear plastic: little light of their own, a bright rim, highlights, and a bent background."""

from __future__ import annotations

import cv2
import numpy as np

from cutray.data.synthetic.context import Layer, SceneContext, cast_shadow
from cutray.data.synthetic.noise import F32, blur, displace, grid, ramp, smooth_noise
from cutray.data.synthetic.solids import VESSELS, Solid, draw_solid, unit_directions

_NORMAL_REFLECTANCE = 0.04


def draw_transparency(context: SceneContext) -> Layer:
    """Draw something one can see through.

    Args:
        context: Where it stands.

    Returns:
        The thing with its effective alpha, and the background as it is seen through it.
    """
    if context.family == "test" and context.rng.random() < 0.35:
        solid = _film(context)
    else:
        solid = draw_solid(context, VESSELS)
    return _glaze(context, solid)


def _glaze(context: SceneContext, solid: Solid) -> Layer:
    """Turn a shape into glass.

    Alpha is the coverage times all light that does not come from behind: absorbed, reflected at the rim, or a
    highlight.

    Source: Schlick, An inexpensive BRDF model, 1994 (reflectance); Beer–Lambert law (absorption).
    """
    rng = context.rng
    height, width = context.height_px, context.width_px
    across, down, towards = (solid.normals[..., part] for part in range(3))
    clear = rng.random() < 0.65
    density = rng.uniform(0.05, 0.3) if clear else rng.uniform(0.5, 2.2)
    filled = ramp((solid.along - rng.uniform(0.3, 0.7)) * height) * float(rng.random() < 0.4)
    depth = solid.thickness + filled * rng.uniform(0.5, 1.5)
    passing = np.exp(-density * depth)
    rim = _NORMAL_REFLECTANCE + (1 - _NORMAL_REFLECTANCE) * np.power(1 - np.clip(towards, 0, 1), 4)
    lamp = _highlights(context, solid)
    own = 1 - passing * (1 - rim) * (1 - lamp)
    solid_parts = _cap(context, solid)
    own = np.maximum(own, solid_parts)
    alpha = solid.coverage * np.clip(own, 0.02, 1)
    tint = context.color((0.0, 0.25), (0.5, 0.95)) if clear else context.color((0.4, 0.9), (0.2, 0.8))
    around = blur(context.behind, min(height, width) * 0.04)[:, ::-1]
    dark_rim = float(rng.choice([0.25, 1.0, 1.5]))  # on a bright sweep the rim of glass is dark, on a dark one bright
    parts = ((1 - passing)[..., None] * tint) + (passing * rim)[..., None] * around * np.float32(dark_rim)
    light = parts * (1 - lamp)[..., None] + lamp[..., None]
    color = light / np.maximum(own, 0.02)[..., None]
    if solid_parts.any():
        color += solid_parts[..., None] * (context.color() * (0.5 + 0.6 * towards)[..., None] - color)
    bend = min(height, width) * rng.uniform(0.01, 0.09) * (0.3 + depth) * solid.coverage
    bent = displace(cast_shadow(context, solid.coverage * 0.45), -down * bend, -across * bend)
    return Layer(alpha.astype(np.float32), np.clip(color, 0, 1.2).astype(np.float32), bent)


def _highlights(context: SceneContext, solid: Solid) -> F32:
    """Reflect windows and strip lights, (H, W) float32 in [0, 1]."""
    rng = context.rng
    across, down = solid.normals[..., 0], solid.normals[..., 1]
    total = np.zeros(across.shape, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        middle, half = rng.uniform(-0.85, 0.85), rng.uniform(0.02, 0.1)
        strip = ramp((half - np.abs(across - middle)) * 40) * ramp((0.55 - np.abs(down + 0.1)) * 20)
        long = ramp((0.35 - np.abs(solid.along - rng.uniform(0.35, 0.6))) * 25)
        total = np.maximum(total, strip * long * np.float32(rng.uniform(0.25, 0.95)))
    return blur(total, 0.6) * (solid.coverage > 0)


def _cap(context: SceneContext, solid: Solid) -> F32:
    """Close some vessels with an opaque cap or give them a label, (H, W) float32 in [0, 1]."""
    rng = context.rng
    chance, size_px = rng.random(), context.height_px * 0.5
    if chance < 0.25:
        return ramp((rng.uniform(0.06, 0.16) - solid.along) * size_px) * solid.coverage
    if chance < 0.4:
        top, bottom = rng.uniform(0.5, 0.6), rng.uniform(0.7, 0.85)
        return ramp((solid.along - top) * size_px) * ramp((bottom - solid.along) * size_px) * solid.coverage
    return np.zeros_like(solid.coverage)


def _film(context: SceneContext) -> Solid:
    """Crumple a bag of clear film: a bent sheet whose folds catch the light."""
    rng = context.rng
    size = context.size_px
    row, column = context.row_px, context.column_px
    rows, columns = grid(context.height_px, context.width_px)
    shape = (context.height_px, context.width_px)
    wobble = smooth_noise(rng, *shape, size * 0.3) * size * 0.06
    y, x = rows - row, columns - column
    distance = np.minimum(size * rng.uniform(0.5, 0.8) - np.abs(x), size * 0.9 - np.abs(y)) + wobble
    # Ridges where a field changes its sign: film folds sharply and is smooth in between.
    relief = np.abs(smooth_noise(rng, *shape, size * 0.5)) + 0.25 * np.abs(smooth_noise(rng, *shape, size * 0.22))
    across = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=0.125) * size * 0.25
    down = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=0.125) * size * 0.25
    normals = unit_directions(across, down, np.ones_like(across))
    along = np.clip(y / (2 * size) + 0.5, 0, 1) + np.zeros_like(x)
    thin = np.full(shape, 0.12, np.float32)
    return Solid(ramp(distance.astype(np.float32)), normals, thin, along.astype(np.float32))
