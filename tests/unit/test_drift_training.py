"""Training leaves a fingerprint of its photos beside the weights, and other files of the model take it along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from cutray.config import DataSettings, TrainSettings, parse_settings
from cutray.data.catalog import build_catalog
from cutray.data.fingerprint import fingerprint_of
from cutray.evaluation.drift import copy_fingerprint, fingerprint_path, read_fingerprint
from cutray.training.local import fit_here
from tests.training import environment

PAIRS = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write pairs in the plain layout; the last one has no subject."""
    rng = np.random.default_rng(3)
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for number in range(PAIRS):
        photo = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (80, 60), interpolation=cv2.INTER_CUBIC)
        mask = np.zeros((60, 80), np.uint8)
        if number < PAIRS - 1:
            mask[15:45, 20:60] = 255
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{number}.png"), photo)
        cv2.imwrite(str(tmp_path / "data" / "masks" / f"{number}.png"), mask)
    return tmp_path


def test_photos_and_true_masks_are_measured(folder: Path) -> None:
    """Every pair counts, the area is that of its true mask, and what only a network can say is left out."""
    catalog = build_catalog(parse_settings(DataSettings, {"folders": [str(folder / "data")]}), 0)
    pairs = [*catalog.train, *catalog.validation]
    made = fingerprint_of(pairs)
    assert made is not None and made.photos() == PAIRS
    assert set(made.counts) == {"brightness", "sharpness", "megapixels", "area", "no_subject"}
    assert made.counts["no_subject"].tolist() == [PAIRS - 1, 1]
    assert made.counts["area"][4] == PAIRS - 1  # 0.2 < area <= 0.25
    few = fingerprint_of(pairs, most=3)
    assert few is not None and few.photos() == 3
    assert fingerprint_of([]) is None


def test_a_run_writes_it_and_copies_follow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies beside the best weights; a file without one gets none, and a copy beside itself changes nothing."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    values: dict[str, Any] = {
        "name": "shoes",
        "save_dir": str(folder / "runs"),
        "architecture": "u2netp",
        "init": "",
        "precision": "fp32",
        "threads_per_worker": 1,
        "tracking_uri": "none",
        "data": {"folders": [str(folder / "data")], "side_px": 32, "validation_share": 0.3},
        "optim": {"batch_size": 2, "epochs": 1},
    }
    result = fit_here(parse_settings(TrainSettings, values))
    made = read_fingerprint(fingerprint_path(result.best))
    assert 0 < made.photos() < PAIRS and "training photos" in made.made_from
    exported = folder / "shoes.onnx"
    copy_fingerprint(result.best, exported)
    assert read_fingerprint(folder / "shoes.fingerprint.json").photos() == made.photos()
    copy_fingerprint(exported, exported)
    copy_fingerprint(folder / "other.onnx", folder / "more.onnx")
    assert not fingerprint_path(folder / "more.onnx").exists()
