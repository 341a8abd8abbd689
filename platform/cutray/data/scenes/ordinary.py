"""Ordinary products: smooth, opaque, with labels, and with a shadow that is no part of them."""

from __future__ import annotations

import numpy as np

from cutray.data.scenes.fields import F32, fractal_noise, ramp
from cutray.data.scenes.solids import Solid, draw_solid
from cutray.data.scenes.stage import Layer, Stage, cast_shadow, draw_light, shade


def draw_ordinary(stage: Stage) -> Layer:
    """Draw an opaque thing.

    Args:
        stage: Where it stands.

    Returns:
        The thing, and the background with its shadow.
    """
    solid = draw_solid(stage)
    colour = shade(solid.normals, paint(stage, solid), draw_light(stage.rng))
    return Layer(solid.coverage, colour, cast_shadow(stage, solid.coverage))


def paint(stage: Stage, solid: Solid) -> F32:
    """Give a shape its colours: plain, in stripes, with a label, or grained.

    Args:
        stage: Where it stands.
        solid: The shape.

    Returns:
        (H, W, 3) float32, linear light.
    """
    rng = stage.rng
    albedo = np.empty((stage.height_px, stage.width_px, 3), np.float32)
    albedo[:] = stage.colour()
    kind = int(rng.integers(4))
    size_px = 2 * stage.height_px * 0.3
    if kind == 1:
        top, bottom = rng.uniform(0.35, 0.5), rng.uniform(0.6, 0.85)
        band = ramp((solid.along - top) * size_px) * ramp((bottom - solid.along) * size_px)
        albedo += band[..., None] * (stage.colour() - albedo)
        lines = 0.5 + 0.5 * np.sin(solid.along * rng.uniform(60, 160))
        text = band * (lines > 0.75) * (solid.normals[..., 0] > -0.6) * (solid.normals[..., 0] < 0.5)
        albedo += 0.8 * text[..., None] * (stage.colour() - albedo)
    elif kind == 2:
        wave = np.sin(solid.along * rng.uniform(15, 60) + rng.uniform(-3, 3) * solid.normals[..., 0])
        albedo += ramp(wave * size_px / 30)[..., None] * (stage.colour() - albedo)
    elif kind == 3:
        grain = fractal_noise(rng, stage.height_px, stage.width_px, stage.height_px * rng.uniform(0.02, 0.15), 4)
        albedo *= (1 + rng.uniform(0.1, 0.5) * grain)[..., None]
    return np.clip(albedo, 0.004, 0.98)
