"""The process of one job: fetches what has to be fetched, runs the batch, writes results to their target.

python -m serve_apps.jobs.worker JOB_ID    settings come as one line of JSON; when the pipe ends, so does the process

This is the only module of the endpoint that uses the batch.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from cutray.config import BatchSettings, InputLimits, RemoverSettings, parse_settings
from cutray.errors import CutrayError, EngineError, ImageTooLargeError, InputError, OutputError
from cutray.file_lock import lock_file
from cutray.models.weights import resolve
from pipelines.batch.job import BatchJob
from pipelines.batch.manifest import Manifest
from pipelines.batch.run import run_batch
from pipelines.batch.sources import read_photo
from pipelines.batch.storage import open_storage
from serve_apps.jobs.addresses import FetchError, allow_lists, request
from serve_apps.jobs.database import DatabaseError
from serve_apps.jobs.records import BUSY, JobState
from serve_apps.jobs.replies import event_body, target_url
from serve_apps.jobs.spool import Spool, number_of
from serve_apps.jobs.store import JobStore
from serve_apps.remover.model_names import public_name
from serve_apps.remover.schemas import AppArgs

_PIPE = 0  # standard input
_FETCHERS, _WRITERS = 8, 8
_PHOTOS_PER_TASK = 8  # rows are written down after each, so a lost process costs no more than a few photos
_PASSING = (DatabaseError, EngineError, OutputError)  # another try may go well
_DONE = frozenset({"ok", "no_subject", "failed"})
_DETAILS = ("code", "reason", "width_px", "height_px", "confidence", "area_fraction", "notes", "edge_cases", "seconds")
_Item = TypeVar("_Item")


class ModelChangedError(CutrayError):
    """The weights of a job's model are not those that it began with."""

    code = "model_changed"


