"""A batch that is killed at a random moment and run again loses, repeats and halves nothing."""

from __future__ import annotations

import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.batches import (
    batch_command,
    batch_environment,
    batch_rows,
    hashes_of,
    run_batch_command,
    write_photos,
)

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray")
pytest.importorskip("pyarrow.parquet")
pytestmark = [pytest.mark.fault, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")]
PHOTOS = 60
ROUNDS = int(os.environ.get("CUTRAY_FAULT_ROUNDS", "2"))  # random moments for each kind of process
FEW_AT_A_TIME = ("--photos-per-task", "4", "--no-report")
# Who does the work: processes of the batch's own, or a Ray that it starts.
WORKERS = {"processes": (), "ray": ("--address", "local")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, PHOTOS)
    return folder


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    target = tmp_path_factory.mktemp("undisturbed")
    code, summary, told = run_batch_command(photos, target, *FEW_AT_A_TIME)
    assert code == 0, told
    assert summary["done"] == PHOTOS
    return hashes_of(target)


@pytest.fixture(scope="module")
def undisturbed_shards(
    photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[tuple[str, ...], dict[str, str]]]:
    """Return what makes shards of a kind, once: its options and the hashes of its files."""

    @cache
    def make(kind: str) -> tuple[tuple[str, ...], dict[str, str]]:
        options = ("--sink", kind, "--photos-per-shard", "8", "--no-report")
        target = tmp_path_factory.mktemp(kind)
        assert run_batch_command(photos, target, *options)[0] == 0
        return options, hashes_of(target)

    return make


def _start(photos: Path, target: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        batch_command(photos, target, *(options or FEW_AT_A_TIME)),
        env=batch_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for_results(target: Path, number: int, process: subprocess.Popen[bytes], pattern: str = "*.png") -> None:
    deadline = time.monotonic() + 1800
    while len(list(target.rglob(pattern))) < number and process.poll() is None:
        assert time.monotonic() < deadline, "no results"
        time.sleep(0.02)


def _actors(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Processes of the job that cut out, as actors of its own Ray or without one."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(name in " ".join(child.cmdline()) for name in ("MapWorker", "local_worker")):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def _check(target: Path, undisturbed: dict[str, str]) -> None:
    """Outputs equal those of an undisturbed run, and the manifest has one good row for each."""
    assert hashes_of(target) == undisturbed
    rows = batch_rows(target)
    assert len(rows) == PHOTOS
    assert {row["output"] for row in rows.values()} == set(undisturbed)
    for row in rows.values():
        assert hashlib.sha256((target / row["output"]).read_bytes()).hexdigest() == row["output_sha256"]
    assert {row["status"] for row in rows.values()} == {"ok"}


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_driver(photos: Path, undisturbed: dict[str, str], tmp_path: Path, seed: int, workers: str) -> None:
    """After SIGKILL of the job itself, the same command finishes it."""
    process = _start(photos, tmp_path, *FEW_AT_A_TIME, *WORKERS[workers])
    _wait_for_results(tmp_path, random.Random(seed).randrange(1, PHOTOS - 10), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list(tmp_path.rglob("*.png")))
    code, summary, told = run_batch_command(photos, tmp_path, *FEW_AT_A_TIME)
    assert code == 0, told
    assert finished < PHOTOS
    assert summary["done"] == PHOTOS
    _check(tmp_path, undisturbed)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_actor(photos: Path, undisturbed: dict[str, str], tmp_path: Path, seed: int, workers: str) -> None:
    """After SIGKILL of a process that cuts out, the job goes on by itself."""
    process = _start(photos, tmp_path, *FEW_AT_A_TIME, *WORKERS[workers])
    _wait_for_results(tmp_path, random.Random(seed).randrange(1, PHOTOS - 20), process)
    killed = 0
    for actor in _actors(process):
        actor.kill()
        killed += 1
    assert process.wait(timeout=1800) == 0
    assert killed >= 1
    _check(tmp_path, undisturbed)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_raylet(photos: Path, undisturbed: dict[str, str], tmp_path: Path, seed: int) -> None:
    """After SIGKILL of Ray's own process the job may end, and the same command finishes it."""
    process = _start(photos, tmp_path, *FEW_AT_A_TIME, *WORKERS["ray"])
    _wait_for_results(tmp_path, random.Random(seed).randrange(1, PHOTOS - 20), process)
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.name() == "raylet":
            child.kill()
    try:
        process.wait(timeout=600)
    except subprocess.TimeoutExpired:  # Ray waits long for a node to come back; the user would not
        process.kill()
        process.wait()
    code, _, told = run_batch_command(photos, tmp_path, *FEW_AT_A_TIME)
    assert code == 0, told
    _check(tmp_path, undisturbed)


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_driver_of_shards(
    photos: Path,
    undisturbed_shards: Callable[[str], tuple[tuple[str, ...], dict[str, str]]],
    tmp_path: Path,
    kind: str,
    seed: int,
) -> None:
    """After SIGKILL no shard is partial, and the same command makes those that an undisturbed run makes."""
    options, whole = undisturbed_shards(kind)
    assert len(whole) == math.ceil(PHOTOS / 8)
    target, moment = tmp_path / "killed", random.Random(seed)
    process = _start(photos, target, *options)
    _wait_for_results(target, moment.randrange(1, len(whole) - 1), process, "shard-*")
    time.sleep(moment.random())
    process.kill()
    process.wait()
    left = {name: digest for name, digest in hashes_of(target).items() if not name.startswith(".cutray-")}
    assert left.items() <= whole.items()
    code, summary, told = run_batch_command(photos, target, *options)
    assert code == 0, told
    assert summary["done"] == PHOTOS
    assert hashes_of(target) == whole
    rows = batch_rows(target)
    assert {row["output"] for row in rows.values()} == set(whole)
    for row in rows.values():
        assert hashlib.sha256((target / row["output"]).read_bytes()).hexdigest() == row["shard_sha256"]
    assert len(rows) == PHOTOS
