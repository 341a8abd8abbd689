"""The batch in processes of its own, without Ray: what dies is replaced, and nothing is lost or done twice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cutray.config import BatchSettings, RemoverSettings
from cutray.errors import EngineError
from cutray.models.weights import resolve
from pipelines.batch.job import BatchJob
from pipelines.batch.local_workers import local_workers
from pipelines.batch.plan import PhotoTask
from pipelines.batch.sources import list_photos
from pipelines.batch.worker_start import end_worker, start_worker
from tests.batches import batch_command, batch_environment, batch_rows, hashes_of, run_batch_command, write_photos
from tests.conftest import require_weights

psutil = pytest.importorskip("psutil")
pytest.importorskip("pyarrow.parquet")
pytestmark = [pytest.mark.model, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")]
PHOTOS = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, PHOTOS)
    return folder


class DeadlyReader:
    """Reads files; one that is named "b/…001…" ends the process instead, as a bug in a decoder would."""

    def __init__(self, root: str) -> None:
        """Keep the folder."""
        self.address = root

    def read(self, name: str, limits: object) -> bytes:
        """Read a file, or end the process."""
        if "001" in name:
            os._exit(11)
        return (Path(self.address) / name).read_bytes()


class DeadOnArrival(DeadlyReader):
    """Ends the process that it comes to."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        os._exit(3)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self)


def _run(
    photos: Path, target: Path, reader: DeadlyReader, early: subprocess.Popen[bytes] | None = None, **batch: Any
) -> Iterator[list[dict[str, Any]]]:
    require_weights("u2netp")
    settings = RemoverSettings(model="u2netp", quality="fast")
    weights = resolve("u2netp", offline=True)
    batch_settings = BatchSettings(max_crashes=2, **batch)
    job = BatchJob(str(photos), str(target), settings, batch_settings, model_sha256=weights.sha256)
    tasks = [PhotoTask(photo, f"{photo.key}.png") for photo in list_photos(str(photos)).photos]
    # A reader has more that is not used here.
    with local_workers(job, reader, early=early) as run_tasks:  # type: ignore[arg-type]
        yield from run_tasks([tasks[:2], tasks[2:]])


def test_photo_that_takes_its_process_down(photos: Path, tmp_path: Path) -> None:
    """It is tried as often as is allowed, alone, then given up; all others are done, each once."""
    rows = [row for rows in _run(photos, tmp_path, DeadlyReader(str(photos))) for row in rows]
    assert Counter(row["status"] for row in rows) == {"ok": PHOTOS - 1, "failed": 1}
    assert len({row["source"] for row in rows}) == PHOTOS
    (failed,) = (row for row in rows if row["status"] == "failed")
    assert failed["code"] == "crashed" and "died 2 times" in failed["reason"]


def test_process_that_never_begins_ends_the_job(photos: Path, tmp_path: Path) -> None:
    """Processes that die before any photo are not started for ever."""
    with pytest.raises(EngineError, match="with no photo in work, at last with code 3"):
        list(_run(photos, tmp_path, DeadOnArrival(str(photos))))


def test_all_processes_get_work_and_none_runs_foreign_code(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes share two blocks; a module of the current folder with a common name is not taken for Python's."""
    (tmp_path / "json.py").write_text("raise SystemExit('foreign code')")
    monkeypatch.chdir(tmp_path)
    rows = _run(photos / "a", tmp_path / "out", DeadlyReader(str(photos / "a")), actors=2, cpus_per_actor=1)
    next(rows)
    assert len(_workers(os.getpid())) == 2
    assert {row["status"] for each in rows for row in each} == {"ok"}


def test_process_that_was_started_early_does_the_work(photos: Path, tmp_path: Path) -> None:
    """It is the only one where one is enough; one that has died meanwhile is replaced."""
    for alive in (True, False):
        early = start_worker("cpu")
        if not alive:
            early.kill()
            early.wait()
        target = tmp_path / str(alive)
        rows = _run(photos / "a", target, DeadlyReader(str(photos / "a")), early=early, actors=1, cpus_per_actor=1)
        first = next(rows)
        assert ([worker.pid for worker in _workers(os.getpid())] == [early.pid]) == alive
        assert {row["status"] for each in (first, *rows) for row in each} == {"ok"}


def test_process_without_work_ends_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    """One that was started early and gets no job ends when nobody is there any more."""
    early = start_worker("cpu")
    assert early.stdin is not None
    early.stdin.close()
    assert early.wait(timeout=600) == 0
    end_worker(early)
    assert capfd.readouterr().err == ""


def test_no_process_is_left(photos: Path, tmp_path: Path) -> None:
    """Whoever stops in the middle leaves nothing that works on."""
    rows = _run(photos, tmp_path, DeadlyReader(str(photos)))
    next(rows)
    workers = _workers(os.getpid())
    assert workers
    rows.close()  # type: ignore[attr-defined]  # it is a generator
    assert not any(worker.is_running() for worker in workers)


def test_process_is_ended_in_the_middle_of_a_message(photos: Path, tmp_path: Path) -> None:
    """Its pipe is read to the end before it is closed, and nothing reads from it afterwards."""
    talks = "import pickle, sys\nwhile True: pickle.dump(('rows', 0, []), sys.stdout.buffer)"
    for _ in range(5):
        early = subprocess.Popen([sys.executable, "-c", talks], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        rows = _run(photos, tmp_path, DeadlyReader(str(photos)), early=early, actors=1, cpus_per_actor=1)
        assert next(rows) == []
        rows.close()  # type: ignore[attr-defined]  # it is a generator
        assert "answers" not in {thread.name for thread in threading.enumerate()}


def _workers(parent: int) -> list[psutil.Process]:
    return [
        child for child in psutil.Process(parent).children(recursive=True) if "local_worker" in str(child.cmdline())
    ]


def _start_and_wait(photos: Path, target: Path) -> subprocess.Popen[bytes]:
    """Start a batch; returns when it has written something."""
    process = subprocess.Popen(
        batch_command(photos, target, "--no-report"), env=batch_environment(), stdout=subprocess.DEVNULL
    )
    while not list(target.rglob("*.png")) and process.poll() is None:
        time.sleep(0.02)
    return process


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    target = tmp_path_factory.mktemp("undisturbed")
    assert run_batch_command(photos, target, "--no-report")[0] == 0
    return hashes_of(target)


def test_killed_worker_is_replaced(photos: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """After SIGKILL of the process that cuts out, the job goes on by itself, and the results are the same."""
    process = _start_and_wait(photos, tmp_path)
    workers = _workers(process.pid)
    assert workers and process.poll() is None
    for worker in workers:
        worker.kill()
    assert process.wait() == 0
    assert hashes_of(tmp_path) == undisturbed
    assert Counter(row["status"] for row in batch_rows(tmp_path).values()) == {"ok": PHOTOS}


def test_killed_job_goes_on_with_the_same_command(photos: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """After SIGKILL of the job its processes end by themselves, and another run does the rest."""
    process = _start_and_wait(photos, tmp_path)
    workers = _workers(process.pid)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert workers and not alive
    code, summary, told = run_batch_command(photos, tmp_path, "--no-report")
    assert code == 0, told
    assert summary["done"] == PHOTOS
    assert hashes_of(tmp_path) == undisturbed
