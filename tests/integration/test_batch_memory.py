"""A batch over a Parquet file stays within its memory, all its processes together."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cutray.models.weights import resolve
from pipelines.bench.memory import Run, run_watched
from tests.batches import batch_environment
from tests.conftest import require_weights

pytest.importorskip("psutil")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.model
# More for the figures of docs/reliability.md.
PHOTOS = int(os.environ.get("CUTRAY_MEMORY_PHOTOS", "40"))
SIDE_PX, LARGE = 64, (4000, 3000)
OVER = 1.5  # what may be seen at most, in budgets


def _photo(number: int, width: int, height: int) -> bytes:
    """Draw a photo with noise, so that no two have the same bytes and none is small."""
    rng = np.random.default_rng(number)
    picture = cv2.resize(rng.integers(0, 255, (height // 16, width // 16, 3), np.uint8), (width, height))
    cv2.circle(picture, (width // 2, height // 2), height // 3, (40, 80, 240), -1, cv2.LINE_AA)
    encoded: bytes = cv2.imencode(".jpg", picture)[1].tobytes()
    return encoded


def _write(path: Path, photos: list[bytes]) -> Path:
    """Write photos in the page size that pyarrow chooses by itself."""
    import pyarrow.parquet as pq

    rows = [{"bytes": data, "path": f"{number:05d}.jpg"} for number, data in enumerate(photos)]
    pq.write_table(pa.table({"image": rows}), path)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write small photos and, among every 100, a large one."""
    sizes = [LARGE if number % 100 == 20 else (640, 480) for number in range(PHOTOS)]
    photos = [_photo(number, *size) for number, size in enumerate(sizes)]
    return _write(tmp_path_factory.mktemp("table") / "photos.parquet", photos)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the small network for photos of 64 px: pages, pixels and results are what takes memory here."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from cutray.models.export import describe_model, export_onnx
    from cutray.models.u2net import load_u2net

    require_weights("u2netp")
    weights = resolve("u2netp", offline=True)
    path = tmp_path_factory.mktemp("network") / "small.onnx"
    path.write_bytes(export_onnx(load_u2net(weights.path), SIDE_PX).data)
    spec = replace(weights.spec, file=path.name, input_size_px=SIDE_PX, cpu_precisions=())
    path.with_suffix(".toml").write_text(describe_model(spec))
    return path


def _run(network: Path, table: Path, target: Path, *options: str) -> Run:
    words = (table, target, "-m", network, "--quality", "fast", "--no-report", *options)
    command = [sys.executable, "-m", "pipelines.batch_remove", *map(str, words)]
    return run_watched(command, batch_environment(), look_every_s=0.5)


@pytest.mark.parametrize(("budget_gb", "options"), [(1.4, ()), (2.4, ("--address", "local"))], ids=["processes", "ray"])
def test_batch_stays_within_its_memory(
    network: Path, table: Path, tmp_path: Path, budget_gb: float, options: tuple[str, ...]
) -> None:
    """Peak of all processes, Ray's among them, is at most 1.5 times what was granted; all photos are done."""
    import pyarrow.parquet as pq

    run = _run(network, table, tmp_path / "out.parquet", "--memory-gb", str(budget_gb), *options)
    assert run.returncode == 0, run.stderr
    rows: Any = pq.read_table(tmp_path / "out.parquet" / "_cutray" / "manifest.parquet", columns=["status"])
    statuses = rows.column("status").to_pylist()
    assert len(statuses) == PHOTOS and set(statuses) <= {"ok", "no_subject"}
    print(f"{PHOTOS} photos, budget {budget_gb} GB: peak {run.peak_bytes / 1e9:.2f} GB, {run.seconds:.0f} s")
    assert 0 < run.peak_bytes <= OVER * budget_gb * 1e9


def test_large_photos_wait_for_room(network: Path, tmp_path: Path) -> None:
    """Twelve photos of 12 MP at a time would take twice the budget; all are done, and the budget holds."""
    large = _write(tmp_path / "large.parquet", [_photo(number, *LARGE) for number in range(12)])
    run = _run(network, large, tmp_path / "out.parquet", "--memory-gb", "1.2", "--photos-per-actor", "12")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1])["failed"] == 0
    assert 0 < run.peak_bytes <= OVER * 1.2e9


def test_too_little_memory_is_told_before_anything_is_done(network: Path, table: Path, tmp_path: Path) -> None:
    """The message says how much one worker takes, and nothing is cut out."""
    run = _run(network, table, tmp_path / "out.parquet", "--memory-gb", "0.1")
    assert run.returncode == 2
    assert re.search(r"a memory of 0\.1 GB \(allowed: at least 1\.\d\d GB", run.stderr)
    assert not list((tmp_path / "out.parquet").glob("*.parquet"))
