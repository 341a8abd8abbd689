"""The install steps of the image, run in a clean environment instead of a container."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the lock is for Python 3.11")
def test_the_image_can_be_built_and_runs(tmp_path: Path) -> None:
    """The wheel and the locked packages alone make a program that knows all commands and finds an engine."""
    quiet = {"PIP_CONFIG_FILE": os.devnull, "CUTRAY_HOME": str(tmp_path / "home"), "CUTRAY_OFFLINE": "1"}
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PIP_FIND_LINKS")} | quiet

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        return done.stdout

    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"], cwd=ROOT, check=True
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv = tmp_path / "venv"
    run("sh", ROOT / "cluster" / "docker" / "install.sh", ROOT / "cluster" / "docker" / "cpu.lock", venv, wheel)

    shown = run(venv / "bin" / "cutray", "--help")
    assert all(command in shown for command in ("remove", "batch", "serve", "train"))
    assert "openvino" in run(venv / "bin" / "cutray", "doctor", "--model", "u2netp").lower()
    run(venv / "bin" / "cutray", "serve", "--help")
    run(venv / "bin" / "cutray", "batch", "--help")
