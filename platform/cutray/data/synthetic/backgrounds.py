"""Drawn backgrounds: what a photographer would put behind a subject. No kind serves both families."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

from cutray.data.synthetic.context import Family
from cutray.data.synthetic.noise import F32, blur, fractal_noise, grid, smooth_noise

Painter = Callable[[np.random.Generator, int, int], F32]


def draw_background(rng: np.random.Generator, height_px: int, width_px: int, family: Family) -> F32:
    """Draw a wall or an outdoor scene, often with a table or floor in front, often out of focus.

    Args:
        rng: Source of chance.
        height_px: Height of the picture.
        width_px: Width of the picture.
        family: Whose painters draw.

    Returns:
        (H, W, 3) float32, linear light in [0, 1].
    """
    far_painters, near_painters = _PAINTERS[family]
    far = far_painters[int(rng.integers(len(far_painters)))](rng, height_px, width_px)
    far = blur(far, min(height_px, width_px) * float(rng.choice([0.0, 0.002, 0.006, 0.015])))
    if rng.random() < 0.5:
        near = near_painters[int(rng.integers(len(near_painters)))](rng, height_px, width_px)
        rows, _ = grid(height_px, width_px)
        edge = height_px * rng.uniform(0.55, 0.8)
        share = np.clip((rows - edge) / (height_px * rng.uniform(0.002, 0.06)) + 0.5, 0, 1)[..., None]
        far = far * (1 - share) + near * share
    lamp = 1 + 0.15 * smooth_noise(rng, height_px, width_px, max(height_px, width_px) * 0.8)[..., None]
    # From stored to light by the square, which is near enough for colors that are drawn by chance.
    return np.asarray(np.square(np.clip(far * lamp, 0.01, 0.97)), np.float32)


def _color(
    rng: np.random.Generator, saturation: tuple[float, float] = (0.0, 0.5), value: tuple[float, float] = (0.25, 0.95)
) -> F32:
    """Draw a color, (3,) float32, as it is stored."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)), np.float32)


def _wood_color(rng: np.random.Generator) -> F32:
    """Draw a brown, (3,) float32, as it is stored."""
    return np.array(
        colorsys.hsv_to_rgb(rng.uniform(0.04, 0.11), rng.uniform(0.2, 0.65), rng.uniform(0.3, 0.85)), np.float32
    )