class JobWorker:
    """Works on one job, from wherever an earlier process has left it."""

    def __init__(self, job_id: str, args: AppArgs) -> None:
        """Open the store."""
        self._settings, self._args = args.jobs, args
        self._store = JobStore(self._settings)
        self._spool = Spool.of(self._settings.folder, job_id)
        self._job_id = job_id
        self._sources, self._target_list, _ = allow_lists(self._settings)
        self._fetched_bytes = 0

    def run(self) -> int:
        """Do the job; returns the exit code."""
        with open(self._spool.lock, "wb") as lock:
            if lock_file(lock, wait=False) is False:
                return BUSY
            job = self._store.get(self._job_id)
            if job is None or job["state"] != JobState.RUNNING:
                return 0
            try:
                self._do(job)
                self._end(JobState.FINISHED)
            except _PASSING as error:
                print(error, file=sys.stderr)  # noqa: T201 (goes to the job's log)
                self._tell_runner(error)
                return 1
            except CutrayError as error:
                self._end(JobState.FAILED, {"code": error.code, "message": str(error)})
        return 0

    def _do(self, job: Mapping[str, Any]) -> None:
        """Go through the stages; each leaves alone what is done."""
        photos = self._store.photos(self._job_id)
        self._fetch([photo for photo in photos if photo["source"] and photo["status"] == "pending"])
        if any(self._spool.input.glob("*")):
            self._record_manifest()  # an earlier process may have ended between the two
            self.settle_model(job)
            run_batch(self._batch(job), self._record)
            self._record_manifest()
        if job["target"]:
            self._deliver(job)

    def _record_manifest(self) -> None:
        """Write down all that the batch knows of photos."""
        self._record(Manifest(open_storage(str(self._spool.results))).table().to_pylist())

    def settle_model(self, job: Mapping[str, Any]) -> None:
        """Work on all photos with one model: other weights are taken only while no photo is done.

        Raises:
            ModelChangedError: Some are done.
            WeightsError: The model is not to be had.
        """
        identity = resolve(job["model"], offline=self._args.engine.offline).identity
        if identity == job["model_sha256"]:
            return
        counts = self._store.counts(self._job_id)
        if job["model_sha256"] and (done := counts.get("ok", 0) + counts.get("no_subject", 0)):
            raise ModelChangedError(
                got=f"the model {public_name(job['model'])} has other weights now (SHA-256 {identity}) than those that "
                f"{done} photos are done with ({job['model_sha256']})",
                fix="fetch the results that are there, and send the other photos as another job",
            )
        self._store.set_model_hash(self._job_id, identity)

    def _batch(self, job: Mapping[str, Any]) -> BatchJob:
        """Describe the batch: options of the request, engine and limits of the endpoint."""
        limits = {"max_bytes": self._args.limits.max_image_bytes, "max_megapixels": self._args.limits.max_megapixels}
        chosen = {**self._args.engine.model_dump(), **job["options"], **limits, "model": job["model"]}
        if self._spool.background.is_file():
            chosen["background"] = str(self._spool.background)
        spread = {
            "address": os.environ["RAY_ADDRESS"],
            "photos_per_task": _PHOTOS_PER_TASK,
            "max_failures": "100%",
            **self._settings.model_dump(include={"actors", "cpus_per_actor", "gpus_per_actor", "niceness"}),
        }
        return BatchJob(
            self._spool.pattern,
            str(self._spool.results),
            parse_settings(RemoverSettings, chosen),
            parse_settings(BatchSettings, spread),
            report=False,
            on_ray=True,
        )

    def _record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write down what the batch says of photos."""
        self._store.record(self._job_id, [_row_of(row) for row in rows if row["status"] in _DONE])

    def _fetch(self, photos: Sequence[Mapping[str, Any]]) -> None:
        """Fetch photos that are not here; one that cannot be fetched fails alone."""
        limits = InputLimits(max_bytes=self._args.limits.max_image_bytes)
        missing = [photo for photo in photos if not self._spool.photo(photo["number"]).is_file()]
        failed = _side_by_side(_FETCHERS, missing, partial(self._fetch_one, limits=limits))
        self._store.record(self._job_id, [row for row in failed if row])

    def _fetch_one(self, photo: Mapping[str, Any], limits: InputLimits) -> dict[str, Any] | None:
        """Fetch one photo; returns a row if that failed."""
        try:
            address = self._sources.check(photo["source"])
            if address.scheme == "s3":
                data = self._read_object(photo["source"], limits)
            else:
                status, data = request(
                    "GET",
                    address,
                    private=self._settings.private_addresses,
                    timeout_s=self._settings.fetch_timeout_s,
                    max_bytes=limits.max_bytes,
                )
                if status != 200:
                    raise FetchError(got=f"{address.netloc} answered with {status}", allowed="200, without a redirect")
            self._fetched_bytes += len(data)
            if self._fetched_bytes > self._settings.max_job_bytes:
                raise FetchError(got=f"photos of more than {self._settings.max_job_bytes} bytes", fix="send fewer")
        except InputError as error:
            details = {"code": error.code, "message": str(error)}
            return {"number": photo["number"], "status": "failed", "output": "", "details": details}
        self._spool.write(self._spool.photo(photo["number"]), [data])
        return None

    def _read_object(self, source: str, limits: InputLimits) -> bytes:
        """Read a photo of a bucket."""
        try:
            return read_photo(open_storage(str(self._spool.input)), source, limits)
        except ImageTooLargeError:
            raise
        except InputError as error:
            raise FetchError(error.got, error.allowed, error.fix) from error

    def _deliver(self, job: Mapping[str, Any]) -> None:
        """Write results to the target; an object there is whole or not there, and the same one when written again."""
        self._target_list.check(job["target"])
        target, results = open_storage(job["target"].rstrip("/")), self._spool.results

        def write(photo: Mapping[str, Any]) -> None:
            target.write(photo["file"], (results / photo["output"]).read_bytes(), overwrite=True)

        done = [photo for photo in self._store.photos(self._job_id) if photo["output"]]
        _side_by_side(_WRITERS, done, write)
        print(f"{len(done)} results are in {target_url(job['target'], '')}", file=sys.stderr)  # noqa: T201

    def _tell_runner(self, error: CutrayError) -> None:
        """Leave an error that may pass for the runner: where it does not, it is that of the job."""
        message = str(error).replace(f"{self._spool.folder}/", "")  # where it lies concerns no client
        told = json.dumps({"code": error.code, "message": message})
        with contextlib.suppress(OSError):  # a full disk may be the very error
            self._spool.write(self._spool.failure, [told.encode()])

    def _end(self, state: JobState, error: Mapping[str, str] | None = None) -> None:
        """End the job, then delete what came from the client."""
        size_bytes = self._spool.size_bytes()
        self._store.finish(self._job_id, state, event_body, error=error, size_bytes=size_bytes)
        self._spool.drop_input()


def _row_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a row of the manifest into what is told of a photo."""
    details = {name: row[name] for name in _DETAILS if row[name] is not None}
    if "reason" in details:
        details["message"] = details.pop("reason")
    output = row["output"] if row["status"] == "ok" else ""
    return {"number": number_of(row["source"]), "status": row["status"], "output": output, "details": details}


def _side_by_side(threads: int, items: Iterable[_Item], work: Callable[[_Item], Any]) -> list[Any]:
    """Do the same with many things, several at a time."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def _end_with_pipe() -> None:
    """End this process when the runner has gone: nothing more comes through the pipe until then."""
    while os.read(_PIPE, 1):  # not through sys.stdin, whose lock would be held when this process ends by itself
        pass
    os._exit(1)


def main(job_id: str) -> int:
    """Do a job; returns the exit code."""
    with open(_PIPE, "rb", closefd=False) as pipe:
        told = json.loads(pipe.readline())
    threading.Thread(target=_end_with_pipe, name="pipe", daemon=True).start()
    return JobWorker(job_id, parse_settings(AppArgs, told)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
