"""Members of an ensemble: what is done is kept, what was stopped goes on, and what is of other data is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("ray")

from cutray.config import TrainSettings, parse_settings
from cutray.errors import ConfigError, TrainingError
from cutray.training.local import fit_here
from cutray.training.runs import BEST_FILE, HISTORY_FILE, FitResult
from pipelines.train_ensemble import train_members
from tests.scenes import write_pairs


def _settings(data: Path, runs: Path, **optim: Any) -> TrainSettings:
    """Small enough for seconds: the network itself cannot be smaller."""
    return parse_settings(
        TrainSettings,
        {
            "save_dir": str(runs),
            "tracking_uri": "none",
            "precision": "fp32",
            "threads_per_worker": 1,
            "data": {"folders": [str(data)], "side_px": 32, "validation_share": 0.5},
            "optim": {"batch_size": 2, "epochs": 2, **optim},
        },
    )


def test_members_are_done_when_they_were_trained_to_their_end(tmp_path: Path) -> None:
    """Ctrl+C leaves weights of the epochs so far; the same call goes on, and trains nothing a third time."""
    data, other = (write_pairs(tmp_path / name, 10, seed=seed, side_px=64) for seed, name in enumerate(("one", "two")))
    settings, trained = _settings(data, tmp_path / "runs"), []

    def stop(latest: dict[str, Any]) -> None:
        if latest.get("epoch") == 2:  # the first epoch has its checkpoint, the second one is not done
            raise KeyboardInterrupt

    def train(own: TrainSettings) -> FitResult:
        trained.append(own.name)
        return fit_here(own)

    def stop_the_second(own: TrainSettings) -> FitResult:
        return fit_here(own, callbacks=[stop]) if own.seed == 1 else train(own)

    def epochs(member: int) -> int:
        return len(json.loads((tmp_path / "runs" / f"shoes-member-{member}" / HISTORY_FILE).read_text()))

    with pytest.raises(KeyboardInterrupt):
        train_members(settings, "shoes", 2, stop_the_second)
    second = tmp_path / "runs" / "shoes-member-2" / BEST_FILE
    assert second.is_file() and (epochs(1), epochs(2)) == (2, 1)
    paths = train_members(settings, "shoes", 2, train)
    assert trained == ["shoes-member-1", "shoes-member-2"]
    assert paths[1] == str(second) and (epochs(1), epochs(2)) == (2, 2)
    assert train_members(settings, "shoes", 2, train) == paths
    assert len(trained) == 2
    weights = [Path(path).read_bytes() for path in paths]
    with pytest.raises(TrainingError, match="other data"):
        train_members(_settings(other, tmp_path / "runs"), "shoes", 2, train)
    with pytest.raises(ConfigError, match=r"other settings: optim\.lr"):
        train_members(_settings(data, tmp_path / "runs", lr=0.0002), "shoes", 2, train)
    assert [Path(path).read_bytes() for path in paths] == weights
