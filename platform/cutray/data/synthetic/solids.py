"""Solid shapes that lamps, glass and metal are drawn on: outline, direction of the surface, and thickness.

The ``train`` family turns profiles on a lathe and inflates outlines; the ``test`` family cuts through volumes that
are given by their distance functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cutray.data.synthetic.context import SceneContext
from cutray.data.synthetic.noise import F32, Real, grid, ramp

# Half widths of turned things from top to bottom, in parts of the half height.
_PROFILES: dict[str, tuple[float, ...]] = {
    "bottle": (0.13, 0.14, 0.13, 0.16, 0.34, 0.4, 0.4, 0.4, 0.4, 0.38),
    "flask": (0.12, 0.12, 0.13, 0.15, 0.2, 0.34, 0.5, 0.62, 0.64, 0.55),
    "vase": (0.34, 0.26, 0.22, 0.28, 0.42, 0.52, 0.54, 0.48, 0.36, 0.3),
    "jar": (0.5, 0.5, 0.46, 0.56, 0.6, 0.6, 0.6, 0.6, 0.6, 0.56),
    "tumbler": (0.58, 0.57, 0.56, 0.55, 0.54, 0.52, 0.51, 0.5, 0.48, 0.45),
    "goblet": (0.42, 0.5, 0.52, 0.46, 0.28, 0.07, 0.05, 0.05, 0.12, 0.42),
    "bowl": (0.95, 0.94, 0.91, 0.86, 0.8, 0.71, 0.6, 0.47, 0.36, 0.34),
    "can": (0.47, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.47),
}
VESSELS = ("tumbler", "goblet", "bottle", "flask", "jar", "bowl", "vase")


@dataclass(frozen=True, slots=True)
class Solid:
    """A shape in the picture.

    Attributes:
        coverage: (H, W) float32 in [0, 1].
        normals: (H, W, 3) float32, unit: to the right, down, towards the viewer.
        thickness: (H, W) float32 in [0, 1]: how much of the material lies behind each pixel.
        along: (H, W) float32: 0 at the top of the shape and 1 at its foot, for labels and stripes.
    """

    coverage: F32
    normals: F32
    thickness: F32
    along: F32


def draw_solid(context: SceneContext, names: tuple[str, ...] = tuple(_PROFILES)) -> Solid:
    """Draw a shape of the context's family.

    Args:
        context: Where it stands.
        names: Profiles the ``train`` family may turn.

    Returns:
        The shape.
    """
    if context.family == "test":
        return _cut_volume(context)
    if names != tuple(_PROFILES) or context.rng.random() < 0.6:
        return _turn(context, str(context.rng.choice(names)))
    return _inflate(context)


def unit_directions(across: NDArray[Any], down: NDArray[Any], towards: NDArray[Any]) -> F32:
    """Stack the parts of a direction and scale it to length one."""
    scale = 1 / np.maximum(np.sqrt(across * across + down * down + towards * towards), 1e-6)
    unit = np.empty((*towards.shape, 3), np.float32)
    for place, part in enumerate((across, down, towards)):
        np.multiply(part, scale, out=unit[..., place], casting="unsafe")
    return unit


def _turn(context: SceneContext, name: str) -> Solid:
    """Turn a profile around an upright axis, seen slightly from above."""
    rng = context.rng
    half = context.size_px
    centre_row, centre_column = context.row_px, context.column_px
    controls = np.array(_PROFILES[name]) * rng.uniform(0.85, 1.15) + rng.normal(0, 0.012, 10)
    profile = cv2.resize(controls.astype(np.float32)[None], (256, 1), interpolation=cv2.INTER_CUBIC)[0]
    profile = np.maximum(profile, 0.03) * np.float32(half)
    rows, columns = grid(context.height_px, context.width_px)
    tilt = rng.normal(0, 0.04)
    down, across = rows - centre_row, columns - centre_column
    x, y = across * np.cos(tilt) + down * np.sin(tilt), down * np.cos(tilt) - across * np.sin(tilt)
    # Circles around the axis appear as flat arcs; the front side hangs down.
    look = rng.uniform(0.06, 0.22)
    steps = np.linspace(0, 1, 256, dtype=np.float32)
    guess = np.interp((y / (2 * half) + 0.5).ravel(), steps, profile).reshape(y.shape).astype(np.float32)
    arc = np.sqrt(np.maximum(guess**2 - x**2, 0)) * np.float32(look)
    along = (y - arc) / np.float32(2 * half) + np.float32(0.5)
    radius = np.interp(along.ravel(), steps, profile).reshape(y.shape).astype(np.float32)
    slope = np.interp(along.ravel(), steps, np.gradient(profile) * 255 / (2 * half)).reshape(y.shape).astype(np.float32)
    side = (radius - np.abs(x)) / np.sqrt(1 + slope**2)
    # Wall and rim overlap by two pixels: where both edges ended, their seam would let the background through.
    body = np.minimum(side, np.minimum(along * np.float32(2 * half) + 2, (1 - along) * np.float32(2 * half)))
    # The far rim closes the opening at the top.
    lip = profile[0]
    flat_x, flat_y = x / lip, (y + half) / (lip * np.float32(look))
    reach = np.maximum(np.hypot(flat_x, flat_y), np.float32(1e-3))
    # First-order distance to the ellipse: its equation divided by the length of its gradient.
    rim = (1 - reach) * reach / np.maximum(np.hypot(flat_x / lip, flat_y / (lip * np.float32(look))), np.float32(1e-6))
    towards = np.sqrt(np.clip(1 - (x / np.maximum(radius, 1)) ** 2, 0, 1))
    normals = unit_directions(x / np.maximum(radius, 1), -slope * towards - 0.15, towards + 0.02)
    open_top = (rim > body - 2) & (rim > 0)
    normals[open_top] *= np.array([-1, 1, 1], np.float32)
    coverage = np.maximum(ramp(body), ramp(rim))
    thickness = np.where(towards > 0, 0.15 / np.maximum(towards, 0.15), 1.0)
    return Solid(coverage, normals, thickness.astype(np.float32), np.clip(along, 0, 1))


def _inflate(context: SceneContext) -> Solid:
    """Blow a wavy outline up to a pillow: fruit, pebbles, toys."""
    rng = context.rng
    size = context.size_px
    centre_row, centre_column = context.row_px, context.column_px
    rows, columns = grid(context.height_px, context.width_px)
    y, x = rows - centre_row, (columns - centre_column) / rng.uniform(0.65, 1.2)
    angle = np.arctan2(y, x)
    radius = np.ones_like(angle)
    for wave in range(2, 7):
        radius += np.float32(rng.normal(0, 0.16 / wave)) * np.cos(wave * angle + np.float32(rng.uniform(0, 6.28)))
    radius = radius * np.float32(size * 0.85)
    share = np.hypot(x, y) / radius
    height = np.sqrt(np.clip(1 - share ** np.float32(rng.uniform(2, 5)), 0, 1)) * np.float32(size * rng.uniform(0.6, 1))
    height = cv2.GaussianBlur(height, (0, 0), max(1.0, size * 0.02))
    across = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    normals = unit_directions(-across, -down, np.ones_like(height))
    coverage = ramp((1 - share) * radius * np.float32(0.95))
    along = np.clip(y / (2 * size) + 0.5, 0, 1) * np.ones_like(share)
    return Solid(coverage, normals, np.clip(height / size, 0, 1), along.astype(np.float32))


def _cut_volume(context: SceneContext) -> Solid:
    """Look at rings, balls, rounded boxes and rods, turned in space and melted together."""
    rng = context.rng
    size = context.size_px
    centre_row, centre_column = context.row_px, context.column_px
    cells = 160
    flat = np.linspace(-1.15, 1.15, cells, dtype=np.float32)
    depth = np.linspace(1.0, -1.0, 40, dtype=np.float32)
    points = np.stack(np.meshgrid(depth, flat, flat, indexing="ij"), -1)[..., ::-1]  # (Z, Y, X) of (x, y, z)
    distance = _melt(points, rng)
    lowest = distance.min(axis=0)
    inside = distance < 0
    first = np.where(inside.any(axis=0), inside.argmax(axis=0), distance.argmin(axis=0))
    step = depth[0] - depth[1]
    spacing = flat[1] - flat[0]
    gradient = np.gradient(distance, step, spacing, spacing)
    picked_gradient = [np.take_along_axis(part_, first[None], 0)[0] for part_ in gradient]
    normals_small = unit_directions(picked_gradient[2], picked_gradient[1], -picked_gradient[0])
    through = inside.mean(axis=0).astype(np.float32)
    stack = np.dstack([lowest, normals_small]).astype(np.float32)
    rows, columns = grid(context.height_px, context.width_px)
    scale = (cells - 1) / (2 * 1.15 * size)
    where_rows = (rows - centre_row) * scale + (cells - 1) / 2 + np.zeros_like(columns)
    where_columns = (columns - centre_column) * scale + (cells - 1) / 2 + np.zeros_like(rows)
    where = (where_columns.astype(np.float32), where_rows.astype(np.float32))
    full = cv2.remap(stack, *where, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    thickness = cv2.remap(through, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    normals = unit_directions(full[..., 1], full[..., 2], np.maximum(full[..., 3], 0.02))
    along = np.clip((rows - centre_row) / (2 * size) + 0.5, 0, 1) + np.zeros_like(columns)
    return Solid(
        ramp(-full[..., 0] * np.float32(size)), normals, np.clip(thickness * 1.6, 0, 1), along.astype(np.float32)
    )


def _melt(points: Real, rng: np.random.Generator) -> F32:
    """Join one to three bodies smoothly. Source: Quilez, distance functions (polynomial smooth minimum)."""
    soft = np.float32(rng.uniform(0.03, 0.25))
    total = _body(points @ _turned(rng), rng, 1.0)
    for _ in range(int(rng.integers(0, 3))):
        aside = rng.uniform(-0.35, 0.35, 3).astype(np.float32)
        body = _body((points - aside) @ _turned(rng), rng, 0.7)
        blend = np.clip(0.5 + 0.5 * (body - total) / soft, 0, 1)
        total = body + (total - body) * blend - soft * blend * (1 - blend)
    return np.asarray(total, np.float32)


def _turned(rng: np.random.Generator) -> F32:
    """Draw a rotation in space, (3, 3) float32."""
    square, triangle = np.linalg.qr(rng.standard_normal((3, 3)))
    return np.asarray(square * np.sign(np.diag(triangle)), np.float32)


def _body(p: Real, rng: np.random.Generator, size: float) -> F32:
    """Measure the distance to one body, negative inside."""
    kind = int(rng.integers(4))
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    if kind == 0:  # a ring
        ring = np.float32(size * rng.uniform(0.5, 0.75))
        return np.asarray(np.hypot(np.hypot(x, y) - ring, z) - np.float32(size * rng.uniform(0.08, 0.24)), np.float32)
    if kind == 1:  # a ball, pressed
        press = rng.uniform(0.6, 1.0, 3).astype(np.float32)
        return np.asarray((np.linalg.norm(p / press, axis=-1) - size * 0.75) * press.min(), np.float32)
    if kind == 2:  # a rounded box
        half = (size * rng.uniform(0.25, 0.65, 3)).astype(np.float32)
        beyond = np.abs(p) - half
        outer = np.linalg.norm(np.maximum(beyond, 0), axis=-1)
        return np.asarray(outer + np.minimum(beyond.max(axis=-1), 0) - np.float32(rng.uniform(0.04, 0.15)), np.float32)
    half_length = np.float32(size * rng.uniform(0.5, 0.8))  # a rod with round ends
    reach = np.maximum(np.abs(y) - half_length, 0)
    return np.asarray(np.sqrt(x * x + reach * reach + z * z) - np.float32(size * rng.uniform(0.1, 0.3)), np.float32)
