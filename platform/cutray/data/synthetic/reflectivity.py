"""Metal: opaque, but what one sees on it is the background itself, bent; and rings and chains with holes."""

from __future__ import annotations

import cv2
import numpy as np

from cutray.data.synthetic.canvas import FineCanvas
from cutray.data.synthetic.context import Layer, SceneContext, cast_shadow
from cutray.data.synthetic.noise import F32, blur, grid, sample_at, smooth_noise
from cutray.data.synthetic.solids import Solid, draw_solid, unit_directions

_METALS = ((0.92, 0.93, 0.95), (0.95, 0.78, 0.45), (0.93, 0.66, 0.52), (0.75, 0.77, 0.8), (0.35, 0.36, 0.38))


def draw_reflectivity(context: SceneContext) -> Layer:
    """Draw polished metal.

    Args:
        context: Where it stands.

    Returns:
        The metal, and the background with its shadow.
    """
    kind = int(context.rng.integers(5))
    if kind < 2:
        solid = draw_solid(context)
        coverage, color = solid.coverage, mirror(context, solid)
    elif kind == 2:
        coverage, color = _ring(context)
    else:
        coverage, color = _chain(context)
    return Layer(coverage, color, cast_shadow(context, coverage))


def mirror(context: SceneContext, solid: Solid) -> F32:
    """Show the surroundings on a surface.

    The ``train`` family looks the flipped background up by the slope of the surface; the ``test`` family follows
    reflected rays into a room made of the background all around, with lamps.

    Args:
        context: What there is to reflect.
        solid: The surface.

    Returns:
        (H, W, 3) float32, linear light.
    """
    rng = context.rng
    height, width = context.height_px, context.width_px
    room = blur(context.behind, min(height, width) * rng.uniform(0.003, 0.03))
    across, down, towards = (solid.normals[..., part] for part in range(3))
    if context.family == "train":
        reach = rng.uniform(0.3, 0.8)
        rows, columns = grid(height, width)
        seen = sample_at(room, height - rows + down * height * reach, width - columns + across * width * reach)
        stripe = np.exp(-np.square((across - rng.uniform(-0.6, 0.6)) / rng.uniform(0.05, 0.2)))
        lamps = stripe * rng.uniform(0.2, 1.2)
    else:
        bounce_across, bounce_down, bounce_towards = 2 * towards * across, 2 * towards * down, 2 * towards**2 - 1
        turn = np.arctan2(bounce_across, bounce_towards) / (2 * np.pi) + rng.uniform(0, 1)
        lift = np.arcsin(np.clip(bounce_down, -1, 1)) / np.pi + 0.5
        seen = sample_at(room, lift * (height - 1), np.abs((turn * 2) % 2 - 1) * (width - 1))
        box = (np.abs(bounce_down + 0.55) < 0.25) & (np.abs(np.sin((turn + rng.random()) * 2 * np.pi)) < 0.45)
        lamps = blur(box.astype(np.float32), 1.5) * rng.uniform(0.5, 1.3)
    # Metal shows its surroundings with more contrast than they have, darkest where it turns to the floor.
    bright = seen * rng.uniform(0.8, 1.4) * (0.9 - 0.45 * down)[..., None] + lamps[..., None]
    tint = np.array(_METALS[int(rng.integers(len(_METALS)))], np.float32)
    grazing = np.power(1 - np.clip(towards, 0, 1), 5)[..., None]
    return np.asarray(bright * (tint + (1 - tint) * grazing), np.float32)


def _wire_solid(context: SceneContext, coverage: F32, wire_px: float) -> Solid:
    """Give drawn wire a round surface: it turns away across the wire, and a little along it."""
    rng = context.rng
    size = (context.height_px, context.width_px)
    depth = blur(coverage, max(0.6, wire_px * 0.3))
    slopes = [cv2.Sobel(depth, cv2.CV_32F, *order, ksize=3, scale=0.125) for order in ((1, 0), (0, 1))]
    across, down = (
        np.clip(-slope * wire_px * 1.2, -0.7, 0.7) + 0.25 * smooth_noise(rng, *size, max(6.0, wire_px * 6))
        for slope in slopes
    )
    towards = np.sqrt(np.clip(1 - across**2 - down**2, 0.05, 1))
    return Solid(coverage, unit_directions(across, down, towards), coverage, coverage)


