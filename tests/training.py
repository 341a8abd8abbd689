"""Runs the training command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RAY_ENDS_S = 8  # Ray's own processes follow those that started them within seconds
# Small enough to take seconds: a tiny input, few photos, and a checkpoint after every step.
TINY = (
    "--preset=u2netp",
    "--workers=2",
    "--epochs=3",
    "--batch-size=8",
    "--set=cpus_per_worker=0.5",
    "--set=threads_per_worker=1",
    "--set=precision=fp32",
    "--set=data.side_px=32",
    "--set=data.validation_share=0.25",
    "--set=checkpoint_every_steps=1",
    "--set=keep_checkpoints=50",
    "--set=optim.ema_decay=0.5",
)


def train_command(*arguments: object) -> list[str]:
    """Return the words of a training command."""
    return [sys.executable, "-m", "pipelines.train", *map(str, arguments)]


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which processes find the code and notice lost nodes soon."""
    root = Path(__file__).parents[1]
    quick = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30"}
    return {**os.environ, "PYTHONPATH": f"{root / 'platform'}{os.pathsep}{root}", **quick, **extra}


def run_training(arguments: Sequence[object], **extra: str) -> tuple[int, dict[str, Any], str]:
    """Run a training to its end; return exit code, last line as data, and what a person was told."""
    done = subprocess.run(
        train_command(*arguments), capture_output=True, text=True, timeout=1800, env=environment(**extra), check=False
    )
    lines = done.stdout.strip().splitlines()
    return done.returncode, json.loads(lines[-1]) if done.returncode == 0 else {}, done.stderr


def kill_once_there_are(checkpoints: int, command: Sequence[str], folder: Path, pattern: str) -> None:
    """Start a command and kill it with -9 as soon as so many whole checkpoints match; wait until Ray is gone too."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    until = time.monotonic() + 1800
    while len(list(folder.glob(f"{pattern}/sha256sums"))) < checkpoints and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(RAY_ENDS_S)


def last_difference(first: Path, second: Path) -> float:
    """Return the largest difference between the weights at the end of two runs."""
    from safetensors.numpy import load_file

    ends = [sorted(run_dir.glob("checkpoint_[0-9]*"))[-1] for run_dir in (first, second)]
    assert ends[0].name == ends[1].name
    one, two = (load_file(end / "weights.safetensors") for end in ends)
    return float(max(np.abs(one[name] - two[name]).max() for name in one))
