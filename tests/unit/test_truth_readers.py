"""Every job that reads known masks reads them as training and evaluation do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("click")

from cutray.config import SweepSettings, parse_settings
from cutray.evaluation.datasets import Sample, read_truth
from pipelines.bench.edge_trials import pasted_trials
from pipelines.calibrate_confidence.cli import _photos
from pipelines.sweep.trials import held_out_samples, searched_samples

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH = 40, 64
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[5:20, 8:30] = 1


def _write_set(folder: Path, number: int = 1) -> Path:
    """Write photos that are stored turned (EXIF orientation 6), with masks of 0 and 1 as stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for one in range(number):
        photo = np.where(MASK[..., None] == 1, [230, 120, 20], [60, 80, 140]).astype(np.uint8)
        Image.fromarray(photo).save(folder / "images" / f"{one}.png", exif=exif)
        Image.fromarray(MASK).save(folder / "masks" / f"{one}.png")
    return folder


def test_edge_trials_and_calibration_lay_masks_on_turned_photos(tmp_path: Path) -> None:
    """Masks of 0 and 1 are no black pictures there, and they are turned with their photos."""
    folder = _write_set(tmp_path / "set")
    upright = np.rot90(MASK, -1).astype(np.float32)
    trials: Iterator[np.ndarray] = (one.truth for one in pasted_trials(folder, 1, 256, "train"))
    for alpha in trials:
        np.testing.assert_array_equal(alpha, upright)
    ((_, _, truth),) = _photos([folder], 10, 0)
    assert isinstance(truth, Sample)
    np.testing.assert_array_equal(read_truth(truth, shape=(WIDTH, HEIGHT)), upright)


def test_no_job_reads_masks_past_the_check() -> None:
    """Only what check_samples has settled says what the values of a mask mean."""
    readers = [path.name for path in (ROOT / "pipelines").rglob("*.py") if "load_truth" in path.read_text()]
    assert readers == []


def test_folders_of_one_name_are_both_searched(tmp_path: Path) -> None:
    """Neither replaces the other one, and each keeps its own scores."""
    folders = [str(_write_set(tmp_path / kind / "photos", 2)) for kind in ("shoes", "hats")]
    sweep = parse_settings(
        SweepSettings, {"job": "remove", "data": folders, "search": {"threshold": {"uniform": [0.4, 0.6]}}}
    )
    for samples in (searched_samples(sweep), held_out_samples(sweep)):
        images = [str(sample.image) for group in samples.values() for sample in group]
        assert len(images) == 2
        assert [image.startswith(folder) for image, folder in zip(images, folders, strict=True)] == [True, True]
