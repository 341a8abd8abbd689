"""The folder of samples: the least sure photos, bounded and private; and the way back into training."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ray")

from cutray.errors import CutrayError, InputError
from cutray.evaluation.dataset_check import check_samples
from cutray.evaluation.datasets import find_samples, read_truth
from cutray.imaging.encode import encode_image
from cutray.imaging.photo_files import find_photos
from cutray.imaging.provenance import is_result
from cutray.removal import RemovalReport
from cutray.tta import Prediction
from pipelines.drift.accept import accept_corrected
from serve_apps.drift.samples import SampleFolder, check_folder, sureness
from tests.disks import mounted

PROBS = np.full((32, 32), 0.2, np.float32)
PROBS[8:24, 8:24] = 0.7
PREDICTION = Prediction(PROBS, 32, 2)


def _report(confidence: float, *, found: bool = True) -> RemovalReport:
    return RemovalReport(found, confidence, 0.25, 80, 60, (0, 0, 80, 60), "u2net", "test")


def _image(seed: int) -> np.ndarray:
    scene = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(scene, (80, 60), interpolation=cv2.INTER_CUBIC)


def test_the_least_sure_photos_are_kept(tmp_path: Path) -> None:
    """Of ten photos the three with the lowest confidence stay, each with its mask and without any metadata."""
    folder = SampleFolder(tmp_path / "samples", 3, 30)
    for number in range(10):
        folder.offer(_image(number), PREDICTION, _report(0.95 - 0.05 * ((number * 7) % 10)))
    assert [name[:4] for name in folder.names()] == ["0500", "0550", "0600"]
    assert not folder.offer(_image(99), PREDICTION, _report(0.9))
    assert (tmp_path / "samples").stat().st_mode & 0o077 == 0
    for name in folder.names():
        photo, mask = folder.folder / "images" / f"{name}.jpg", folder.folder / "masks" / f"{name}.png"
        assert not is_result(str(photo)) and b"Exif" not in photo.read_bytes()
        levels = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        assert levels.shape == (60, 80) and levels[30, 40] == round(0.7 * 255) and levels[0, 0] == round(0.2 * 255)
    assert len(list(find_photos(tmp_path))) == 6


def test_the_same_photo_is_kept_once(tmp_path: Path) -> None:
    """Somebody who sends a photo again and again does not fill the folder."""
    folder = SampleFolder(tmp_path, 5, 30)
    kept = [folder.offer(_image(1), PREDICTION, _report(0.5)) for _ in range(4)]
    assert kept == [True, False, False, False] and len(folder.names()) == 1


def test_old_photos_are_deleted(tmp_path: Path) -> None:
    """After their days photo and mask are gone; younger ones stay."""
    folder = SampleFolder(tmp_path, 5, 2)
    for number in range(2):
        folder.offer(_image(number), PREDICTION, _report(0.5 + 0.1 * number))
    old = folder.names()[0]
    long_ago = time.time() - 3 * 86_400
    for path in (tmp_path / "images" / f"{old}.jpg", tmp_path / "masks" / f"{old}.png"):
        os.utime(path, (long_ago, long_ago))
    assert folder.expire() == 1
    assert not list(tmp_path.rglob(f"{old}.*"))


def test_doubt_without_a_subject() -> None:
    """An empty scene is sure, one where something nearly was a subject is not."""
    empty, nearly = (Prediction(np.full((8, 8), level, np.float32), 8, 2) for level in (0.02, 0.48))
    assert sureness(_report(0.02, found=False), empty) == pytest.approx(0.98)
    assert sureness(_report(0.4, found=False), nearly) == pytest.approx(0.52)
    assert sureness(_report(0.8), nearly) == 0.8


def test_a_mirror_image_that_disagrees_is_doubt() -> None:
    """A photo with high confidence is kept before others if its mirror image shows something else."""
    assert sureness(_report(0.95), Prediction(PROBS, 32, 2, agreement=0.3)) == 0.3


def test_the_folder_is_private_and_checked(tmp_path: Path) -> None:
    """It is made for its owner alone; what is no folder is refused before the endpoint starts."""
    check_folder(str(tmp_path / "new" / "samples"))
    assert (tmp_path / "new" / "samples").stat().st_mode & 0o077 == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(CutrayError, match="cannot be used"):
        check_folder(str(tmp_path / "file" / "samples"))


def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    """A folder on a disk that nobody can write to is refused for that, not for its rights."""
    with mounted(tmp_path, "ro"), pytest.raises(CutrayError, match=r"cannot be used.*read-only"):
        check_folder(str(tmp_path))


def test_corrected_masks_become_training_data(tmp_path: Path) -> None:
    """Cutouts as the page saves them, one alone and one of several, give pairs that training's reader takes."""
    folder = SampleFolder(tmp_path / "samples", 9, 30)
    for number in range(3):
        folder.offer(_image(number), PREDICTION, _report(0.3 + 0.1 * number))
    first, second, _ = folder.names()
    alpha = np.zeros((60, 80), np.uint8)
    alpha[10:50, 20:60] = 255
    alpha[10:50, 60] = 128
    corrected = tmp_path / "corrected"
    corrected.mkdir()
    cutout = encode_image(np.dstack([_image(0), alpha]), "PNG")
    for name in (f"{first}-cutout.png", f"02-{second}-cutout.png"):
        (corrected / name).write_bytes(cutout)
    taken, problems = accept_corrected(tmp_path / "samples", corrected, tmp_path / "data")
    assert (taken, problems) == (2, [])
    checked = check_samples(find_samples(tmp_path / "data"))
    assert [sample.stem for sample in checked.samples] == [first, second] and not checked.looks_inverted
    truth = read_truth(checked.samples[0], shape=(60, 80))
    assert np.array_equal(np.rint(truth * 255).astype(np.uint8), alpha)


def test_what_cannot_be_taken_is_named(tmp_path: Path) -> None:
    """Other names, other sizes and pictures without transparency are problems; the rest is taken."""
    folder = SampleFolder(tmp_path / "samples", 9, 30)
    folder.offer(_image(0), PREDICTION, _report(0.3))
    (name,) = folder.names()
    corrected = tmp_path / "corrected"
    corrected.mkdir()
    (corrected / "holiday-cutout.png").write_bytes(encode_image(np.zeros((60, 80, 4), np.uint8), "PNG"))
    (corrected / f"{name}-cutout.png").write_bytes(encode_image(np.zeros((30, 40, 4), np.uint8), "PNG"))
    (corrected / f"{name}.jpg").write_bytes(encode_image(np.zeros((60, 80, 3), np.uint8), "JPEG"))
    taken, problems = accept_corrected(tmp_path / "samples", corrected, tmp_path / "data")
    assert taken == 0 and len(problems) == 3
    assert any("no sample has this name" in problem for problem in problems)
    assert any("80x60 px" in problem for problem in problems)
    assert any("no alpha channel" in problem for problem in problems)
    with pytest.raises(InputError, match="cutray serve --samples"):
        accept_corrected(tmp_path / "data", corrected, tmp_path / "more")
