"""`cutray drift fingerprint` with a real network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cutray.cli import cli
from cutray.console.run import run
from cutray.evaluation.drift import BOUNDS, read_fingerprint

PHOTOS = ("astronaut.jpg", "coffee.jpg", "chelsea.jpg")


def test_a_folder_becomes_a_reference(photo_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All features of all photos are in the file; masks beside them and what is no photo are not counted."""
    pytest.importorskip("pyarrow")
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for name in PHOTOS:
            shutil.copy(photo_files / name, tmp_path / part / name)
    words = ["drift", "fingerprint", str(tmp_path), "-m", "u2netp-distilled", "--offline"]
    assert run(cli, [*words, "-o", str(tmp_path / "f.json")]) == 0
    made = read_fingerprint(tmp_path / "f.json")
    assert set(made.counts) == set(BOUNDS)
    assert all(counts.sum() == len(PHOTOS) for counts in made.counts.values())
    assert np.argmax(made.counts["no_subject"]) == 0
    assert run(cli, [*words, "-o", str(tmp_path / "f.json")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(cli, ["drift", "fingerprint", str(tmp_path / "empty"), "-o", str(tmp_path / "g.json")]) == 1
    assert "no photos" in capsys.readouterr().err
