"""Variations of samples keep photo and alpha together."""

from __future__ import annotations

import numpy as np
import pytest

from cutray.config import AugmentSettings
from cutray.data.augment import augment, background_crop, cut_window, resize_pair
from cutray.data.synthetic import draw_scene

NONE = dict.fromkeys(AugmentSettings.model_fields, 0.0)


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    scene = draw_scene("ordinary", np.random.default_rng(3), 120, 160, family="train")
    return scene.image, scene.alpha


@pytest.mark.parametrize("seed", range(8))
def test_photo_and_alpha_move_together(sample: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    """A photo that shows its own alpha still does after flips, crops and turns."""
    alpha = sample[1]
    shown = np.repeat(np.rint(alpha * 255).astype(np.uint8)[..., None], 3, 2)
    settings = AugmentSettings.model_validate(
        {**NONE, "flip": 0.5, "crop": 0.4, "warp": 1, "rotate_deg": 20, "perspective": 0.1}
    )
    image, moved = augment(shown, alpha, 96, np.random.default_rng(seed), settings)
    assert image.shape == (96, 96, 3)
    assert moved.dtype == np.float32
    assert 0 <= moved.min() <= moved.max() <= 1
    assert np.abs(image[..., 0] / 255 - moved).mean() < 0.01
    assert np.abs(moved - resize_pair(shown, alpha, 96)[1]).mean() > 0.005


def test_same_seed_same_sample(sample: tuple[np.ndarray, np.ndarray]) -> None:
    """Everything follows from the generator, and each generator gives something else."""
    settings = AugmentSettings(jpeg=1, noise=1, blur=1)
    first, again, other = (augment(*sample, 64, np.random.default_rng(seed), settings) for seed in (5, 5, 6))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_without_variation_only_the_size_changes(sample: tuple[np.ndarray, np.ndarray]) -> None:
    """All probabilities at zero give the plain resized sample."""
    varied = augment(*sample, 64, np.random.default_rng(0), AugmentSettings.model_validate(NONE))
    assert all(np.array_equal(one, two) for one, two in zip(varied, resize_pair(*sample, 64), strict=True))


def test_new_background_leaves_the_subject(sample: tuple[np.ndarray, np.ndarray]) -> None:
    """Inside the subject nothing changes, far outside it the other photo shows."""
    other = np.full((50, 50, 3), (200, 10, 90), np.uint8)
    image, alpha = augment(*sample, 96, np.random.default_rng(0), AugmentSettings.model_validate(NONE), other)
    plain = resize_pair(*sample, 96)[0]
    assert np.abs(image[alpha > 0.999].astype(int) - plain[alpha > 0.999]).mean() < 3
    assert np.abs(image[:3, :3].astype(int) - (200, 10, 90)).max() <= 1


def test_background_crop_shows_no_subject() -> None:
    """The stripe comes from the wide side of the subject; where all sides are narrow there is none."""
    image = np.arange(80 * 100 * 3, dtype=np.uint32).astype(np.uint8).reshape(80, 100, 3)
    alpha = np.zeros((80, 100), np.float32)
    alpha[20:70, 5:40] = 1
    stripe = background_crop(image, alpha)
    assert stripe is not None
    assert np.array_equal(stripe, image[:, 40:])
    alpha[5:75, 5:95] = 1
    assert background_crop(image, alpha) is None
    assert np.array_equal(background_crop(image, np.zeros_like(alpha)), image)


@pytest.mark.parametrize("seed", range(6))
def test_a_frame_cuts_the_subject(seed: int) -> None:
    """A fifth to three fifths of the subject's box are gone, at one side; the subject touches the frame there."""
    alpha = np.zeros((100, 120), np.float32)
    alpha[30:80, 40:90] = 1
    shown = np.repeat(np.rint(alpha * 255).astype(np.uint8)[..., None], 3, 2)
    settings = AugmentSettings.model_validate({**NONE, "cut_subject": 1})
    image, cut = augment(shown, alpha, 96, np.random.default_rng(seed), settings)
    assert np.abs(image[..., 0] / 255 - cut).max() < 0.01
    borders = [cut[0].max(), cut[-1].max(), cut[:, 0].max(), cut[:, -1].max()]
    assert sorted(borders) == pytest.approx([0, 0, 0, 1], abs=0.02)
    for box, high, wide, at in (((30, 40, 80, 90), 100, 120, number) for number in range(40)):
        top, left, bottom, right = cut_window(box, high, wide, np.random.default_rng([seed, at]))
        rows, columns = min(bottom, 80) - max(top, 30), min(right, 90) - max(left, 40)
        assert min(rows, columns) == pytest.approx(50 - 50 * 0.4, abs=10.01)
        assert max(rows, columns) == 50


def test_a_subject_that_fills_the_photo_is_not_cut_to_a_strip() -> None:
    """The frame keeps three tenths of the photo at least; without a subject nothing is cut."""
    for seed in range(20):
        top, left, bottom, right = cut_window((0, 0, 10, 100), 100, 100, np.random.default_rng(seed))
        assert min(bottom - top, right - left) >= 30
    empty = np.zeros((64, 64), np.float32)
    settings = AugmentSettings.model_validate({**NONE, "cut_subject": 1})
    assert augment(np.zeros((64, 64, 3), np.uint8), empty, 64, np.random.default_rng(0), settings)[1].max() == 0
