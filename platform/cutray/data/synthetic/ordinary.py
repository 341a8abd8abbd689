"""Ordinary products: smooth, opaque, with labels, and with a shadow that is no part of them."""

from __future__ import annotations

import numpy as np

from cutray.data.synthetic.context import Layer, SceneContext, cast_shadow, draw_light, shade
from cutray.data.synthetic.noise import F32, fractal_noise, ramp
from cutray.data.synthetic.solids import Solid, draw_solid


def draw_ordinary(context: SceneContext) -> Layer:
    """Draw an opaque thing.

    Args:
        context: Where it stands.

    Returns:
        The thing, and the background with its shadow.
    """
    solid = draw_solid(context)
    color = shade(solid.normals, paint(context, solid), draw_light(context.rng))
    return Layer(solid.coverage, color, cast_shadow(context, solid.coverage))


def paint(context: SceneContext, solid: Solid) -> F32:
    """Give a shape its colors: plain, in stripes, with a label, or grained.

    Args:
        context: Where it stands.
        solid: The shape.

    Returns:
        (H, W, 3) float32, linear light.
    """
    rng = context.rng
    albedo = np.empty((context.height_px, context.width_px, 3), np.float32)
    albedo[:] = context.color()
    kind = int(rng.integers(4))
    size_px = 2 * context.height_px * 0.3
    if kind == 1:
        top, bottom = rng.uniform(0.35, 0.5), rng.uniform(0.6, 0.85)
        band = ramp((solid.along - top) * size_px) * ramp((bottom - solid.along) * size_px)
        albedo += band[..., None] * (context.color() - albedo)
        lines = 0.5 + 0.5 * np.sin(solid.along * rng.uniform(60, 160))
        text = band * (lines > 0.75) * (solid.normals[..., 0] > -0.6) * (solid.normals[..., 0] < 0.5)
        albedo += 0.8 * text[..., None] * (context.color() - albedo)
    elif kind == 2:
        wave = np.sin(solid.along * rng.uniform(15, 60) + rng.uniform(-3, 3) * solid.normals[..., 0])
        albedo += ramp(wave * size_px / 30)[..., None] * (context.color() - albedo)
    elif kind == 3:
        grain = fractal_noise(rng, context.height_px, context.width_px, context.height_px * rng.uniform(0.02, 0.15), 4)
        albedo *= (1 + rng.uniform(0.1, 0.5) * grain)[..., None]
    return np.clip(albedo, 0.004, 0.98)
