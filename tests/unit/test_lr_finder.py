"""The learning rate range test: it finds where the loss falls, and leaves everything as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from cutray.config import TrainSettings, parse_settings  # noqa: E402
from cutray.console.run import run  # noqa: E402
from cutray.errors import TrainingError  # noqa: E402
from cutray.training.lr_finder import find_lr, suggest_lr  # noqa: E402
from pipelines.train import train  # noqa: E402

SCENES: list[Any] = [{"number": number, "case": "ordinary", "family": "train"} for number in range(6)]


def test_the_steepest_fall_is_suggested() -> None:
    """A loss that falls most around 1e-3 and rises from 1e-1 on; too few steps are refused."""
    rates = np.geomspace(1e-7, 1, 100)
    losses = 2 - np.tanh(np.log10(rates) + 3) + 50 * np.maximum(0, np.log10(rates) + 1)
    assert suggest_lr(rates.tolist(), losses.tolist()) == pytest.approx(1e-3, rel=0.2)
    with pytest.raises(TrainingError, match="3 steps before"):
        suggest_lr([1, 2, 3], [1, 2, 3])


def test_nothing_is_changed_by_looking() -> None:
    """Random generators and threads are as before, the same test gives the same rates and losses again."""
    settings = parse_settings(
        TrainSettings,
        {"precision": "fp32", "threads_per_worker": 1, "data": {"side_px": 32}, "optim": {"batch_size": 2}},
    )
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    found = find_lr(settings, SCENES, num_training=12)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert found.rates[0] == pytest.approx(1e-7)
    assert found.suggestion in found.rates
    assert all(np.isfinite(found.losses))
    assert find_lr(settings, SCENES, num_training=12) == found
    with pytest.raises(TrainingError, match="rising rates"):
        find_lr(settings, SCENES, min_lr=1.0, max_lr=0.1)


def test_the_command_draws_and_suggests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture and its figures are written, the last line is for programs, and no run has begun."""
    words = ["--preset=smoke", "--set=init=", "--set=data.side_px=32", "--set=data.scenes=6", "--batch-size=2"]
    words += ["--set=threads_per_worker=1", "--set=precision=fp32", f"--save-dir={tmp_path / 'runs'}"]
    assert run(train, [*words, f"--find-lr={tmp_path / 'lr.png'}", "--lr-steps=12"]) == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    figures = json.loads((tmp_path / "lr.json").read_text())
    assert told["find_lr"] == figures["suggestion"]
    assert len(figures["rates"]) == len(figures["losses"]) == told["steps"]
    with Image.open(tmp_path / "lr.png") as picture:
        assert picture.width > 400
    assert not (tmp_path / "runs").exists()
