"""Workers are killed in the middle of an epoch, and the run ends where an undisturbed one does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.scenes import write_pairs
from tests.training import TINY, environment, last_difference, run_training, train_command

pytest.importorskip("ray.train")
pytest.importorskip("mlflow")


def _workers(process: subprocess.Popen[bytes]) -> list[int]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(child.cmdline()):
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


def test_a_killed_worker_costs_one_checkpoint_interval(tmp_path: Path) -> None:
    """After kill -9 of a worker the group starts again from the newest checkpoint and comes to the same scores."""
    data = write_pairs(tmp_path / "data", 44, side_px=64)
    common = ["--data", data, *TINY, "--epochs=4", "--set=tracking_uri=none", "--save-dir", tmp_path / "runs"]
    code, _, told = run_training([*common, "--name", "whole"])
    assert code == 0, told

    process = subprocess.Popen(
        train_command(*common, "--name", "hurt"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
    )
    run_dir, until = tmp_path / "runs" / "hurt", time.monotonic() + 1800
    while len(list(run_dir.glob("checkpoint_*/sha256sums"))) < 6:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    steps_before = max(int(path.name.split("_")[1]) for path in run_dir.glob("checkpoint_[0-9]*"))
    os.kill(_workers(process)[0], signal.SIGKILL)
    assert process.wait(1800) == 0, process.stderr.read() if process.stderr else ""

    assert steps_before >= 4
    assert last_difference(tmp_path / "runs" / "whole", run_dir) < 1e-5
