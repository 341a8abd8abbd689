"""Runs batches in processes of their own, and reads what they leave."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def batch_environment() -> dict[str, str]:
    """Variables for a process that may start Ray."""
    path = os.pathsep.join([str(ROOT / "platform"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def batch_command(*arguments: str | Path) -> list[str]:
    """Command line of a batch with the small model."""
    return [sys.executable, "-m", "pipelines.batch_remove", *map(str, arguments), "-m", "u2netp"]


def run_batch_command(*arguments: str | Path, **more: Any) -> tuple[int, dict[str, Any], str]:
    """Run a batch; returns exit code, the JSON line and what it told a person."""
    environment = {**batch_environment(), **more.pop("env", {})}
    done = subprocess.run(
        batch_command(*arguments), capture_output=True, text=True, timeout=240, check=False, env=environment, **more
    )
    lines = done.stdout.strip().splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr


def write_photos(folder: Path, number: int) -> list[str]:
    """Write photos of a bright disc on a dark ground, each one different; returns their names below the folder."""
    names = []
    for index in range(number):
        name = f"{'abc'[index % 3]}/photo {index:03d}.{('jpg', 'png', 'webp')[index % 3]}"
        picture = np.full((240 + index, 320, 3), (60, 90, 40), np.uint8)
        cv2.circle(picture, (120 + index % 80, 120), 70 + index % 20, (40, 80, 240), -1, cv2.LINE_AA)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = cv2.imencode(path.suffix, picture)[1]
        path.write_bytes(encoded.tobytes())
        names.append(name)
    return names


def hashes_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every result in a folder, hidden files too, the job's own notes left out."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "_cutray" not in path.parts
    }
