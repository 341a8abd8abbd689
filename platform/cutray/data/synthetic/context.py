"""The scene around a subject: where it stands, its colors, its light and its shadow."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from cutray.data.synthetic.noise import F32, blur, grid

Family = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A subject in front of what lies behind it.

    Attributes:
        alpha: (H, W) float32 in [0, 1], the share of each pixel's light that the subject gives.
        color: (H, W, 3) float32, linear light: the subject's own colors, not weighted by alpha.
        behind: (H, W, 3) float32, linear light: the background as seen there, with shadows and refraction.
    """

    alpha: F32
    color: F32
    behind: F32


@dataclass(frozen=True, slots=True)
class SceneContext:
    """What every generator is given.

    Attributes:
        rng: Source of chance.
        behind: (H, W, 3) float32, linear light: the empty background.
        family: Which generators draw; those of ``test`` share none with those of ``train``.
        difficulty: 0 is a large subject that stands out, 1 a small one in the background's colors.
        size_px: Half the subject's size.
        row_px: Row of the subject's middle.
        column_px: Column of the subject's middle.
        surroundings: (3,) float32, linear light: the background's mean color near its middle.
    """

    rng: np.random.Generator
    behind: F32
    family: Family
    difficulty: float
    size_px: float
    row_px: float
    column_px: float
    surroundings: F32

    @classmethod
    def place(cls, rng: np.random.Generator, behind: F32, family: Family, difficulty: float) -> SceneContext:
        """Draw the subject's size and place so that most of it is in the picture."""
        height, width = behind.shape[:2]
        size = float(min(height, width) * (0.42 - 0.24 * difficulty) * rng.uniform(0.85, 1.1))
        room_down, room_across = (max(0.0, side / 2 - size) * 0.8 for side in (height, width))
        row = height / 2 + rng.uniform(-room_down, room_down)
        column = width / 2 + rng.uniform(-room_across, room_across)
        middle = behind[height // 4 : -(height // 4) : 2, width // 4 : -(width // 4) : 2].mean(axis=(0, 1))
        return cls(rng, behind, family, difficulty, size, float(row), float(column), middle)

    @property
    def height_px(self) -> int:
        """Height of the picture."""
        return int(self.behind.shape[0])

    @property
    def width_px(self) -> int:
        """Width of the picture."""
        return int(self.behind.shape[1])

    def color(self, saturation: tuple[float, float] = (0.0, 0.85), value: tuple[float, float] = (0.15, 0.95)) -> F32:
        """Draw a color, (3,) float32 in linear light; the harder the scene, the nearer to the background's."""
        rng = self.rng
        drawn = np.square(np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))))
        pull = max(0.0, self.difficulty - 0.3) * 0.9
        return np.asarray(drawn * (1 - pull) + self.surroundings * pull, np.float32)


@dataclass(frozen=True, slots=True)
class Light:
    """A lamp and the light from all around.

    Attributes:
        direction: (3,) float32, unit: to the right, down, towards the viewer.
        ambient: Share of the light that comes from all around.
        gloss: Strength of the highlight.
        hardness: Exponent of the highlight; large is small and sharp.
    """

    direction: F32
    ambient: float
    gloss: float
    hardness: float


def draw_light(rng: np.random.Generator) -> Light:
    """Place a lamp above the subject, to the left or right, in front of it."""
    side, up = rng.uniform(-1.0, 1.0), rng.uniform(0.2, 1.0)
    direction = np.array([side, -up, rng.uniform(0.5, 1.2)], np.float32)
    return Light(
        np.asarray(direction / np.linalg.norm(direction), np.float32),
        float(rng.uniform(0.3, 0.55)),
        float(rng.choice([0.0, 0.08, 0.3, 0.6])),
        float(rng.uniform(12, 90)),
    )


def shade(normals: F32, albedo: F32, light: Light) -> F32:
    """Light a surface.

    Args:
        normals: (H, W, 3) float32, unit: to the right, down, towards the viewer.
        albedo: (H, W, 3) or (3,) float32, linear light.
        light: The lamp.

    Returns:
        (H, W, 3) float32, linear light.

    Source: Blinn, Models of light reflection for computer synthesized pictures, SIGGRAPH 1977.
    """
    lambert = np.maximum(normals @ light.direction, 0.0)
    # Light from all around comes mostly from above.
    sky = 1.0 - 0.35 * normals[..., 1]
    lit = albedo * (light.ambient * sky + (1.15 - light.ambient) * lambert)[..., None]
    if light.gloss > 0:
        half = light.direction + np.array([0, 0, 1], np.float32)
        half /= np.linalg.norm(half)
        lit = lit + light.gloss * np.power(np.maximum(normals @ half, 0.0), light.hardness)[..., None]
    return np.asarray(lit, np.float32)


def cast_shadow(context: SceneContext, coverage: F32) -> F32:
    """Darken the background below the subject, as a table or a wall behind it would be.

    Args:
        context: Where the subject stands.
        coverage: (H, W) float32 in [0, 1].

    Returns:
        (H, W, 3) float32, linear light.
    """
    rng = context.rng
    occupied = np.flatnonzero(coverage.max(axis=1) > 0.3)
    if occupied.size == 0 or rng.random() < 0.15:
        return context.behind
    foot, size = int(occupied[-1]), len(occupied)
    rows, _ = grid(context.height_px, context.width_px)
    # The shadow is the subject pressed flat on its foot and pushed to one side.
    flat = rng.uniform(0.08, 0.3)
    lean = rng.uniform(-0.9, 0.9)
    up = (np.float32(foot) - rows) / np.float32(flat)
    source_rows = np.broadcast_to(foot - up, coverage.shape).astype(np.float32)
    columns = np.arange(context.width_px, dtype=np.float32)[None, :] - lean * np.maximum(up, 0) * np.float32(flat)
    pressed = cv2.remap(
        coverage,
        np.ascontiguousarray(columns.astype(np.float32)),
        source_rows,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    soft = blur(np.asarray(pressed, np.float32), size * rng.uniform(0.01, 0.05))
    contact = blur(np.roll(coverage, max(1, size // 60), axis=0), size * 0.02)
    darkness = np.clip(rng.uniform(0.25, 0.65) * soft + rng.uniform(0.15, 0.4) * contact, 0, 0.85)
    return np.asarray(context.behind * (1.0 - darkness[..., None]), np.float32)
