"""The JobRunner replica: starts a process for each job, ends it on request, sends webhooks, deletes what is over.

All that it knows is in the store, so that its successor goes on where it was. A job's process reads a pipe from the
runner and ends with it; a lock on the job's folder keeps a second one out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.serve.handle import DeploymentHandle

from cutray.errors import CutrayError
from serve_apps.jobs.metrics import JobMetrics
from serve_apps.jobs.records import BUSY, ENDED, JobState
from serve_apps.jobs.replies import event_body
from serve_apps.jobs.spool import Spool
from serve_apps.jobs.store import JobStore
from serve_apps.jobs.webhooks import WebhookSender
from serve_apps.remover.schemas import AppArgs

_LOG = logging.getLogger("ray.serve")
_TICK_S, _SWEEP_S, _TELL_S = 0.3, 60.0, 3.0
_ORPHAN_S = 3600.0
_MODEL_TIMEOUT_S, _MODEL_PAUSE_S = 10.0, 5.0
_SENDERS = 4
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class _Run:
    """A process that works on a job."""

    process: subprocess.Popen[bytes]
    seen: dict[str, int] = field(default_factory=dict)
    pending: int = 0


class JobRunner:
    """Runs the jobs of an endpoint. There is one replica."""

    def __init__(self, segmenters: Mapping[str, DeploymentHandle], args: AppArgs) -> None:
        """Go on with what was there, in a thread of its own.

        Args:
            segmenters: Say what runs under the name of each model, the default first.
            args: Settings of jobs, engine and limits.
        """
        self._segmenters, self._args, self._settings = segmenters, args, args.jobs
        self._store = JobStore(self._settings)
        self._sender = WebhookSender(self._settings, self._store)
        self._metrics = JobMetrics()
        self._runs: dict[str, _Run] = {}
        self._not_before: dict[str, float] = {}  # of jobs
        self._model_not_before: dict[str, float] = {}  # of models, by the names of their Segmenters
        self._sending: dict[str, Future[str]] = {}
        self._senders = ThreadPoolExecutor(_SENDERS, "webhook")
        self._swept_at = self._told_at = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Raise once the thread has ended; Serve then replaces the replica."""
        if not self._thread.is_alive():
            raise CutrayError(got="the thread that runs jobs has ended", fix="see its log")

    def stop(self) -> None:
        """Look after nothing any more; processes of jobs end with this one, and go on with the next runner."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        """Look at everything again and again; what fails, as while a database is away, keeps nothing else from it."""
        steps = (self._look_at_runs, self._stop_cancelled, self._start_jobs, self._send_events, self._tell, self._sweep)
        while not self._stopped.wait(_TICK_S):
            for step in steps:
                try:
                    step()
                except Exception as error:  # the outer edge of the thread: whatever it is, jobs go on
                    _LOG.error("looking after jobs failed: %s", type(error).__name__, exc_info=True)
                    self._stopped.wait(1.0)

    def _look_at_runs(self) -> None:
        """Count what processes have done, and see which have ended."""
        for job_id, run in list(self._runs.items()):
            self._count(job_id, run)
            if (code := run.process.poll()) is not None:
                del self._runs[job_id]
                self._ended(job_id, run, code)

    def _stop_cancelled(self) -> None:
        """Stop jobs that are to be stopped."""
        for job_id in self._store.cancelling():
            self._stop(job_id)

    def _tell(self) -> None:
        """Tell metrics of the jobs there are, now and then."""
        if time.monotonic() - self._told_at > _TELL_S:
            self._told_at = time.monotonic()
            self._metrics.tell(*self._store.counts_by_state())

    def _start_jobs(self) -> None:
        """Start processes for jobs that wait, as many as there may be."""
        for job in self._store.startable():
            if len(self._runs) >= self._settings.max_running:
                return
            if job["id"] in self._runs or time.monotonic() < self._not_before.get(job["id"], 0.0):
                continue
            if job["state"] == JobState.QUEUED and not self._begin(job):
                continue
            self._runs[job["id"]] = _Run(self._start(job["id"]), pending=self._pending(job["id"]))

    def _begin(self, job: Mapping[str, Any]) -> bool:
        """Let a queued job begin with the model that runs now; returns False if it cannot, or not yet."""
        name = job["model_name"] or next(iter(self._segmenters))
        if name not in self._segmenters:
            told = {"code": "unknown_model", "message": f"The model {name} is not served any more."}
            self._store.finish(job["id"], JobState.FAILED, event_body, error=told)
            Spool.of(self._settings.folder, job["id"]).drop_input()
            return False
        if time.monotonic() < self._model_not_before.get(name, 0.0):
            return False
        try:
            model, sha256 = self._segmenters[name].configured_model.remote().result(timeout_s=_MODEL_TIMEOUT_S)
        except Exception as error:  # a Segmenter that is lost comes back; jobs with other models need not wait for it
            _LOG.warning("the model of job %s is not there: %s", job["id"], type(error).__name__)
            self._model_not_before[name] = time.monotonic() + _MODEL_PAUSE_S
            return False
        return self._store.start(job["id"], str(model), str(sha256))

    def _start(self, job_id: str) -> subprocess.Popen[bytes]:
        """Start the process of a job; what it needs to know goes through the pipe that it watches."""
        address = ray.get_runtime_context().gcs_address
        environment = {**os.environ, "RAY_ADDRESS": address}
        spool = Spool.of(self._settings.folder, job_id)
        spool.folder.mkdir(parents=True, exist_ok=True)
        spool.failure.unlink(missing_ok=True)  # that of an earlier process says nothing of this one
        with open(spool.log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "serve_apps.jobs.worker", job_id],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=spool.folder,
            )
        assert process.stdin is not None  # noqa: S101 (for the type checker)
        told = self._args.model_dump(mode="json", include={"jobs", "engine", "limits"})
        try:
            process.stdin.write(json.dumps(told).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:  # it has ended already, which the next look tells
            pass
        return process

    def _ended(self, job_id: str, run: _Run, code: int) -> None:
        """Decide what becomes of a job whose process has ended."""
        job = self._store.get(job_id)
        if job is not None and job["state"] in ENDED:
            Spool.of(self._settings.folder, job_id).drop_input()  # the process may have died before it could
        if job is None or job["state"] in ENDED or job["state"] == JobState.CANCELLING:
            return
        if code == BUSY:
            self._not_before[job_id] = time.monotonic() + 1.0
            return
        self._metrics.attempts.inc()
        attempts = 1 if self._pending(job_id) < run.pending else job["attempts"] + 1
        self._store.set_attempts(job_id, attempts)
        _LOG.warning("the process of job %s ended with %d, try %d", job_id, code, attempts)
        if attempts >= self._settings.max_attempts:
            spool = Spool.of(self._settings.folder, job_id)
            self._store.finish(job_id, JobState.FAILED, event_body, error=_error_of(spool, attempts))
            spool.drop_input()
            return
        self._not_before[job_id] = time.monotonic() + min(_LONGEST_PAUSE_S, 2.0 ** (attempts - 1))

    def _stop(self, job_id: str) -> None:
        """End a job that was cancelled; its process first, so that nothing is written any more."""
        run = self._runs.pop(job_id, None)
        if run is not None:
            run.process.kill()
            run.process.wait()
        spool = Spool.of(self._settings.folder, job_id)
        self._store.finish(job_id, JobState.CANCELLED, event_body, size_bytes=spool.size_bytes())
        spool.drop_input()

    def _count(self, job_id: str, run: _Run) -> None:
        """Count the photos that were done since the last look."""
        counts = self._store.counts(job_id)
        for status in ("ok", "no_subject", "failed"):
            if (more := counts.get(status, 0) - run.seen.get(status, counts.get(status, 0) if not run.seen else 0)) > 0:
                self._metrics.photos.inc(more, {"status": status})
        run.seen = counts

    def _pending(self, job_id: str) -> int:
        """Return how many photos of a job are not done."""
        return self._store.counts(job_id).get("pending", 0)

    def _send_events(self) -> None:
        """Send what is due, a few at a time; one event is never sent by two threads."""
        for event_id, future in list(self._sending.items()):
            if future.done():
                del self._sending[event_id]
                outcome = "error" if future.exception() else future.result()
                self._metrics.webhooks.inc(1, {"outcome": outcome})
        for event in self._store.due_events():
            if event["id"] not in self._sending and len(self._sending) < _SENDERS:
                self._sending[event["id"]] = self._senders.submit(self._sender.send, event)

    def _sweep(self) -> None:
        """Delete jobs whose time is over, and folders of requests that were never written down, now and then."""
        if time.monotonic() - self._swept_at < _SWEEP_S:
            return
        self._swept_at = time.monotonic()
        for job_id in self._store.expired():
            Spool.of(self._settings.folder, job_id).drop()
            self._store.delete(job_id)
        root = Path(self._settings.folder, "jobs")
        for folder in root.iterdir() if root.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # an Ingress may drop it, too
                old = time.time() - folder.stat().st_mtime > _ORPHAN_S
                if old and not self._store.knows(folder.name):
                    Spool(folder).drop()


def _error_of(spool: Spool, attempts: int) -> dict[str, str]:
    """Return what a job fails with whose process has ended too often: the last error, where the process could tell."""
    told = {"code": "internal", "message": ""}
    with contextlib.suppress(OSError, ValueError):
        told = json.loads(spool.failure.read_bytes())
    why = f"Its process ended {attempts} times without a new photo."
    return {"code": told["code"], "message": f"{told['message']} {why}".strip()}
