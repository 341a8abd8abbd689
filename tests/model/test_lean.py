"""The lean network: at hand without a download, and of the same opinion as the one that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from cutray import BackgroundRemover
from tests.conftest import require_weights


@pytest.mark.parametrize(("quality", "model"), [("fast", "u2net-lean-288"), ("balanced", "u2net-lean")])
def test_no_download_is_needed(
    quality: Literal["fast", "balanced"],
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    photos: dict[str, np.ndarray],
) -> None:
    """On a machine without any weights and without a network, all but `best` work."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path))
    monkeypatch.setenv("CUTRAY_OFFLINE", "1")
    for name in ("U2NET_HOME", "REMBG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    remover = BackgroundRemover(quality=quality, threads=1)
    removal = remover.remove_background(photos["astronaut"])
    assert removal.report.model == model
    assert 0.2 < np.asarray(removal.mask).mean() / 255 < 0.8


@pytest.mark.parametrize(("model", "overlap"), [("u2net-lean", 0.95), ("u2net-lean-288", 0.94)])
def test_answers_are_those_of_u2net(model: str, overlap: float, photos: dict[str, np.ndarray]) -> None:
    """On most sample photos, which neither was fitted to, the masks cover nearly the same; a rocket is lost."""
    require_weights("u2net")
    lean, full = (BackgroundRemover(name, quality="fast", threads=1) for name in (model, "u2net"))
    overlaps = []
    for photo in photos.values():
        ours, theirs = (np.asarray(one.remove_background(photo).mask) > 127 for one in (lean, full))
        overlaps.append((ours & theirs).sum() / max((ours | theirs).sum(), 1))
    assert np.median(overlaps) > overlap


@pytest.mark.parametrize("quality", ["fast", "balanced"])
def test_a_face_that_fills_the_frame_has_no_hole(
    quality: Literal["fast", "balanced"], photos: dict[str, np.ndarray]
) -> None:
    """The nose of a cat, which the network doubts, is opaque."""
    mask = np.asarray(BackgroundRemover(quality=quality, threads=1).remove_background(photos["chelsea"]).mask)
    height, width = mask.shape
    nose = mask[int(0.75 * height) : int(0.85 * height), int(0.53 * width) : int(0.64 * width)]
    assert nose.min() == 255
