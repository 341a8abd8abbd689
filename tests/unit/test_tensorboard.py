"""A run writes figures and pictures for TensorBoard."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("safetensors")

from cutray.config import TrainSettings, parse_settings  # noqa: E402
from cutray.training.local import fit_here  # noqa: E402
from tests.training import environment  # noqa: E402

VALUES: dict[str, Any] = {
    "name": "seen",
    "tracking_uri": "none",
    "precision": "fp32",
    "threads_per_worker": 1,
    "data": {"side_px": 32, "scenes": 4, "validation_scenes": 3},
    "optim": {"batch_size": 2, "epochs": 2},
}


def test_scalars_and_pictures_of_a_run(tmp_path: Path) -> None:
    """Loss and rate of steps, scores of epochs by step, and the validation samples beside truth and result."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = tmp_path / "board"
    values = {**VALUES, "save_dir": str(tmp_path / "runs"), "tensorboard": str(board)}
    result = fit_here(parse_settings(TrainSettings, values))
    events = EventAccumulator(str(board / "seen")).Reload()
    assert {"train/loss", "train/lr", "validation/iou", "validation/mae", "epoch/loss"} <= set(events.Tags()["scalars"])
    ious = events.Scalars("validation/iou")
    assert [one.step for one in ious] == [2, 4]
    assert [one.value for one in ious] == pytest.approx([entry["iou"] for entry in result.state.history])
    assert any(tag.startswith("validation") for tag in events.Tags()["images"])
    picture = events.Images(next(tag for tag in events.Tags()["images"]))[0]
    assert (picture.height, picture.width) == (32, 3 * 3 * 32)  # three samples: photo, truth, result


def test_a_run_that_fails_leaves_what_it_has_noted(tmp_path: Path) -> None:
    """The loss of the step before the failure is in the file, and nothing waits to write any more."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def fail(latest: dict[str, Any]) -> None:
        if "loss" in latest:
            raise RuntimeError("enough")

    board, before = tmp_path / "board", threading.active_count()
    values = {**VALUES, "save_dir": str(tmp_path / "runs"), "tensorboard": str(board)}
    with pytest.raises(RuntimeError, match="enough"):
        fit_here(parse_settings(TrainSettings, values), callbacks=[fail])
    events = EventAccumulator(str(board / "seen")).Reload()
    assert [one.step for one in events.Scalars("train/loss")] == [1]
    assert threading.active_count() <= before


def test_without_it_the_extra_is_named(tmp_path: Path) -> None:
    """The run is refused before it begins, with what to install."""
    script = "import sys\nsys.modules['tensorboard'] = None\n"
    script += "from cutray.config import TrainSettings, parse_settings\nfrom cutray.training.local import fit_here\n"
    values = {**VALUES, "save_dir": str(tmp_path / "runs"), "tensorboard": str(tmp_path / "board")}
    script += f"fit_here(parse_settings(TrainSettings, {values!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=False
    )
    assert "MissingExtraError: tensorboard is not installed" in done.stderr
    assert "cutray[train,tensorboard]" in done.stderr
    assert not (tmp_path / "runs").exists()
