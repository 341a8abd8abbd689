"""Probabilities become an alpha channel without haze, without overshoot and without holes."""

from __future__ import annotations

import numpy as np
import pytest

from cutray.config import MattingSettings
from cutray.matting.alpha import classic_alpha, rescale_probs, solidify_interior, upsample_alpha
from tests.alphas import soft_disc

PLAIN = MattingSettings(solid_interior=False)


def final_alpha(probs: np.ndarray, height_px: int, width_px: int, settings: MattingSettings) -> np.ndarray:
    """Rescale a map and upsample it, as the chain does."""
    return upsample_alpha(rescale_probs(probs, settings), height_px, width_px)


def test_haze_and_doubt_become_sure() -> None:
    """Up to the lower level all is transparent, from the upper one on opaque, and linear in between."""
    levels = np.float32([0, 0.02, 0.04, 0.27, 0.5, 0.73, 0.96, 0.99, 1])
    probs = np.repeat(levels[:, None], 9, axis=1)
    expected = np.float32([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1])
    assert final_alpha(probs, 9, 9, PLAIN)[:, 4] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (2000, 3), (97, 1013), (320, 320), (1500, 900)])
def test_alpha_stays_in_range(size: tuple[int, int]) -> None:
    """At any size alpha has the picture's shape and no cubic overshoot."""
    probs = (soft_disc(320, 320, 100, 1.0) > 0.5).astype(np.float32)
    alpha = final_alpha(probs, *size, PLAIN)
    assert alpha.shape == size
    assert alpha.dtype == np.float32
    assert alpha.min() >= 0
    assert alpha.max() <= 1


def test_outline_stays_in_place() -> None:
    """Enlarged three times, the middle of the edge lies where it lies in the map, to a tenth of a cell."""
    probs = np.repeat(np.clip((np.arange(320, dtype=np.float32) - 100.2) / 8 + 0.5, 0, 1)[None], 320, axis=0)
    alpha = final_alpha(probs, 960, 960, MattingSettings())
    crossing = np.interp(0.5, alpha[480], (np.arange(960) + 0.5) / 3 - 0.5)
    assert crossing == pytest.approx(100.2, abs=0.1)


def test_unsure_interior_is_filled() -> None:
    """Far inside the outline 0.85 becomes 1, and at the outline nothing changes."""
    probs = soft_disc(320, 320, 80, 6.0) * np.float32(0.85)
    solid = solidify_interior(probs)
    assert solid[130:180, 145:195].min() == 1
    assert np.array_equal(solid[probs < 0.6], probs[probs < 0.6])
    assert (solid >= probs).all()


def test_real_hole_stays_open() -> None:
    """A hole in which the network is sure of the background is not filled."""
    probs = soft_disc(320, 320, 100) - soft_disc(320, 320, 30)
    solid = solidify_interior(probs)
    assert solid[probs == 0].max() == 0


@pytest.mark.parametrize(("lowest", "is_closed"), [(0.31, True), (0.2, False)])
def test_doubtful_spot_is_closed(lowest: float, is_closed: bool) -> None:
    """A spot in which the network is nowhere sure of the background becomes subject, a surer one stays as it is."""
    probs = soft_disc(320, 320, 100) - np.float32(1 - lowest) * soft_disc(320, 320, 15)
    middle = solidify_interior(probs)[150:170, 150:170]
    assert middle.min() == (1 if is_closed else pytest.approx(lowest, abs=0.01))


def test_subject_cut_by_the_frame_is_solid_to_the_frame() -> None:
    """A subject that runs out of the picture has no soft edge along the frame."""
    probs = np.full((320, 320), 0.9, np.float32)
    probs[:, 200:] = 0.0
    assert solidify_interior(probs)[:, :190].min() == 1


def test_empty_map_stays_empty() -> None:
    """Nothing becomes of nothing, with or without a solid interior."""
    empty = np.zeros((320, 320), np.float32)
    assert final_alpha(empty, 50, 80, MattingSettings()).max() == 0
    assert solidify_interior(empty).max() == 0


def test_input_is_left_alone() -> None:
    """The probabilities are not changed in place, because confidence is taken from them too."""
    probs = soft_disc(320, 320, 80) * np.float32(0.9)
    before = probs.copy()
    final_alpha(probs, 320, 320, MattingSettings())
    assert np.array_equal(probs, before)


def test_classic_recipe_stretches_and_rounds_down() -> None:
    """Lowest becomes 0, highest 255, and what lies between is cut to whole steps, not rounded."""
    probs = np.full((8, 8), 0.4, np.float32)
    probs[:, :4] = 0.2
    probs[0, 0], probs[7, 7] = 0.1, 0.6
    values = classic_alpha(probs, 8, 8) * 255
    assert values[0, 0] == 0
    assert values[7, 7] == 255
    assert values[4, 1] == pytest.approx(int(0.2 * 255), abs=1e-3)
    assert values[4, 6] == pytest.approx(int(0.6 * 255), abs=1e-3)


def test_classic_recipe_survives_a_flat_map() -> None:
    """A map without any contrast gives zeros, not a division by zero."""
    assert classic_alpha(np.full((320, 320), 0.5, np.float32), 20, 30).max() == 0
