"""The code of the README and of docs/ runs as it stands there, in a folder with nothing but a few photos."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import require_weights
from tests.pages import RUNNABLE, Block, blocks, run_block

# The photos that the pages speak of.
PHOTOS = {"photo.jpg": "astronaut", "glass.jpg": "coffee", "beach.jpg": "rocket", "logo.jpg": "camera"}


@pytest.fixture
def folder(photo_files: Path, tmp_path: Path) -> Path:
    """Return a folder with the photos that the pages speak of, alone and in `photos/`."""
    (tmp_path / "photos").mkdir()
    for name, source in PHOTOS.items():
        shutil.copy(photo_files / f"{source}.jpg", tmp_path / name)
    for source in ("astronaut", "coffee"):
        shutil.copy(photo_files / f"{source}.jpg", tmp_path / "photos")
    return tmp_path


@pytest.mark.parametrize("block", blocks(*RUNNABLE, group="quick"), ids=lambda block: block.name)
def test_block_runs(block: Block, folder: Path) -> None:
    """Every command of the block succeeds."""
    require_weights("u2net")
    run_block(block, folder)
