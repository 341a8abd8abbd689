"""Several views become one map: doubt is settled, what is sure stays, and views that disagree are not blended."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from cutray.config import MattingSettings
from cutray.errors import EngineError
from cutray.log_odds import average, average_by_certainty
from cutray.models.catalog import list_models
from cutray.tta import Crop, TTARunner, blend_crop, crop_around_subject, is_doubtful
from tests.alphas import soft_disc

SIDE = 64
SPEC = next(spec for spec in list_models() if spec.name == "u2netp")


def _map(radius: float, softness: float = 4.0) -> np.ndarray:
    """Draw what a network may answer: a soft disc near the middle."""
    return soft_disc(SIDE, SIDE, radius, softness)


def _crop(frame: np.ndarray, crop: Crop) -> np.ndarray:
    """Show a part of a drawn map, enlarged to a look of its own."""
    part = frame[crop.top : crop.bottom, crop.left : crop.right]
    at_row = np.arange(SIDE) * part.shape[0] // SIDE
    return part[np.ix_(at_row, np.arange(SIDE) * part.shape[1] // SIDE)]


def test_one_look_is_left_alone() -> None:
    """A single map comes back as it is, to the bit."""
    probs = _map(20)
    assert average([probs]) is probs


def test_equal_looks_change_little_and_sure_looks_win() -> None:
    """Equal maps average to themselves; 0.999 and 0.3 average to more than their mean, for one of them is sure."""
    probs = _map(20)
    assert np.abs(average([probs, probs]) - probs).max() < 2e-3
    sure, doubtful = np.full((2, 2), 0.999, np.float32), np.full((2, 2), 0.3, np.float32)
    assert average([sure, doubtful]).min() > (0.999 + 0.3) / 2 + 0.1


def test_a_network_that_is_unsure_does_not_pull_a_sure_one_down() -> None:
    """Weighted by the odds of their scores, the mean stays with the network that is sure; equal ones weigh the same."""
    sure, lost = _map(20), np.minimum(_map(20), np.float32(0.2))
    assert np.abs(average_by_certainty([sure, lost]) - sure).max() < np.abs(average([sure, lost]) - sure).max() / 2
    assert np.allclose(average_by_certainty([sure, sure[:, ::-1]]), average([sure, sure[:, ::-1]]), atol=1e-6)
    assert average_by_certainty([np.zeros_like(sure)] * 2).max() < 1e-6


def test_certainty_is_kept_at_both_ends() -> None:
    """Looks that are all 0 or all 1 average to exactly 0 and 1: no haze appears."""
    ends = np.float32([[0, 1]])
    assert np.array_equal(average([ends, ends]), ends)


def test_box_surrounds_the_subject_but_no_speck() -> None:
    """The crop holds the disc with room around it and ignores a spot far away."""
    probs = _map(12)
    probs[2:4, 2:4] = 0.9
    crop = crop_around_subject(probs, 640, 640)
    assert crop is not None
    rows, columns = np.nonzero(_map(12) > 0.5)
    assert 30 < crop.top < rows.min() * 10 < rows.max() * 10 < crop.bottom < 640
    assert 30 < crop.left < columns.min() * 10 < columns.max() * 10 < crop.right < 640


@pytest.mark.parametrize(
    ("probs", "size"),
    [
        (np.zeros((SIDE, SIDE), np.float32), (640, 640)),
        (np.ones((SIDE, SIDE), np.float32), (640, 640)),
    ],
    ids=["empty", "fills the frame"],
)
def test_no_second_look_where_it_shows_nothing(probs: np.ndarray, size: tuple[int, int]) -> None:
    """Without a subject, or with one that fills the frame, there is no second look."""
    assert crop_around_subject(probs, *size) is None


def test_a_crop_of_few_pixels_has_no_resolution() -> None:
    """Enlarging what has fewer pixels than half the cells of a look would invent them."""
    crops = [crop_around_subject(_map(12), *size) for size in ((640, 640), (48, 48), (640, 1))]
    assert [crop is not None and crop.has_resolution(SIDE) for crop in crops] == [True, False, False]


def _rectangle() -> np.ndarray:
    """Draw what a network may take for a subject: a picture on a wall."""
    probs = np.zeros((SIDE, SIDE), np.float32)
    probs[12:40, 10:34] = 1.0
    return probs


def test_what_is_doubtful() -> None:
    """Rectangles, turned ones too, and what the mirror image shows elsewhere; not a disc, and not an empty frame."""
    disc, empty = _map(20), np.zeros((SIDE, SIDE), np.float32)
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 30, 0.8)
    tilted = np.asarray(cv2.warpAffine(_rectangle(), turn, (SIDE, SIDE)))
    assert is_doubtful(_rectangle(), _rectangle())
    assert is_doubtful(tilted, tilted)
    assert is_doubtful(disc, empty)
    assert is_doubtful(empty, disc)
    assert not is_doubtful(disc, disc)
    assert not is_doubtful(empty, empty)


@pytest.mark.parametrize("looks", [2, 4])
@pytest.mark.parametrize("again", [True, False])
def test_what_is_doubtful_has_to_be_seen_again(looks: int, again: bool) -> None:
    """A rectangle that a look at its surroundings does not find is no subject; one that it finds stays."""
    image = np.random.default_rng(1).integers(0, 255, (700, 900, 3), np.uint8)
    runner = TTARunner(image, SPEC, MattingSettings.model_validate({"looks": looks}))
    first = np.kron(_rectangle(), np.ones((5, 5), np.float32))
    runner.update(np.stack([first, first[:, ::-1]]))
    assert runner.next_batch is not None
    second = np.zeros_like(first)
    if again:
        second[45:275, 45:275] = 1.0
    runner.update(np.stack([second, second[:, ::-1]]))
    assert runner.next_batch is None
    assert (runner.result.probs > 0.5).any() == again


def test_a_second_look_that_disagrees_is_refused() -> None:
    """If the second look sees the opposite of the first, the first one stands, bit by bit."""
    first = _map(12)
    crop = crop_around_subject(first, 640, 640)
    assert crop is not None
    assert blend_crop(first, 1.0 - _crop(first, Crop(10, 10, 54, 54)), crop, 640, 640) is first


def test_fusing_settles_doubt_and_leaves_the_sure_alone() -> None:
    """A patch at 0.5 follows the second look; what the first look was sure of, and all outside the box, stays."""
    first = np.zeros((SIDE, SIDE), np.float32)
    first[16:48, 16:48] = 1.0
    first[28:36, 28:36] = 0.55
    second = np.ones((SIDE, SIDE), np.float32)
    second[:4] = 1.0  # sure of what the first look was sure is background
    crop = Crop(120, 120, 520, 520)
    fused = blend_crop(first, second, crop, 640, 640)
    scale = fused.shape[0] / SIDE
    at = lambda row, column: fused[int(row * scale), int(column * scale)]  # noqa: E731
    assert scale > 1
    assert at(32, 32) > 0.9
    assert at(20, 20) == 1
    assert at(13, 32) == 0
    assert fused[: int(10 * scale)].max() == 0


@pytest.mark.parametrize(("looks", "stages"), [(1, [1]), (2, [2]), (4, [2, 2])])
def test_looks_ask_for_what_the_settings_say(looks: int, stages: list[int]) -> None:
    """One look is one tensor, two are the photo and its mirror image, four add the subject's surroundings."""
    image = np.random.default_rng(1).integers(0, 255, (700, 900, 3), np.uint8)
    runner = TTARunner(image, SPEC, MattingSettings.model_validate({"looks": looks}))
    sizes = []
    while runner.next_batch is not None:
        sizes.append(len(runner.next_batch))
        if len(runner.next_batch) == 2:
            assert np.array_equal(runner.next_batch[1], runner.next_batch[0][..., ::-1])
        disc = soft_disc(320, 320, 60)
        runner.update(np.stack([disc, disc[:, ::-1]][: len(runner.next_batch)]))
    assert sizes == stages
    assert runner.result.map_size == 320


