"""Qualities, with a real network: more work changes edges, never the answer, and one way gives what the other gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cutray.data.synthetic import draw_scene
from cutray.errors import ConfigError
from cutray.remover import BackgroundRemover, Removal

QUALITIES = ("fast", "balanced", "best")


@pytest.fixture(scope="module")
def photo(photos: dict[str, np.ndarray]) -> np.ndarray:
    """Return a photo whose cells are two pixels wide, so that edges are solved."""
    return cv2.resize(photos["coffee"], (900, 600), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def removals(photo: np.ndarray, remover: BackgroundRemover) -> dict[str, Removal]:
    """Return the photo's removal at each quality."""
    return {quality: remover.remove_background(photo, quality=quality) for quality in QUALITIES}


def test_qualities_agree_on_the_subject_and_differ_at_its_edge(removals: dict[str, Removal]) -> None:
    """All three find the same subject; their masks differ, and the default is balanced."""
    masks = {quality: removal.mask.astype(int) for quality, removal in removals.items()}
    for quality in ("balanced", "best"):
        one, two = masks["fast"] > 127, masks[quality] > 127
        assert (one & two).sum() / (one | two).sum() > 0.9
        assert not np.array_equal(masks["fast"], masks[quality])


def test_balanced_is_the_default(photo: np.ndarray, remover: BackgroundRemover, removals: dict[str, Removal]) -> None:
    """Without a word about quality the result is balanced, byte by byte."""
    assert remover.remove_background(photo).data == removals["balanced"].data


def test_many_photos_give_what_single_ones_give(
    photo: np.ndarray, remover: BackgroundRemover, removals: dict[str, Removal]
) -> None:
    """Photos with one and with two stages of looks go side by side and keep their own results."""
    empty = np.full((200, 300, 3), 128, np.uint8)
    first, second, third = remover.remove_many([photo, empty, photo], quality="best")
    assert isinstance(first, Removal)
    assert isinstance(second, Removal)
    assert isinstance(third, Removal)
    assert first.data == third.data == removals["best"].data
    assert second.mask.max() == 0


def test_an_empty_room_has_no_subject(remover: BackgroundRemover) -> None:
    """A drawn room in which one look takes a part for a subject: balanced looks again at that part."""
    room = draw_scene("empty", np.random.default_rng([10, 12]), 640, 640).image
    assert remover.remove_background(room, quality="fast").mask.any()
    assert not remover.remove_background(room).mask.any()


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_a_picture_on_a_wall_is_a_subject(photos: dict[str, np.ndarray], remover: BackgroundRemover, name: str) -> None:
    """A framed photo is as much a rectangle as what is taken for a subject in an empty room, and stays."""
    wall = np.full((900, 900, 3), (214, 205, 190), np.uint8)
    framed = cv2.copyMakeBorder(
        cv2.resize(photos[name], (420, 360)), *[16] * 4, cv2.BORDER_CONSTANT, value=(40, 25, 15)
    )
    wall[240 : 240 + framed.shape[0], 210 : 210 + framed.shape[1]] = framed
    mask = remover.remove_background(wall).mask > 127
    truth = np.zeros_like(mask)
    truth[240 : 240 + framed.shape[0], 210 : 210 + framed.shape[1]] = True
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("size", [(300, 400), (900, 700), (1, 500), (1200, 3)])
def test_empty_scenes_stay_empty(remover: BackgroundRemover, quality: str, size: tuple[int, int]) -> None:
    """A plain wall has no subject at any quality or size, and its cutout is fully transparent."""
    removal = remover.remove_background(np.full((*size, 3), 200, np.uint8), quality=quality)
    assert removal.mask.shape == size
    if not removal.report.subject_found:
        assert removal.mask.max() == 0
    elif min(size) > 3:
        pytest.fail("a plain wall became a subject")


def test_the_classic_recipe_knows_no_quality(photo: np.ndarray, remover: BackgroundRemover) -> None:
    """With compat the three qualities give the same bytes."""
    results = {remover.remove_background(photo, compat=True, quality=quality).data for quality in QUALITIES}
    assert len(results) == 1


def test_single_settings_go_before_the_quality(
    photo: np.ndarray, remover: BackgroundRemover, removals: dict[str, Removal]
) -> None:
    """Fast with the rest of balanced is balanced; an explicit number of looks is kept; unknown values are refused."""
    built = remover.remove_background(photo, quality="fast", edges="matted", refine="detected")
    assert removals["balanced"].report.looks == 1
    assert built.data == removals["balanced"].data
    assert remover.remove_background(photo, looks=2).report.looks == 2
    with pytest.raises(ConfigError, match="looks"):
        remover.remove_background(photo, looks=3)


@pytest.mark.parametrize("quality", ["balanced", "best"])
def test_detected_hair_is_redrawn_and_a_smooth_subject_is_left_alone(remover: BackgroundRemover, quality: str) -> None:
    """Both correct a furry scene towards its known alpha, near its outline alone, and find no fur elsewhere."""
    furry, smooth = (
        draw_scene(case, np.random.default_rng(6), 640, 640, family="test") for case in ("fine_detail", "ordinary")
    )
    masks = {
        refine: remover.remove_background(furry.image, quality=quality, refine=refine).mask.astype(np.float32) / 255
        for refine in ("auto", "detected", "edges", "everywhere", "never")
    }
    errors = {refine: float(np.abs(mask - furry.alpha).mean()) for refine, mask in masks.items()}
    assert errors["edges"] < 0.98 * errors["never"]
    np.testing.assert_array_equal(masks["auto"], masks["detected"])
    np.testing.assert_array_equal(masks["detected"], masks["edges"])
    assert not np.array_equal(masks["everywhere"], masks["edges"])
    one, other = (
        remover.remove_background(smooth.image, quality=quality, refine=refine) for refine in ("auto", "never")
    )
    assert one.data == other.data


def test_fast_redraws_only_when_told(photo: np.ndarray, remover: BackgroundRemover) -> None:
    """It is for speed; a word brings the refiner in."""
    plain, never, edges = (
        remover.remove_background(photo, quality="fast", refine=refine).data for refine in ("auto", "never", "edges")
    )
    assert plain == never != edges
