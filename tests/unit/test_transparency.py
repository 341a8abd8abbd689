"""Glass: what is behind it shows through, as far as the background can be guessed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cutray.chain import postprocess
from cutray.config import RemoverSettings
from cutray.data.synthetic import draw_scene
from cutray.engines.base import EngineInfo
from cutray.imaging.decode import from_array
from cutray.matting.transparency import clear_alpha
from cutray.segmenter import NetworkInfo
from cutray.sources import Photo
from cutray.stage_timer import StageTimer
from cutray.tta import Prediction

SIDE = 200


def _glass(backdrop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put a pane with a highlight and an opaque label before a background; returns photo and true alpha."""
    alpha = np.zeros((SIDE, SIDE), np.float32)
    alpha[50:150, 60:140] = 0.15
    alpha[60:140, 70:76] = 0.9
    alpha[100:120, 90:130] = 1.0
    colors = np.full((SIDE, SIDE, 3), 1.0, np.float32)
    colors[100:120, 90:130] = (0.8, 0.05, 0.1)
    photo = alpha[..., None] * colors + (1 - alpha[..., None]) * backdrop
    return np.rint(photo * 255).astype(np.uint8), alpha


def _backdrop() -> np.ndarray:
    """Draw a wall with light from one side above a table: its edge is level, and neither is of one colour."""
    picture = np.empty((SIDE, SIDE, 3), np.float32)
    picture[:90], picture[90:] = (0.45, 0.5, 0.55), (0.35, 0.25, 0.2)
    return picture * np.linspace(0.8, 1.1, SIDE, dtype=np.float32)[None, :, None]


def test_clear_parts_become_clear() -> None:
    """The pane lets wall and table through, highlight and label stay."""
    photo, truth = _glass(_backdrop())
    cleared = clear_alpha((truth > 0).astype(np.float32), photo)
    assert cleared is not None
    assert np.abs(cleared - truth)[truth == np.float32(0.15)].mean() < 0.08
    assert cleared[65:95, 71:75].min() > 0.8
    assert cleared[102:118, 95:125].min() > 0.9
    assert (cleared[truth == 0] == 0).all()


def test_a_busy_background_is_left_alone() -> None:
    """Where nothing can be told, nothing is done."""
    noise = np.random.default_rng(0).random((SIDE, SIDE, 3), dtype=np.float32)
    photo, truth = _glass(noise)
    assert clear_alpha((truth > 0).astype(np.float32), photo) is None


def test_a_subject_that_fills_the_frame_is_left_alone() -> None:
    """Without background there is nothing that could show through."""
    photo, _ = _glass(_backdrop())
    assert clear_alpha(np.ones((SIDE, SIDE), np.float32), photo) is None


def test_drawn_glass_is_nearer_to_the_truth() -> None:
    """On drawn glass of unseen kinds the error falls to less than a fifth of that of a solid subject."""
    before, after = [], []
    for seed in range(12):
        scene = draw_scene("transparency", np.random.default_rng([9, seed]), 240, 240, family="test")
        solid = (scene.alpha > 0).astype(np.float32)
        cleared = clear_alpha(solid, scene.image)
        if cleared is not None:
            assert (cleared <= solid).all()
            inside = solid > 0
            before.append(np.square(solid - scene.alpha)[inside].mean())
            after.append(np.square(cleared - scene.alpha)[inside].mean())
    assert len(after) >= 4
    assert np.mean(after) < 0.2 * np.mean(before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 600)])
def test_odd_shapes(shape: tuple[int, int]) -> None:
    """No shape of photo is an error."""
    alpha = np.zeros(shape, np.float32)
    alpha[0, 0] = 1
    cleared = clear_alpha(alpha, np.zeros((*shape, 3), np.uint8))
    assert cleared is None or cleared.shape == shape


def _finished(photo: np.ndarray, truth: np.ndarray, **options: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """Send a photo through the chain with a network's map that shows it as solid; returns alpha and notes."""
    probs = cv2.resize((truth > 0).astype(np.float32), (320, 320), interpolation=cv2.INTER_AREA)
    settings = RemoverSettings(**options)
    network = NetworkInfo("u2net", EngineInfo("openvino", "cpu", "fp32"))
    decoded = Photo(from_array(photo), photo)
    removal = postprocess(decoded, Prediction(probs, 320, 1), settings, "PNG", network, StageTimer())
    return removal.mask.astype(np.float32) / 255, removal.report.notes


def test_it_is_asked_for() -> None:
    """Nobody's product becomes see-through by itself; with the option it does, and a note says when it cannot."""
    photo, truth = _glass(_backdrop())
    assert _finished(photo, truth)[0][60:140, 100:130].min() == 1
    cleared, notes = _finished(photo, truth, see_through=True)
    assert cleared[125:140, 100:130].max() < 0.4
    assert notes == ()
    noise = np.random.default_rng(0).random((SIDE, SIDE, 3), dtype=np.float32)
    photo, truth = _glass(noise)
    alpha, notes = _finished(photo, truth, see_through=True)
    assert alpha[60:140, 100:130].min() == 1
    assert "too busy" in notes[0]


def test_next_to_no_subject_is_left_as_it_is() -> None:
    """A faint haze, as a box around nothing can give, is neither cleared nor broken."""
    photo, _ = _glass(_backdrop())
    haze = np.zeros((SIDE, SIDE), np.float32)
    haze[80:120, 80:120] = 0.01
    cleared = clear_alpha(haze, photo)
    assert cleared is not None
    assert np.array_equal(cleared, haze)
