"""Drawn scenes: repeatable, exact, and different from case to case."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cutray.data.synthetic import CASES, FAMILIES, Scene, draw_scene
from cutray.data.synthetic.noise import smooth_noise, to_light, to_stored
from cutray.errors import InputError

WITH_SUBJECT = [case for case in CASES if case != "empty"]


def scene(case: str, seed: int = 0, family: str = "train", side: int = 128, **options: object) -> Scene:
    rng = np.random.default_rng([seed, CASES.index(case)])
    return draw_scene(case, rng, side, side + 32, family=family, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_equal_seeds_draw_equal_scenes(case: str, family: str) -> None:
    """A scene depends on nothing but its seed, and another seed draws another one."""
    first, second, other = scene(case, 3, family), scene(case, 3, family), scene(case, 4, family)
    for name in ("image", "alpha", "foreground", "background"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_image_is_the_composite_of_its_parts(case: str, family: str) -> None:
    """Without the camera, alpha, foreground and background give the picture back to within rounding."""
    for seed in range(3):
        drawn = scene(case, seed, family, camera=False)
        alpha = drawn.alpha[..., None]
        light = alpha * to_light(drawn.foreground) + (1 - alpha) * to_light(drawn.background)
        difference = np.abs(to_stored(light).astype(int) - drawn.image)
        assert difference.max() <= 6  # dark values are coarse once they are stored in 8 bits
        assert difference.mean() < 0.5


@pytest.mark.parametrize("case", CASES)
def test_camera_changes_little(case: str) -> None:
    """Focus, noise and JPEG keep the picture near the composite of what the scene says lies in it."""
    for seed in range(3):
        drawn = scene(case, seed)
        alpha = drawn.alpha[..., None]
        light = alpha * to_light(drawn.foreground) + (1 - alpha) * to_light(drawn.background)
        assert np.abs(to_stored(light).astype(int) - drawn.image).mean() < 8


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", WITH_SUBJECT)
def test_every_scene_has_a_subject_and_a_background(case: str, family: str) -> None:
    """Shapes and ranges are as promised, and neither subject nor background fills the picture."""
    for seed in range(6):
        drawn = scene(case, seed, family)
        assert drawn.image.shape == drawn.foreground.shape == drawn.background.shape == (128, 160, 3)
        assert drawn.image.dtype == drawn.foreground.dtype == drawn.background.dtype == np.uint8
        assert drawn.alpha.shape == (128, 160) and drawn.alpha.dtype == np.float32
        assert drawn.alpha.min() == 0 and drawn.alpha.max() <= 1
        assert 0.002 < (drawn.alpha > 0.02).mean() < 0.95
        assert drawn.alpha.max() > 0.1
        assert drawn.image.std() > 3


def test_empty_scenes_are_empty() -> None:
    """An empty scene has no alpha at all, yet shows something."""
    drawn = scene("empty")
    assert not drawn.alpha.any()
    assert np.ptp(drawn.image) > 5


def test_cases_have_the_edges_they_are_named_after() -> None:
    """Strands and lace give many soft pixels per subject pixel, glass soft insides, ordinary things neither."""

    def soft_share(case: str) -> float:
        alphas = [scene(case, seed, difficulty=0.2, side=256).alpha for seed in range(8)]
        soft = [((a > 0.05) & (a < 0.95)).sum() / (a > 0.05).sum() for a in alphas]
        return float(np.median(soft))

    shares = {case: soft_share(case) for case in WITH_SUBJECT}
    assert shares["transparency"] > 0.6
    assert shares["fine_detail"] > 2 * shares["ordinary"]
    assert shares["texture"] > 2 * shares["ordinary"]


def test_difficulty_makes_subjects_smaller() -> None:
    """The hardest subjects cover less of the picture than the easiest."""
    easy = np.mean([scene("ordinary", seed, difficulty=0.0).alpha.mean() for seed in range(8)])
    hard = np.mean([scene("ordinary", seed, difficulty=1.0).alpha.mean() for seed in range(8)])
    assert hard < 0.5 * easy


def test_a_given_photo_is_the_background() -> None:
    """A scene on a photo shows that photo's colours where there is no subject."""
    photo = np.full((50, 90, 3), (10, 200, 30), np.uint8)
    drawn = scene("empty", background=photo)
    assert np.abs(drawn.image.astype(int).mean(axis=(0, 1)) - (10, 200, 30)).max() < 4


def test_stored_values_survive_light() -> None:
    """Decoding and encoding sRGB gives every value back."""
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_stored(to_light(values)), values)


@pytest.mark.parametrize("cell_px", [1.5, 10.0, 64.0, 900.0])
def test_noise_varies_at_its_size(cell_px: float) -> None:
    """Neighbours differ by less the larger the details are, and no size gives a flat or a wild field."""
    noise = smooth_noise(np.random.default_rng(0), 96, 128, cell_px)
    assert noise.shape == (96, 128) and np.abs(noise).max() < 6
    assert 0 < np.abs(np.diff(noise, axis=1)).mean() < 3 / cell_px


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("glass", {}),
        ("empty", {"background": np.zeros((90, 90), np.uint8)}),
        ("texture", {"family": "other"}),
        ("texture", {"difficulty": 2.0}),
        ("texture", {"side": 8}),
    ],
)
def test_what_cannot_be_drawn_is_refused(case: str, options: dict[str, object]) -> None:
    """Unknown cases and families, tiny pictures and wild difficulties are errors that say what is allowed."""
    side = options.pop("side", 128)
    with pytest.raises(InputError) as caught:
        draw_scene(case, np.random.default_rng(0), side, side, **options)
    assert caught.value.allowed


def test_turned_things_have_no_seams() -> None:
    """Between wall and rim no background shows: an opaque thing has no soft pixel away from its outline."""
    for seed in range(12):
        alpha = scene("ordinary", seed, side=192, camera=False, difficulty=0.1).alpha
        inside = cv2.erode(
            cv2.morphologyEx((alpha > 0.5).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5))), np.ones((5, 5))
        )
        assert alpha[inside > 0].min() > 0.97
