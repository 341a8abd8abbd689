"""The commands of the guide to batches run as they stand there, from a folder with a few photos."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batches import batch_environment, shared_ray
from tests.conftest import require_weights
from tests.pages import RUNNABLE, Block, blocks, run_block

pytest.importorskip("ray.data")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Run a Ray for all blocks; the commands join it by RAY_ADDRESS."""
    with shared_ray() as started:
        yield started


@pytest.fixture
def folder(photo_files: Path, tmp_path: Path) -> Path:
    """Return a folder with `photos/`, and a list of them."""
    (tmp_path / "photos").mkdir()
    for name in ("coffee.jpg", "rocket.jpg"):
        shutil.copy(photo_files / name, tmp_path / "photos")
    (tmp_path / "list.csv").write_text("path\nphotos/coffee.jpg\nphotos/rocket.jpg\n")
    return tmp_path


@pytest.mark.parametrize("block", blocks(*RUNNABLE, group="batch"), ids=lambda block: block.name)
def test_block_runs(block: Block, folder: Path, address: str) -> None:
    """Every command of the block succeeds, on relative paths, and all results are there."""
    require_weights("u2net")
    run_block(block, folder, **batch_environment(), RAY_ADDRESS=address)
    for result in ("cutouts/coffee.png", "cutouts/rocket.png", "cutouts.parquet"):
        assert (folder / result).exists(), result
