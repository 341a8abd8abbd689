"""A batch over a Parquet file stays within its memory, all its processes together."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.bench.memory import Run, run_watched
from tests.batches import batch_command, batch_environment
from tests.conftest import require_weights

pytest.importorskip("psutil")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.model
# More for the figures of docs/reliability.md.
PHOTOS = int(os.environ.get("CUTRAY_MEMORY_PHOTOS", "40"))
OVER = 1.5  # what may be seen at most, in budgets


def _photo(number: int, width: int, height: int) -> bytes:
    """Draw a photo with noise, so that no two have the same bytes and none is small."""
    rng = np.random.default_rng(number)
    picture = cv2.resize(rng.integers(0, 255, (height // 16, width // 16, 3), np.uint8), (width, height))
    cv2.circle(picture, (width // 2, height // 2), height // 3, (40, 80, 240), -1, cv2.LINE_AA)
    encoded: bytes = cv2.imencode(".jpg", picture)[1].tobytes()
    return encoded


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write small photos and, among every 100, a large one, in the page size that pyarrow chooses by itself."""
    import pyarrow.parquet as pq

    path = tmp_path_factory.mktemp("table") / "photos.parquet"
    rows = [
        {"bytes": _photo(number, *((4000, 3000) if number % 100 == 20 else (640, 480))), "path": f"{number:05d}.jpg"}
        for number in range(PHOTOS)
    ]
    pq.write_table(pa.table({"image": rows}), path)
    return path


def _run(table: Path, target: Path, *options: str) -> Run:
    require_weights("u2netp")
    more = ("--quality", "fast", "--no-report", *options)
    return run_watched(batch_command(table, target, *more), batch_environment(), look_every_s=0.5)


@pytest.mark.parametrize(("budget_gb", "options"), [(1.1, ()), (2.2, ("--address", "local"))], ids=["processes", "ray"])
def test_batch_stays_within_its_memory(table: Path, tmp_path: Path, budget_gb: float, options: tuple[str, ...]) -> None:
    """Peak of all processes, Ray's among them, is at most 1.5 times what was granted; all photos are done."""
    import pyarrow.parquet as pq

    run = _run(table, tmp_path / "out.parquet", "--memory-gb", str(budget_gb), *options)
    assert run.returncode == 0, run.stderr
    rows: Any = pq.read_table(tmp_path / "out.parquet" / "_cutray" / "manifest.parquet", columns=["status"])
    statuses = rows.column("status").to_pylist()
    assert len(statuses) == PHOTOS and set(statuses) <= {"ok", "no_subject"}
    print(f"{PHOTOS} photos, budget {budget_gb} GB: peak {run.peak_bytes / 1e9:.2f} GB, {run.seconds:.0f} s")
    assert 0 < run.peak_bytes <= OVER * budget_gb * 1e9


def test_too_little_memory_is_told_before_anything_is_done(table: Path, tmp_path: Path) -> None:
    """The message says how much one worker takes, and nothing is cut out."""
    run = _run(table, tmp_path / "out.parquet", "--memory-gb", "0.1")
    assert run.returncode == 2
    assert re.search(r"a memory of 0\.1 GB \(allowed: at least 1\.\d\d GB", run.stderr)
    assert not list((tmp_path / "out.parquet").glob("*.parquet"))
