"""Measurements of a subject's surface and edge."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cutray.matting.features import SURFACE, TILES, measure

ROWS, COLUMNS = np.mgrid[0:240, 0:320].astype(np.float32)
PROBS = np.clip(70 - np.hypot(ROWS - 120, COLUMNS - 160), 0, 1).astype(np.float32)


def picture(surface: np.ndarray, radius_px: float = 69.5) -> np.ndarray:
    """A disc with a grey surface on a smooth grey background."""
    behind = 0.4 + 0.1 * COLUMNS / 320
    grey = np.where(np.hypot(ROWS - 120, COLUMNS - 160) < radius_px, surface, behind)
    return np.repeat(np.rint(255 * np.clip(grey, 0, 1)).astype(np.uint8)[..., None], 3, axis=2)


def numbers(surface: np.ndarray, probs: np.ndarray = PROBS) -> dict[str, float]:
    measured = measure(picture(surface), probs)
    assert measured is not None
    return measured.features


PLAIN = np.full_like(ROWS, 0.7)
NET = 0.7 + 0.25 * np.sign(np.sin(ROWS * 0.9) * np.sin(COLUMNS * 0.9))


def test_a_net_repeats_and_a_plain_disc_does_not() -> None:
    """Periodic texture raises the spectrum's peak, the gradients and the pattern changes."""
    net, plain = numbers(NET), numbers(PLAIN)
    for name in ("repeat", "gradient.contrast", "lbp_change.inside", "deviation.contrast", "fine.inside"):
        assert net[name] > plain[name] + 0.1, name
    assert plain["lbp_flat.inside"] > 0.9


def test_doubt_shows_in_the_numbers() -> None:
    """A hesitant network raises the entropy and lowers the certainty."""
    sure, unsure = numbers(PLAIN), numbers(PLAIN, 0.6 * PROBS)
    assert unsure["doubt.inside"] > sure["doubt.inside"] + 0.5
    assert unsure["certainty"] < sure["certainty"]


def test_strands_run_across_the_outline() -> None:
    """Rays from the middle cross the outline; rings run along it."""
    angle = np.arctan2(ROWS - 120, COLUMNS - 160)
    rays = 0.6 + 0.3 * np.sign(np.sin(angle * 60))
    rings = 0.6 + 0.3 * np.sign(np.sin(np.hypot(ROWS - 120, COLUMNS - 160)))
    crossing, along = (measure(picture(surface, 75), PROBS) for surface in (rays, rings))
    assert crossing is not None and along is not None
    assert crossing.features["across.edge"] > along.features["across.edge"] + 0.5


def test_holes_and_thin_parts_are_counted() -> None:
    """A ring has a hole and is thin; a disc is neither."""
    ring = PROBS * (np.hypot(ROWS - 120, COLUMNS - 160) > 66)
    assert numbers(PLAIN, ring)["gaps.count"] > numbers(PLAIN)["gaps.count"] == 0
    assert numbers(PLAIN, ring)["width"] < numbers(PLAIN)["width"]
    assert numbers(PLAIN, ring)["thin.share"] > 0.5


def test_brightness_differs_inside_and_outside() -> None:
    """The subject is compared with the ring around it, not with the whole picture."""
    assert numbers(PLAIN)["value.contrast"] == pytest.approx(0.7 - 0.45, abs=0.02)


def test_size_of_the_copy_hardly_matters() -> None:
    """A larger copy of the same photo measures about the same."""
    image = picture(NET)
    larger = cv2.resize(image, (640, 480), interpolation=cv2.INTER_CUBIC)
    first, second = measure(image, PROBS), measure(larger, PROBS)
    assert first is not None and second is not None
    assert first.features["value.contrast"] == pytest.approx(second.features["value.contrast"], abs=0.03)
    assert first.tiles().shape == second.tiles().shape == (TILES, TILES, len(SURFACE) + 2)


def test_nothing_noticed_means_nothing_measured() -> None:
    """An empty scene has no measurements, and a subject that fills the frame still has finite ones."""
    assert measure(picture(PLAIN), np.full((320, 320), 0.02, np.float32)) is None
    full = measure(picture(PLAIN), np.ones((320, 320), np.float32))
    assert full is not None and np.isfinite(list(full.features.values())).all()
