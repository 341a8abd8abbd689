"""What becomes of a job: the model and the weights that its photos are worked with, and the error that it ends with."""

from __future__ import annotations

import hashlib
import http.server
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
import ray

from cutray.config import JobSettings
from serve_apps.jobs.records import JobState, NewJob, NewPhoto
from serve_apps.jobs.replies import job_body
from serve_apps.jobs.runner import JobRunner
from serve_apps.jobs.spool import Spool
from serve_apps.jobs.store import JobStore
from serve_apps.jobs.worker import JobWorker
from serve_apps.remover.schemas import AppArgs
from tests.http_servers import serving

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


def wait_while(store: JobStore, job_id: str, state: JobState) -> None:
    """Wait until a job is in another state."""
    until = time.monotonic() + 120
    while (job := store.get(job_id)) and job["state"] == state and time.monotonic() < until:
        time.sleep(0.1)


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
        wait_while(store, "a", JobState.QUEUED)
    finally:
        runner.stop()
    status = told(store)
    assert (status["state"], status["error"]["code"], status["model"]) == (JobState.FAILED, "unknown_model", "gone")
    waiting = store.get("b")
    assert waiting is not None and waiting["state"] == JobState.QUEUED


class _Refusing(http.server.BaseHTTPRequestHandler):
    """A bucket that lets nobody in."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def refusing_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lead the environment to a bucket that may not be written to."""
    pytest.importorskip("pyarrow.fs", reason="buckets are written through pyarrow")
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)) as running:
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
        place = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.server_port}", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**keys, **place}.items():
            monkeypatch.setenv(name, value)
        yield


def test_a_job_fails_with_the_error_that_did_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing_bucket: None
) -> None:
    """A target that refuses results is tried again; in the end the status says what it answered, and how often."""
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=""))  # no photo is left to do
    settings = JobSettings(folder=str(tmp_path), targets=("s3://shop/cutouts/",), max_attempts=2)
    store, spool = JobStore(settings), Spool.of(settings.folder, "a")
    store.add(NewJob("a", "shop", [NewPhoto("1.jpg", "1.png")], 10, {}, "hash", target="s3://shop/cutouts/"))
    spool.write(spool.results / "000001.png", [b"picture"])
    assert store.start("a", "mine", OLD)
    store.record("a", [{"number": 1, "status": "ok", "output": "000001.png", "details": {}}])
    runner = JobRunner({"mine": None}, AppArgs(jobs=settings))
    try:
        wait_while(store, "a", JobState.RUNNING)
    finally:
        runner.stop()
    status = told(store)
    assert (status["state"], status["error"]["code"]) == (JobState.FAILED, "not_writable")
    assert "cannot write '1.png'" in status["error"]["message"]
    assert "ended 2 times" in status["error"]["message"]
    assert spool.failure.is_file()


def test_a_process_that_could_say_nothing_fails_its_job_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier process has left is not taken for the error of one that was lost."""
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=""))
    settings = JobSettings(folder=str(tmp_path), max_attempts=2)
    store, spool = JobStore(settings), Spool.of(settings.folder, "a")
    store.add(NewJob("a", "shop", [NewPhoto("1.jpg", "1.png")], 10, {}, "hash"))
    spool.write(spool.failure, [b'{"code": "not_writable", "message": "Of an earlier process."}'])
    assert store.start("a", "mine", OLD)
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "nowhere"))  # the process ends before it can do anything
    runner = JobRunner({"mine": None}, AppArgs(jobs=settings))
    try:
        wait_while(store, "a", JobState.RUNNING)
    finally:
        runner.stop()
    error = {"code": "internal", "message": "Its process ended 2 times without a new photo."}
    assert told(store)["error"] == error


class Segmenter:
    """Stands where Serve's handle is: names its model, or does not answer in time."""

    def __init__(self, answer: tuple[str, str] | None) -> None:
        """Keep the answer; None is none."""
        self.answer, self.asked = answer, 0
        self.configured_model = self

    def remote(self) -> Segmenter:
        """Ask."""
        self.asked += 1
        return self

    def result(self, timeout_s: float) -> tuple[str, str]:
        """Answer."""
        assert timeout_s > 0
        if self.answer is None:
            time.sleep(0.5)
            raise TimeoutError
        return self.answer


def test_a_model_that_does_not_answer_is_asked_once_for_all_its_jobs(tmp_path: Path) -> None:
    """Jobs with another model wait for one answer that does not come, and not for one of each job before them."""
    settings = JobSettings(folder=str(tmp_path))
    store = JobStore(settings)
    for job_id, model in (("a", ""), ("b", "silent"), ("c", "silent"), ("d", "other")):
        store.add(NewJob(job_id, "shop", [NewPhoto("1.jpg", "1.png")], 10, {}, "hash", model=model))
    handles: dict[str, Any] = {"silent": Segmenter(None), "other": Segmenter(("mine", OLD))}
    runner = JobRunner(handles, AppArgs(jobs=settings))
    try:
        wait_while(store, "d", JobState.QUEUED)
    finally:
        runner.stop()
    assert handles["silent"].asked == handles["other"].asked == 1
    assert [job["state"] for job_id in "abcd" if (job := store.get(job_id))] == ["queued"] * 3 + ["running"]