def _disc_with_doubt(share: float) -> np.ndarray:
    """A disc of which so much, as a share of its area, is neither subject nor background."""
    rows, columns = np.indices((320, 320))
    disc = (np.hypot(rows - 160, columns - 160) < 60).astype(np.float32)
    inside = np.flatnonzero(disc.ravel())
    disc.ravel()[inside[: round(share * len(inside))]] = 0.6
    return disc


@pytest.mark.parametrize(
    ("frame", "stages"),
    [
        (_disc_with_doubt(0.0), [1]),
        (_disc_with_doubt(0.3), [1, 1]),
        (np.zeros((320, 320), np.float32), [1, 1]),
        (np.kron(_rectangle(), np.ones((5, 5), np.float32)), [1, 1, 2]),
    ],
    ids=["sure", "unsure", "empty", "rectangle"],
)
def test_balanced_leaves_out_the_mirror_image_where_the_network_is_sure(frame: np.ndarray, stages: list[int]) -> None:
    """One view settles a sure subject; an unsure one, none at all, and a rectangle take another one, and it is said."""
    image = np.random.default_rng(1).integers(0, 255, (700, 900, 3), np.uint8)
    runner = TTARunner(image, SPEC, MattingSettings())
    answers, sizes = [frame, frame[:, ::-1]], []
    while (batch := runner.next_batch) is not None:
        runner.update(np.stack([answers[len(sizes) % 2]] if len(batch) == 1 else [frame, frame[:, ::-1]]))
        sizes.append(len(batch))
    assert sizes == stages
    assert runner.result.looks == sum(stages)


