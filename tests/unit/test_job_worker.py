"""The model of a job: who chooses it, and which weights its photos are worked with."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from cutray.config import JobSettings
from serve_apps.jobs.records import JobState, NewJob, NewPhoto
from serve_apps.jobs.replies import job_body
from serve_apps.jobs.runner import JobRunner
from serve_apps.jobs.spool import Spool
from serve_apps.jobs.store import JobStore
from serve_apps.jobs.worker import JobWorker
from serve_apps.remover.schemas import AppArgs

OLD, NEW = (hashlib.sha256(data).hexdigest() for data in (b"weights", b"other weights"))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of weights; no model that lies on this machine is found."""
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path / "cutray"))
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"weights")
    return path


def begun(folder: Path, weights: Path, done: int) -> tuple[JobStore, JobWorker]:
    """Begin a job of two photos, of which some are done, and return what works on it."""
    settings = JobSettings(folder=str(folder / "state"))
    store, spool = JobStore(settings), Spool.of(settings.folder, "a")
    store.add(NewJob("a", "shop", [NewPhoto(f"{n}.jpg", f"{n}.png") for n in (1, 2)], 10, {}, "hash", model="mine"))
    for number in (1, 2):
        spool.write(spool.photo(number), [b"photo"])
    assert store.start("a", str(weights), OLD)
    rows: list[dict[str, Any]] = [{"number": 1, "status": "ok", "output": "000001.png", "details": {}}]
    store.record("a", rows[:done])
    return store, JobWorker("a", AppArgs(jobs=settings))


def told(store: JobStore) -> dict[str, Any]:
    """Return a job's status."""
    job = store.get("a")
    assert job is not None
    return job_body(job, store.progress(job))


def test_the_status_tells_the_model(tmp_path: Path, weights: Path) -> None:
    """Its name, without the path, and the hash of its weights."""
    store, worker = begun(tmp_path, weights, done=1)
    job = store.get("a")
    assert job is not None
    worker.settle_model(job)
    assert (told(store)["model"], told(store)["model_sha256"]) == ("mine", OLD)
    assert str(tmp_path) not in str(told(store))


def test_a_job_never_mixes_two_models(tmp_path: Path, weights: Path) -> None:
    """Other weights under the same name end a job of which photos are done: these stay, and the status says why."""
    store, worker = begun(tmp_path, weights, done=1)
    weights.write_bytes(b"other weights")
    assert worker.run() == 0
    status = told(store)
    assert (status["state"], status["done"], status["model_sha256"]) == (JobState.FAILED, 1, OLD)
    assert status["error"]["code"] == "model_changed"
    assert OLD in status["error"]["message"] and NEW in status["error"]["message"]
    assert [photo["status"] for photo in store.photos("a")] == ["ok", "pending"]


def test_other_weights_are_taken_before_the_first_photo(tmp_path: Path, weights: Path) -> None:
    """A job of which no photo is done is worked with the weights that are there, and the status names these."""
    store, worker = begun(tmp_path, weights, done=0)
    weights.write_bytes(b"other weights")
    job = store.get("a")
    assert job is not None
    worker.settle_model(job)
    assert (told(store)["state"], told(store)["model_sha256"]) == (JobState.RUNNING, NEW)


def test_a_model_that_is_not_served_any_more_fails_its_jobs_alone(tmp_path: Path) -> None:
    """The job says so and ends; one with a model that does not answer at the moment waits for it."""
    settings = JobSettings(folder=str(tmp_path))
    store = JobStore(settings)
    for job_id, model in (("a", "gone"), ("b", "")):
        store.add(NewJob(job_id, "shop", [NewPhoto("1.jpg", "1.png")], 10, {}, "hash", model=model))
    runner = JobRunner({"u2netp": None}, AppArgs(jobs=settings))  # nobody answers
    try:
        until = time.monotonic() + 60
        while (job := store.get("a")) and job["state"] == JobState.QUEUED and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        runner.stop()
    status = told(store)
    assert (status["state"], status["error"]["code"], status["model"]) == (JobState.FAILED, "unknown_model", "gone")
    waiting = store.get("b")
    assert waiting is not None and waiting["state"] == JobState.QUEUED