def _sweep(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """A studio's paper sweep: one color that gets darker towards the edges."""
    rows, columns = grid(height_px, width_px)
    down, across = rows / height_px - rng.uniform(0.2, 0.8), columns / width_px - rng.uniform(0.2, 0.8)
    fall = 1 - rng.uniform(0.1, 0.8) * (down**2 + across**2)
    bend = 1 - rng.uniform(0, 0.25) / (1 + np.exp((rng.uniform(0.6, 0.85) - rows / height_px) * 30))
    return np.asarray((fall * bend)[..., None] * _color(rng, (0.0, 0.4), (0.45, 1.0)), np.float32)


def _plaster(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """A painted or plastered wall, concrete, or veined stone."""
    noise = fractal_noise(rng, height_px, width_px, height_px * rng.uniform(0.1, 0.4), 6)
    if rng.random() < 0.35:
        noise = 1 - 2 * np.sqrt(np.abs(noise))
    first, second = _color(rng, (0.0, 0.35)), _color(rng, (0.0, 0.35))
    share = np.clip(0.5 + noise * rng.uniform(0.2, 0.9), 0, 1)[..., None]
    return np.asarray(first * (1 - share) + (0.6 * first + 0.4 * second) * share, np.float32)


def _boards(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """Wooden boards, seen from above, along or across."""
    upright = rng.random() < 0.5
    height, width = (width_px, height_px) if upright else (height_px, width_px)
    board = height * rng.uniform(0.12, 0.3)
    rows, _ = grid(height, width)
    number = (rows / board).astype(np.int32)
    tone = rng.uniform(0.75, 1.15, int(number.max()) + 1).astype(np.float32)[number]
    grain = fractal_noise(rng, height, width, max(3.0, board * 0.12), 3, stretch=18)
    waves = np.sin(rows / board * 40 + 6 * smooth_noise(rng, height, width, board, stretch=8) + number * 2.1)
    gap = np.minimum(rows % board, board - rows % board)
    light = tone * (1 + 0.12 * grain + 0.05 * waves) * np.where(gap < max(1.0, board * 0.02), 0.35, 1.0)
    painted = light[..., None] * (_wood_color(rng) if rng.random() < 0.75 else _color(rng, (0, 0.2), (0.6, 0.95)))
    return np.ascontiguousarray(painted.transpose(1, 0, 2) if upright else painted, np.float32)


def _bokeh(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """Lights far out of focus."""
    base = _sweep(rng, height_px, width_px) * rng.uniform(0.15, 0.6)
    stains = fractal_noise(rng, height_px, width_px, height_px * 0.4, 3)[..., None]
    canvas = np.clip(base * (1 + 0.8 * stains), 0, 1)
    glow = np.zeros_like(canvas)
    radius = min(height_px, width_px) * rng.uniform(0.03, 0.09)
    for _ in range(int(rng.integers(8, 40))):
        centre = (int(rng.uniform(0, width_px)), int(rng.uniform(0, height_px)))
        color = _color(rng, (0.0, 0.7), (0.3, 0.9)) * float(rng.uniform(0.2, 0.8))
        cv2.circle(glow, centre, max(2, int(radius * rng.uniform(0.6, 1.3))), color.tolist(), -1, cv2.LINE_AA)
    return np.asarray(np.clip(canvas + blur(glow, radius * 0.12) * 0.8, 0, 1), np.float32)


def _bricks(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """A brick wall in running bond."""
    brick = height_px * rng.uniform(0.05, 0.13)
    length, joint = brick * rng.uniform(2, 3.2), brick * rng.uniform(0.06, 0.14)
    rows, columns = grid(height_px, width_px)
    wobble = smooth_noise(rng, height_px, width_px, brick * 0.5) * brick * 0.03
    course = ((rows + wobble) / brick).astype(np.int32)
    shifted = columns + wobble + (course % 2) * length / 2
    number = (shifted / length).astype(np.int32)
    tones = rng.uniform(0.6, 1.1, 997).astype(np.float32)
    tone = tones[(course * 57 + number * 131) % 997]
    down, across = rows + wobble - course * brick, shifted - number * length
    edge = np.minimum(np.minimum(down, brick - down), np.minimum(across, length - across))
    inside = np.clip((edge - joint) / 1.5 + 0.5, 0, 1)[..., None]
    rough = 1 + 0.2 * fractal_noise(rng, height_px, width_px, brick * 0.5, 4)
    hue = np.array(colorsys.hsv_to_rgb(rng.uniform(0.0, 0.07), rng.uniform(0, 0.65), rng.uniform(0.4, 0.9)), np.float32)
    mortar = np.float32(rng.uniform(0.4, 0.85)) * rough[..., None] * np.ones(3, np.float32)
    return np.asarray((tone * rough)[..., None] * hue * inside + mortar * (1 - inside), np.float32)


def _grass(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """A lawn or meadow: blades in front of blades."""
    canvas = np.zeros((height_px, width_px, 3), np.uint8)
    hue, dry = rng.uniform(0.18, 0.36), rng.uniform(0.3, 0.7)
    canvas[:] = np.rint(np.array(colorsys.hsv_to_rgb(hue, dry, 0.2)) * 255)
    blade = min(height_px, width_px) * rng.uniform(0.06, 0.16)
    for depth in np.linspace(0, 1, 10):
        amount = 90
        foot = rng.uniform(0, 1, (amount, 2)) * (width_px, height_px * 1.15)
        lean = rng.normal(0, 0.5, (amount, 1))
        along = np.linspace(0, 1, 4)[None, :]
        across = foot[:, :1] + blade * lean * along**2
        down = foot[:, 1:] - blade * rng.uniform(0.5, 1.2, (amount, 1)) * along
        points = np.rint(np.stack([across, down], -1) * 8).astype(np.int32)
        tone = colorsys.hsv_to_rgb(hue + rng.normal(0, 0.02), dry, 0.25 + 0.5 * depth * rng.uniform(0.7, 1.2))
        color = [round(255 * part) for part in tone]
        thick = max(1, round(blade * 0.04))
        cv2.polylines(canvas, list(points), False, color, thick, cv2.LINE_AA, 3)
    return (canvas / np.float32(255)).astype(np.float32)


def _tiles(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """Glazed tiles, turned by some angle."""
    rows, columns = grid(height_px, width_px)
    turn, side = rng.choice([0.0, np.pi / 4, rng.uniform(0, np.pi)]), height_px * rng.uniform(0.08, 0.25)
    u = (columns * np.cos(turn) + rows * np.sin(turn)) / side + 50
    v = (rows * np.cos(turn) - columns * np.sin(turn)) / side + 50
    to_edge = np.minimum(np.minimum(u % 1, 1 - u % 1), np.minimum(v % 1, 1 - v % 1)) * side
    inside = np.clip((to_edge - side * 0.02) / 1.5 + 0.5, 0, 1)[..., None]
    checked = ((u.astype(np.int32) + v.astype(np.int32)) % 2)[..., None] * float(rng.random() < 0.4)
    first, second = _color(rng, (0, 0.5), (0.35, 0.95)), _color(rng, (0, 0.5), (0.35, 0.95))
    glaze = 1 + 0.08 * smooth_noise(rng, height_px, width_px, side)[..., None]
    return np.asarray((first * (1 - checked) + second * checked) * glaze * inside + 0.55 * (1 - inside), np.float32)


def _foliage(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """A hedge: leaves over leaves."""
    canvas = np.zeros((height_px, width_px, 3), np.uint8)
    hue = rng.uniform(0.2, 0.4)
    canvas[:] = np.rint(np.array(colorsys.hsv_to_rgb(hue, 0.5, 0.12)) * 255)
    size = min(height_px, width_px) * rng.uniform(0.02, 0.07)
    for index in range(420):
        centre = (int(rng.uniform(0, width_px)), int(rng.uniform(0, height_px)))
        axes = (max(2, int(size * rng.uniform(0.7, 1.4))), max(1, int(size * rng.uniform(0.25, 0.5))))
        tone = colorsys.hsv_to_rgb((hue + rng.normal(0, 0.025)) % 1, rng.uniform(0.35, 0.8), 0.15 + 0.6 * index / 420)
        color = [round(255 * part) for part in tone]
        cv2.ellipse(canvas, centre, axes, rng.uniform(0, 360), 0, 360, color, -1, cv2.LINE_AA)
    return (canvas / np.float32(255)).astype(np.float32)


def _pebbles(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """Round stones side by side, lit from above."""
    spacing = min(height_px, width_px) * rng.uniform(0.03, 0.1)
    seeds = np.ones((height_px, width_px), np.uint8)
    amount = int(height_px * width_px / spacing**2)
    seeds[rng.integers(0, height_px, amount), rng.integers(0, width_px, amount)] = 0
    distance, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    tones = rng.uniform(0.35, 1.0, amount + 2).astype(np.float32)[labels]
    dome = np.clip(1.05 - (distance / (spacing * 0.95)) ** 2, 0.12, 1)
    relief = cv2.Sobel(blur(dome.astype(np.float32), 1.0), cv2.CV_32F, 0, 1, ksize=3) * spacing * 0.04
    rough = 1 + 0.15 * fractal_noise(rng, height_px, width_px, spacing * 0.4, 3)
    return np.asarray(
        (tones * np.sqrt(dome) * (1 + np.clip(relief, -0.4, 0.5)) * rough)[..., None]
        * _color(rng, (0.0, 0.2), (0.5, 0.9)),
        np.float32,
    )


def _folds(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """A hanging or lying cloth with folds."""
    rows, columns = grid(height_px, width_px)
    turn = rng.uniform(-0.6, 0.6) if rng.random() < 0.6 else rng.uniform(0, np.pi)
    across = columns * np.cos(turn) + rows * np.sin(turn)
    bend = smooth_noise(rng, height_px, width_px, height_px * 0.5) * width_px * 0.12
    fold = np.sin((across + bend) / (width_px * rng.uniform(0.02, 0.08)))
    light = 0.75 + 0.25 * fold * (0.6 + 0.4 * smooth_noise(rng, height_px, width_px, height_px * 0.3))
    return np.asarray(light[..., None] * _color(rng, (0.0, 0.7), (0.3, 0.95)), np.float32)


def _room(rng: np.random.Generator, height_px: int, width_px: int) -> F32:
    """A room out of focus: wall, window, furniture."""
    canvas = np.empty((height_px, width_px, 3), np.float32)
    canvas[:] = _color(rng, (0.0, 0.35), (0.4, 0.85))
    for _ in range(int(rng.integers(4, 10))):
        left, top = rng.uniform(-0.1, 0.9) * width_px, rng.uniform(-0.1, 0.8) * height_px
        right, bottom = left + width_px * rng.uniform(0.08, 0.5), top + height_px * rng.uniform(0.1, 0.6)
        bright = rng.random() < 0.25
        color = _color(rng, (0.0, 0.15), (0.9, 1.0)) if bright else _color(rng, (0.1, 0.6), (0.1, 0.8))
        cv2.rectangle(canvas, (int(left), int(top)), (int(right), int(bottom)), color.tolist(), -1)
    return blur(canvas, min(height_px, width_px) * rng.uniform(0.008, 0.03))


_PAINTERS: dict[Family, tuple[tuple[Painter, ...], tuple[Painter, ...]]] = {
    "train": ((_sweep, _sweep, _plaster, _boards, _bokeh, _bricks, _grass), (_sweep, _plaster, _boards, _grass)),
    "test": ((_room, _room, _tiles, _foliage, _pebbles, _folds), (_tiles, _pebbles, _folds)),
}