@pytest.mark.parametrize(("mirrored", "agreement"), [(0.0, 1.0), (0.6, 0.4), (0.3, 0.7)])
def test_it_is_said_how_well_frame_and_mirror_image_agree(mirrored: float, agreement: float) -> None:
    """The overlap is 1 where both show the same, and less where the mirror image lacks a part."""
    frame = np.zeros((320, 320), np.float32)
    frame[100:200, 100:200] = 1.0
    other = frame.copy()
    other[:, 100 : 100 + round(100 * mirrored)] = 0.0
    runner = TTARunner(np.zeros((700, 900, 3), np.uint8), SPEC, MattingSettings.model_validate({"looks": 2}))
    while (batch := runner.next_batch) is not None:
        runner.update(np.stack([frame, other[:, ::-1]]) if len(batch) == 2 else frame[None])
    assert runner.result.agreement == pytest.approx(agreement)


def test_two_views_of_nothing_agree() -> None:
    """Where neither shows a subject there is nothing to disagree about, and one view alone is no disagreement."""
    for looks in (1, 2):
        settings = MattingSettings.model_validate({"looks": looks})
        runner = TTARunner(np.zeros((70, 90, 3), np.uint8), SPEC, settings)
        while (batch := runner.next_batch) is not None:
            runner.update(np.zeros((len(batch), 320, 320), np.float32))
        assert runner.result.agreement == 1.0


@pytest.mark.parametrize(("asked", "size"), [({"quality": "best"}, 1), ({"quality": "best", "looks": 4}, 2)])
def test_an_ensemble_looks_no_closer_unless_asked(asked: dict[str, object], size: int) -> None:
    """Its second network takes the place of the closer look: one view settles a sure subject; four are a choice."""
    spec = replace(SPEC, architecture="ensemble")
    runner = TTARunner(np.zeros((700, 900, 3), np.uint8), spec, MattingSettings.model_validate(asked))
    assert runner.next_batch is not None
    assert len(runner.next_batch) == size


def test_the_classic_recipe_looks_once() -> None:
    """Compat is one look whatever the quality."""
    runner = TTARunner(np.zeros((50, 60, 3), np.uint8), SPEC, MattingSettings(compat=True, quality="best"))
    assert runner.next_batch is not None
    assert len(runner.next_batch) == 1
    with pytest.raises(EngineError):
        _ = runner.result
