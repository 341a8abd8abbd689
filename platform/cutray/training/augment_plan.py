"""Rolls the dice for a batch that is augmented on the device: the same choices, as often, as for a single sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from cutray.config import AugmentSettings
from cutray.data.augment import (
    BLUR_SIGMA,
    DARKNESS,
    GRAIN,
    LEAST_SUBJECT,
    QUALITY,
    SHRINK,
    cut_window,
    random_view,
    stripe_beside,
    subject_box,
)

# Alphas are kept this small beside the collection, to choose crops by.
_SMALL_SIDE = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the subject of a sample is, as shares of its sides.

    Attributes:
        cover: (32, 32) float32 in [0, 1], the alpha, small.
        box: Top, left, bottom and right of the subject; None without one.
        stripe: The same of the largest stripe without it; None where there is only a narrow one.
    """

    cover: np.ndarray
    box: tuple[float, float, float, float] | None
    stripe: tuple[float, float, float, float] | None

    @classmethod
    def of(cls, alpha: np.ndarray) -> Shape:
        """Measure an alpha, (S, S) uint8 in 0 … 255."""
        import cv2

        values = alpha.astype(np.float32) / np.float32(255)
        small = np.asarray(cv2.resize(values, (_SMALL_SIDE, _SMALL_SIDE), interpolation=cv2.INTER_AREA))
        height, width = values.shape
        box = subject_box(values)
        stripe = stripe_beside(box, height, width)
        return cls(
            small,
            (box[0] / height, box[1] / width, box[2] / height, box[3] / width) if box else None,
            (stripe[0].start / height, stripe[1].start / width, stripe[0].stop / height, stripe[1].stop / width)
            if stripe
            else None,
        )


@dataclass(slots=True)
class Plan:
    """What becomes of each sample of a batch; places of samples are their numbers in the batch.

    Attributes:
        boxes: (N, 4) float32, the part that is seen: left, top, width, height in pixels.
        flips: (N,) bool.
        matrices: (N, 3, 3) float32, from pixels of the result to those of the part, enlarged.
        curves: (N, 6) float32: gamma, contrast, warmth of red, green and blue, saturation.
        stripes: Samples with a new background, and its left, top, width and height in pixels of the other photo.
        grey: Samples without color.
        blurs: Samples out of focus, with sigma in pixels.
        shrinks: Samples that were smaller, with their side in pixels.
        darks: Samples in low light, with a factor.
        grains: Samples with noise, with its deviation and seed.
        jpegs: Samples that were compressed, with the quality.
    """

    boxes: np.ndarray
    flips: np.ndarray
    matrices: np.ndarray
    curves: np.ndarray
    stripes: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    grey: list[int] = field(default_factory=list)
    blurs: dict[int, float] = field(default_factory=dict)
    shrinks: dict[int, int] = field(default_factory=dict)
    darks: dict[int, float] = field(default_factory=dict)
    grains: dict[int, tuple[float, int]] = field(default_factory=dict)
    jpegs: dict[int, float] = field(default_factory=dict)


def plan_batch(
    shapes: Sequence[Shape],
    others: Sequence[Shape | None],
    rngs: Sequence[Generator],
    side: int,
    settings: AugmentSettings,
) -> Plan:
    """Choose for each sample what becomes of it.

    Args:
        shapes: Where the subjects are.
        others: Those of the photos that may become backgrounds; None where there is no such photo.
        rngs: Where the choices come from, one generator for each sample.
        side: Side of the samples in pixels.
        settings: How strong and how often.
    """
    count = len(shapes)
    plan = Plan(
        np.tile(np.array([0, 0, side, side], np.float32), (count, 1)),
        np.zeros(count, bool),
        np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)),
        np.ones((count, 6), np.float32),
    )
    for place, (shape, other, rng) in enumerate(zip(shapes, others, rngs, strict=True)):
        if other is not None and other.stripe is not None and rng.random() < settings.new_background:
            plan.stripes[place] = _in_pixels(other.stripe, side)
        plan.boxes[place] = _in_pixels(_frame(shape, rng, settings), side)
        plan.flips[place] = rng.random() < settings.flip
        if rng.random() < settings.warp:
            plan.matrices[place] = np.linalg.inv(random_view(side, rng, settings))
        _plan_light(plan, place, rng, side, settings)
    return plan


def _frame(shape: Shape, rng: Generator, settings: AugmentSettings) -> tuple[float, float, float, float]:
    """Choose the part that is seen, as shares: top, left, bottom, right."""
    whole = (0.0, 0.0, 1.0, 1.0)
    if settings.cut_subject and rng.random() < settings.cut_subject:
        return whole if shape.box is None else cut_window(shape.box, 1.0, 1.0, rng)
    height, width = 1 - settings.crop * rng.random(2)
    top, left = rng.random() * (1 - height), rng.random() * (1 - width)
    rows, columns = (
        slice(int(start * _SMALL_SIDE), max(int(start * _SMALL_SIDE) + 1, round((start + size) * _SMALL_SIDE)))
        for start, size in ((top, height), (left, width))
    )
    if shape.cover[rows, columns].sum() < LEAST_SUBJECT * shape.cover.sum():
        return whole
    return top, left, top + height, left + width


def _plan_light(plan: Plan, place: int, rng: Generator, side: int, settings: AugmentSettings) -> None:
    """Choose changes of light, color, focus, noise and compression."""
    strength = settings.color
    if strength:
        plan.curves[place, :2] = np.exp(rng.uniform(-strength, strength, 2))
        plan.curves[place, 2:5] = np.exp(rng.uniform(-0.3, 0.3, 3) * strength)
        plan.curves[place, 5] = np.exp(rng.uniform(-1, 1) * strength)
    if rng.random() < settings.grey:
        plan.grey.append(place)
    if rng.random() < settings.blur:
        if rng.random() < 0.5:
            plan.blurs[place] = float(rng.uniform(*BLUR_SIGMA))
        else:
            plan.shrinks[place] = max(8, round(side * rng.uniform(*SHRINK)))
    dark = rng.random() < settings.low_light
    if dark:
        plan.darks[place] = float(rng.uniform(*DARKNESS))
    if dark or rng.random() < settings.noise:
        plan.grains[place] = (float(rng.uniform(*GRAIN)), int(rng.integers(1 << 62)))
    if rng.random() < settings.jpeg:
        plan.jpegs[place] = float(rng.integers(*QUALITY))


def _in_pixels(frame: tuple[float, float, float, float], side: int) -> tuple[float, float, float, float]:
    """Turn top, left, bottom and right as shares into left, top, width and height in pixels."""
    top, left, bottom, right = frame
    return left * side, top * side, (right - left) * side, (bottom - top) * side