def _ring(context: SceneContext) -> tuple[F32, F32]:
    """Draw rings and bracelets: ellipses of wire with the background in their middle."""
    rng = context.rng
    canvas = FineCanvas(context.height_px, context.width_px)
    size = context.size_px
    row, column = context.row_px, context.column_px
    around = np.linspace(0, 2 * np.pi, 140)
    white = np.ones(3, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        reach = size * rng.uniform((0.4, 0.25), (0.95, 0.9))
        turn, wave = rng.uniform(0, np.pi), np.ones_like(around)
        if context.family == "test":  # twisted wire instead of a smooth band
            wave += 0.05 * np.sin(around * rng.integers(9, 24))
        x, y = reach[0] * wave * np.cos(around), reach[1] * wave * np.sin(around)
        path = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], -1)
        path += np.array([column, row]) + rng.normal(0, size * 0.12, 2)
        wire = max(1.5, size * rng.uniform(0.02, 0.15))
        canvas.line(path.astype(np.float32), white, wire, closed=True)
    coverage, _ = canvas.render()
    return coverage, mirror(context, _wire_solid(context, coverage, wire))


def _chain(context: SceneContext) -> tuple[F32, F32]:
    """Draw a chain with links of wire one to three pixels thin, most with a pendant."""
    rng = context.rng
    canvas = FineCanvas(context.height_px, context.width_px)
    size = context.size_px
    row, column = context.row_px, context.column_px
    path = (_spline_path if context.family == "train" else _hanging_path)(context, size) + np.array([column, row])
    wire = float(rng.uniform(1, 3)) * max(1.0, min(context.height_px, context.width_px) / 1024)
    link = wire * rng.uniform(3, 6)
    steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.arange(0, steps[-1], link * 0.8)
    points = np.stack([np.interp(at, steps, path[:, part]) for part in range(2)], -1)
    turns = np.arctan2(*np.gradient(points, axis=0).T[::-1]) if len(points) > 1 else np.zeros(len(points))
    around = np.linspace(0, 2 * np.pi, 20)
    white = np.ones(3, np.float32)
    for index, (point, turn) in enumerate(zip(points, turns, strict=True)):
        # Every other link is seen from its edge; a curb chain lies flat and overlaps instead.
        flat = 0.5 if context.family == "test" else (0.55 if index % 2 else 0.08)
        lean = turn + (0.5 if context.family == "test" else 0.0)
        x, y = link * 0.55 * np.cos(around), link * 0.55 * flat * np.sin(around)
        ring = np.stack([x * np.cos(lean) - y * np.sin(lean), x * np.sin(lean) + y * np.cos(lean)], -1) + point
        canvas.line(ring.astype(np.float32), white, wire * 0.8, closed=True)
    if rng.random() < 0.7:
        lowest = points[int(points[:, 1].argmax())] if len(points) else np.array([column, row])
        drop = size * rng.uniform(0.08, 0.22)
        ring = np.linspace(0, 2 * np.pi, 60)
        waves = 1 + 0.25 * np.cos(ring * rng.integers(2, 6))
        pendant = np.stack([np.sin(ring) * waves, 1 - np.cos(ring) * waves], -1) * drop + lowest
        if rng.random() < 0.5:
            canvas.fill(pendant.astype(np.float32), white)
        else:
            canvas.line(pendant.astype(np.float32), white, max(1.5, drop * 0.25), closed=True)
    coverage, _ = canvas.render()
    return coverage, mirror(context, _wire_solid(context, coverage, wire))


def _spline_path(context: SceneContext, size: float) -> F32:
    """Lay a chain down in smooth bends, (n, 2) float32 around the origin."""
    angle = np.linspace(0, 2 * np.pi * context.rng.uniform(0.75, 1.0), 400)
    radius = np.ones_like(angle)
    for wave in range(2, 5):
        radius += context.rng.normal(0, 0.25 / wave) * np.cos(wave * angle + context.rng.uniform(0, 6.28))
    return (np.stack([np.cos(angle), np.sin(angle)], -1) * (radius * size * 0.8)[:, None]).astype(np.float32)


def _hanging_path(context: SceneContext, size: float) -> F32:
    """Hang a chain between two pins and let it swing to rest, (n, 2) float32 around the origin.

    Source: Jakobsen, Advanced character physics, 2001 (position-based steps with fixed lengths).
    """
    rng = context.rng
    pins = np.array([[-rng.uniform(0.5, 0.9), -0.85], [rng.uniform(0.5, 0.9), -rng.uniform(0.6, 0.9)]]) * size
    count = 60
    place = np.linspace(pins[0], pins[1], count)
    length = float(np.linalg.norm(pins[1] - pins[0])) * rng.uniform(1.5, 2.2) / (count - 1)
    before = place - rng.normal(0, size * 0.002, place.shape)
    for _ in range(160):
        place, before = place + 0.98 * (place - before) + np.array([0, size * 0.002]), place
        for _ in range(6):
            for first in (0, 1):
                left, right = place[first:-1:2], place[first + 1 :: 2]
                gap = right - left
                apart = np.linalg.norm(gap, axis=1, keepdims=True)
                push = gap * (1 - length / np.maximum(apart, 1e-6)) / 2
                place[first:-1:2] += push
                place[first + 1 :: 2] -= push
            place[0], place[-1] = pins
    return place.astype(np.float32)
