"""The subject's own colours are found again where they were mixed with the background."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cutray.imaging.compose import compose
from cutray.matting.foreground import estimate_foreground
from tests.alphas import soft_disc
from tests.pictures import photo

NEW_BACKGROUNDS = {"white": (255, 255, 255), "magenta": (255, 0, 255), "black": (0, 0, 0)}


def _hair(height: int, width: int) -> np.ndarray:
    """Draw a disc with thin hairs around it, (H, W) float32 in [0, 1]."""
    big = np.zeros((height * 4, width * 4), np.uint8)
    centre, radius = (width * 2, height * 2), height
    cv2.circle(big, centre, radius, 255, -1)
    for angle in np.linspace(0, 2 * np.pi, 90, endpoint=False):
        tip = (int(centre[0] + 1.6 * radius * np.cos(angle)), int(centre[1] + 1.6 * radius * np.sin(angle + 0.05)))
        cv2.line(big, centre, tip, 255, 3, cv2.LINE_AA)
    return cv2.resize(big, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


SCENES = {
    "soft disc": (soft_disc(360, 480, 110, 24), (180, 60, 40), (40, 160, 60)),
    "dark on bright": (soft_disc(360, 480, 110, 24), (30, 28, 26), (235, 240, 245)),
    "bright on dark": (soft_disc(360, 480, 110, 24), (240, 230, 210), (12, 20, 40)),
    "hair on sky": (_hair(360, 480), (90, 55, 30), (120, 170, 230)),
    "larger than the solver's picture": (soft_disc(1100, 1500, 400, 60), (180, 60, 40), (40, 160, 60)),
}


@pytest.mark.parametrize("background", NEW_BACKGROUNDS)
@pytest.mark.parametrize("scene", SCENES)
def test_known_mixtures_are_taken_apart(scene: str, background: str) -> None:
    """On a new background the estimate is at most 4 levels off in soft edges, and half as far as the raw pixels."""
    alpha, subject, old = SCENES[scene]
    rng = np.random.default_rng(3)
    true = np.clip(np.float32(subject) + rng.normal(0, 4, (*alpha.shape, 3)), 0, 255).astype(np.uint8)
    surroundings = np.clip(np.float32(old) + rng.normal(0, 4, (*alpha.shape, 3)), 0, 255).astype(np.uint8)
    mixed = compose(true, alpha, surroundings)
    soft = (alpha > 0.02) & (alpha < 0.98)
    wanted = compose(true, alpha, NEW_BACKGROUNDS[background]).astype(float)[soft]

    def error(colors: np.ndarray) -> float:
        return float(np.abs(compose(colors, alpha, NEW_BACKGROUNDS[background])[soft] - wanted).mean())

    cleaned, raw = error(estimate_foreground(mixed, alpha)), error(mixed)
    assert cleaned <= 4
    assert cleaned * 2 <= raw


def test_textured_scene_gains_too() -> None:
    """Where both colours change from place to place the error still halves."""
    alpha = soft_disc(360, 480, 110, 24)
    true, old = photo(360, 480, seed=1) // 2, photo(360, 480, seed=2) // 2 + 128
    mixed = compose(true, alpha, old)
    soft = (alpha > 0.1) & (alpha < 0.98)
    cleaned = np.abs(estimate_foreground(mixed, alpha)[soft].astype(float) - true[soft]).mean()
    assert cleaned * 2 <= np.abs(mixed[soft].astype(float) - true[soft]).mean()


def test_opaque_pixels_keep_their_bytes_and_hidden_ones_are_black() -> None:
    """Where alpha is 1 nothing changes, and what nobody can see does not leak."""
    image, alpha = photo(200, 260), soft_disc(200, 260, 60, 12)
    found = estimate_foreground(image, alpha)
    assert np.array_equal(found[alpha == 1], image[alpha == 1])
    assert (found[alpha == 0] == 0).all()


def test_inputs_are_left_alone() -> None:
    """Neither photo nor alpha is changed in place."""
    image, alpha = photo(90, 120), soft_disc(90, 120, 30, 12)
    before = image.copy(), alpha.copy()
    estimate_foreground(image, alpha)
    assert np.array_equal(image, before[0])
    assert np.array_equal(alpha, before[1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 700), (700, 1), (2, 3), (3, 40_000), (40_000, 2), (641, 643)])
@pytest.mark.parametrize("level", [0.0, 0.001, 0.5, 1.0])
def test_any_shape_and_any_alpha(shape: tuple[int, int], level: float) -> None:
    """One pixel, one row, huge aspect ratios, and alpha that is the same everywhere all work."""
    image = photo(*shape)
    found = estimate_foreground(image, np.full(shape, level, np.float32))
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    if level in (0.0, 1.0):
        assert np.array_equal(found, image if level else np.zeros_like(image))


def test_uniform_photo_keeps_its_colour() -> None:
    """Where subject and background are alike the estimate is that colour, whatever alpha says."""
    alpha = soft_disc(200, 260, 60, 30)
    found = estimate_foreground(np.full((200, 260, 3), (90, 140, 30), np.uint8), alpha)
    assert np.abs(found[alpha > 0].astype(int) - (90, 140, 30)).max() <= 1
