"""The demo cuts out its photos by the batch job and says what to do next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.batches import ROOT, batch_environment, batch_rows
from tests.conftest import require_weights

pytest.importorskip("ray")
pytest.importorskip("skimage.data")
pytestmark = pytest.mark.model


def test_demo_shows_samples_and_own_photos(tmp_path: Path) -> None:
    """Samples and the caller's photos are on the sheet, and every command it names next exists."""
    require_weights("u2netp")
    (tmp_path / "mine").mkdir()
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "mine" / "own.jpg")
    (tmp_path / "mine" / "notes.txt").write_text("no photo")
    command = [sys.executable, "-m", "pipelines.demo", str(tmp_path / "mine"), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "-m", "u2netp"], cwd=ROOT, env=batch_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = batch_rows(tmp_path / "out" / "cutouts")
    assert {"astronaut.png", "rocket.png", "yours/own.jpg"} <= set(rows)
    assert {row["status"] for row in rows.values()} <= {"ok", "no_subject"}
    sheet = Image.open(tmp_path / "out" / "contact_sheet.png")
    assert sheet.height > 6 * 200
    named = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  cutray ")]
    assert {"remove", "batch", "serve", "doctor"} <= set(named)
    shown = subprocess.run([sys.executable, "-m", "cutray.cli", "--help"], capture_output=True, text=True, check=True)
    assert all(f"  {verb} " in shown.stdout for verb in named)
