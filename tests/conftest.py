"""What several tiers share: the tier's marker on each test, real photos, and one loaded model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# Before numpy and torch are loaded: of several test processes each has one core, and threads that wait for it burn it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# A cluster that the developer uses is not for tests to join.
os.environ.pop("RAY_ADDRESS", None)

import cv2
import numpy as np
import pytest
from PIL import Image

from cutray.errors import WeightsUnavailableError
from cutray.models.weights import resolve
from cutray.remover import BackgroundRemover

# Set in each of several test processes, as gw0, gw1 and so on.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
if WORKER:
    cv2.setNumThreads(1)

TESTS = Path(__file__).parent
# The longest first, so that no process is left with a long file when the others have ended.
LONGEST = ("integration", "e2e", "fault", "model")
# Those that start no processes which share the machine.
COMPUTING = ("unit", "repo", "model")
# Gives the same digits with any number of threads, as MNN, which auto takes with AVX2 alone, does not.
ENGINE = "openvino"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "camera")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, which is the name of its folder; with `-n`, put the longest first."""
    for item in items:
        parts = item.path.relative_to(TESTS).parts if item.path.is_relative_to(TESTS) else ()
        if len(parts) > 1:
            item.add_marker(parts[0])
    if WORKER:
        items.sort(key=lambda item: _place(item.path))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep tests that compute in their own process to one core, with `-n`: networks take no more threads then."""
    if CORES and WORKER:
        own = CORES[int(WORKER.removeprefix("gw")) % len(CORES)]
        is_kept = item.path.parent.name in COMPUTING
        os.sched_setaffinity(0, {own} if is_kept else CORES)
        if is_kept and "torch" in sys.modules:  # two threads that wait for each other on one core take minutes
            sys.modules["torch"].set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Say which tests may run side by side, with `-n`.

    Each file runs in one worker, so that what it prepares is prepared once.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.split("::")[0]

    return Scheduling(config, log)


def _place(file: Path) -> tuple[bool, int]:
    """Return where a file's tests come: after those of longer tiers, and of those of its own, after longer files."""
    return file.parent.name not in LONGEST, -file.stat().st_size


def require_weights(name: str) -> Path:
    """Return where published weights lie, or skip the test if this machine does not have them."""
    try:
        return resolve(name, offline=True).path
    except WeightsUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Return the sample photos of scikit-image by name, (H, W, 3) uint8 each."""
    data = pytest.importorskip("skimage.data", reason="the sample photos are part of scikit-image")
    loaded = {name: getattr(data, name)() for name in PHOTOS}
    return {name: a if a.ndim == 3 else np.repeat(a[..., None], 3, axis=2) for name, a in loaded.items()}


@pytest.fixture(scope="session")
def photo_files(photos: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sample photos as JPEG; tests must not write into it."""
    folder = tmp_path_factory.mktemp("photos")
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=92)
    return folder


@pytest.fixture(scope="session")
def remover() -> BackgroundRemover:
    """Return a remover with the small model, which gives what an endpoint with the same engine gives."""
    require_weights("u2netp")
    return BackgroundRemover("u2netp", engine=ENGINE, offline=True, threads=1 if WORKER else 0)
