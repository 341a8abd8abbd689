"""What does the work of a batch: it reads, cuts out, encodes and writes a few photos at a time, and reports on each."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from threading import Lock
from typing import Any, cast

from cutray.config import RemoverSettings
from cutray.errors import ConfigError, CutrayError, EngineError, InputError, OptionError, OutputError, WeightsError
from cutray.freed_memory import keep_freed_memory
from cutray.hints_file import parse_hints
from cutray.imaging.encode import encode_image
from cutray.imaging.provenance import is_marked
from cutray.options import FormatName, PhotoOptions
from cutray.ordered import run_in_order
from cutray.remover import BackgroundRemover, Removal
from pipelines.batch.crash_tracker import CrashLog
from pipelines.batch.job import BatchJob
from pipelines.batch.manifest import SCHEMA, PhotoStatus
from pipelines.batch.memory import MemoryGate, photo_bytes
from pipelines.batch.names import mask_name, printable
from pipelines.batch.owned_files import LEFT_COLUMNS
from pipelines.batch.pool import Pool
from pipelines.batch.shards import HashingWriter, fill_shard, sample_names
from pipelines.batch.shared_engine import SharedEngine
from pipelines.batch.solo_gate import SoloGate
from pipelines.batch.sources import read_photo
from pipelines.batch.storage_base import Reader, Storage

_JOB_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_FAULTS_IN_A_ROW = 3
_MARK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class PhotoResult:
    """What became of one photo; its pictures are kept only where they go to a shard."""

    row: dict[str, Any]
    cutout: bytes | None = None
    mask: bytes | None = None


class BatchWorker:
    """Cuts out the photos of a block. Each photo becomes one row, whatever happens to it.

    Several blocks may be in work at a time, in threads: while the last photos of one are in work, those of the next
    begin. All blocks together have no more photos in work than one would.
    """

    def __init__(self, job: BatchJob, reader: Reader, crash_log: CrashLog, node: str, pool: Pool) -> None:
        """Remember the job; the network is loaded with the first block, where an error can be told.

        Args:
            job: What to do.
            reader: Reads the photos.
            crash_log: Is told which photos are in work.
            node: Name of the machine, for the rows.
            pool: Threads of the network, photos in work at a time, and what this process may hold.
        """
        if job.batch_settings.niceness and hasattr(os, "nice"):
            os.nice(job.batch_settings.niceness)
        self._job = job
        self._reader, self._target, self._masks = reader, job.target_storage, job.mask_storage
        self._crash_log, self._node = crash_log, node
        self._remover: BackgroundRemover | None = None
        self._loading = Lock()
        self._gate = SoloGate()
        self._halt: CutrayError | None = None
        self._faults = 0
        self._pool = ThreadPoolExecutor(pool.photos, "photo")
        self._ahead = 2 * pool.photos  # finished photos wait for a slow one before them, but not without a bound
        self._threads = pool.threads
        self._memory = MemoryGate(pool.memory_bytes)

    def run(self, tasks: Sequence[dict[str, Any]], crashes: Mapping[str, int]) -> Iterator[list[dict[str, Any]]]:
        """Do a block.

        Args:
            tasks: From ``PhotoTask.as_row``.
            crashes: How many times each photo was in work when a process died, where that is more than none.

        Yields:
            Rows of the manifest whose results are in place: one at a time, or those of a shard together.
        """
        with self._loading:
            self._load()
        if self._job.sink != "files":
            yield self._write_shard(tasks, crashes)
            return
        for done in self._results(tasks, crashes):
            yield [done.row]

    def _results(self, tasks: Sequence[dict[str, Any]], crashes: Mapping[str, int]) -> Iterator[PhotoResult]:
        """Yield what became of each photo, in order, while those after it are in work."""
        # A photo that was in work when a process died is tried alone, so that no other is blamed for its crash.
        tried = {task["key"]: self._run_solo(task, crashes[task["key"]]) for task in tasks if task["key"] in crashes}
        jobs = [
            partial(tried.pop, task["key"]) if task["key"] in tried else partial(self._run_shared, task)
            for task in tasks
        ]
        yield from run_in_order(self._pool, jobs, self._ahead)

    def _write_shard(self, tasks: Sequence[dict[str, Any]], crashes: Mapping[str, int]) -> list[dict[str, Any]]:
        """Write one file with the results of all tasks; nothing counts before the whole of it is in place."""
        job, output = self._job, tasks[0]["output"]
        if self._halt is None and (kept := self._keep_shard(tasks)):
            return kept
        names = {task["key"]: task["name"] for task in tasks}
        if job.sink == "webdataset":
            samples = sample_names(names.values())
            names = {key: samples[name] for key, name in names.items()}
        rows = []
        try:
            with self._target.create(output) as file:
                counted = HashingWriter(file)
                with fill_shard(job.sink, counted, ending=job.format.lower(), masks=job.shard_masks) as add:
                    for done in self._results(tasks, crashes):
                        if self._halt is not None:
                            raise self._halt
                        add(names[done.row["source"]], done.row, done.cutout, done.mask)
                        rows.append(done.row)
        except CutrayError as error:
            self._halt = self._halt or error
            return [self._row(task, PhotoStatus.HALTED, self._halt) for task in tasks]
        return [row | {"shard_bytes": counted.size_bytes, "shard_sha256": counted.sha256} for row in rows]

    def _keep_shard(self, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return rows that say so if no photo of a shard has changed and the shard is in place, else nothing."""
        if not all(task["known_sha256"] for task in tasks) or not self._in_place(tasks[0]):
            return []
        rows = []
        for task in tasks:
            try:
                data, hints = self._read(task)
            except InputError:
                return []
            if hashlib.sha256(data + hints).hexdigest() != task["known_sha256"]:
                return []
            rows.append(self._row(task, PhotoStatus.KEPT) | {"source_bytes": len(data) + len(hints)})
        return rows

    def _load(self) -> None:
        """Load the network once."""
        if self._remover is not None or self._halt is not None:
            return
        import cv2

        cv2.setNumThreads(1)  # the photos are the parallel part
        keep_freed_memory()
        threads = self._job.settings.threads or self._threads
        settings = self._job.settings.model_copy(update={"threads": threads, "streams": threads})
        try:
            remover = BackgroundRemover.from_settings(settings)
            found = remover.segmenter.weights.identity
            if found != self._job.model_sha256:
                raise WeightsError(
                    got=f"the network here has the hash {found[:16]}…",
                    allowed=f"{self._job.model_sha256[:16]}…, as on the machine that started the job",
                    fix="give every machine the same file, and the same description beside it",
                )
            engine = remover.segmenter.engine
            agreed = self._crash_log.agree(engine.precision)
            if agreed != engine.precision:
                raise ConfigError(
                    got=f"the fastest number format of this machine is {engine.precision}",
                    allowed=f"{agreed}, in which the job has begun: results must not depend on who made them",
                    fix=f"give --precision {agreed}, or one that all machines compute in",
                )
            if engine.device != "cpu":
                shared = SharedEngine(engine, self._job.settings.batch_size)
                remover.segmenter = replace(remover.segmenter, engine=shared)
            self._remover = remover
            self._memory = MemoryGate(self._memory.limit_bytes)  # the network always stays
        except CutrayError as error:
            self._halt = error

    def _run_solo(self, task: dict[str, Any], crashes: int) -> PhotoResult:
        """Do one photo that has been in work when a process died, as long as it has not been often."""
        if crashes >= self._job.batch_settings.max_crashes:
            reason = f"the process died {crashes} times while it worked on this photo"
            died = CutrayError(got=reason, fix="try the photo alone, with more memory")
            return PhotoResult(self._row(task, PhotoStatus.FAILED, died) | {"code": "crashed"})
        with self._gate.solo():
            return self._run_tracked(task)

    def _run_shared(self, task: dict[str, Any]) -> PhotoResult:
        """Do one photo while others are in work."""
        with self._gate.shared():
            return self._run_tracked(task)

    def _run_tracked(self, task: dict[str, Any]) -> PhotoResult:
        """Do one photo and keep account of it, in case it takes the process down."""
        if self._halt is not None:
            return PhotoResult(self._row(task, PhotoStatus.HALTED, self._halt))
        self._crash_log.begin(task["key"])
        started = time.perf_counter()
        done = self._attempt(task)
        done.row["seconds"] = time.perf_counter() - started
        self._crash_log.end(task["key"])
        return done

    def _attempt(self, task: dict[str, Any]) -> PhotoResult:
        """Turn every way to fail into a row; what concerns the whole job halts it."""
        try:
            done = self._remove(task)
            self._faults = 0
            return done
        except CutrayError as error:
            self._faults += isinstance(error, EngineError)
            if _stops_job(error) or self._faults >= _FAULTS_IN_A_ROW:
                self._halt = error
                return PhotoResult(self._row(task, PhotoStatus.HALTED, error))
            return PhotoResult(self._row(task, PhotoStatus.FAILED, error))
        except Exception as error:
            # The outer edge of one photo: whatever a photo provokes is its own row, never the end of the job.
            unknown = CutrayError(
                got=f"{type(error).__name__}: {error}"[:500], fix="report this, with the photo if you may"
            )
            return PhotoResult(self._row(task, PhotoStatus.FAILED, unknown) | {"code": "internal"})

    def _remove(self, task: dict[str, Any]) -> PhotoResult:
        """Read, recognise, cut out, write."""
        job = self._job
        data, hints = self._read(task)
        digest = hashlib.sha256(data + hints).hexdigest()
        row = self._row(task, PhotoStatus.OK) | {"source_bytes": len(data) + len(hints), "source_sha256": digest}
        if job.skip_results and is_marked(data[:_MARK_BYTES], data[-_MARK_BYTES:]):
            reason = "it was made by Cutray; a list takes it all the same"
            return PhotoResult(row | {"status": PhotoStatus.SKIPPED, "code": "own_result", "reason": reason})
        to_files = job.sink == "files"
        if to_files and digest == task["known_sha256"] and self._in_place(task):
            return PhotoResult(row | {"status": PhotoStatus.KEPT})
        options: PhotoOptions = _parse_hints(hints, task["hints"]) if hints else {}
        options["format"] = cast(FormatName, job.format.lower())
        with self._memory.room(photo_bytes(data, job.format)):
            return self._cut_out(task, data, options, row)

    def _cut_out(self, task: dict[str, Any], data: bytes, options: PhotoOptions, row: dict[str, Any]) -> PhotoResult:
        """Cut out, write, and complete the row."""
        job, remover = self._job, self._remover
        assert remover is not None  # _load came first
        removal = remover.remove_background(data, **options)
        row |= _report_columns(removal, job.settings)
        if not removal.report.subject_found and not job.allow_empty:
            self._remove_left(task)
            return PhotoResult(row | {"status": PhotoStatus.NO_SUBJECT, "code": "no_subject"})
        written = {"output_bytes": len(removal.data), "output_sha256": hashlib.sha256(removal.data).hexdigest()}
        row |= written
        mask = encode_image(removal.mask, "PNG") if self._masks or job.shard_masks else None
        if mask is not None:
            row |= {"mask_bytes": len(mask), "mask_sha256": hashlib.sha256(mask).hexdigest()}
        if job.sink != "files":
            return PhotoResult(row, removal.data, mask)
        # The plan has made sure that the name is ours; a file there is what an earlier attempt left.
        self._target.write(task["output"], removal.data, overwrite=True)
        task |= written  # it is ours even if its mask cannot be written
        if self._masks and mask is not None:
            self._masks.write(mask_name(task["output"]), mask, overwrite=True)
        return PhotoResult(row)

    def _read(self, task: dict[str, Any]) -> tuple[bytes, bytes]:
        """Read a photo, and the file with its hints if there is one."""
        settings = self._job.settings
        hints = self._reader.read(task["hints"], settings) if task["hints"] else b""
        return read_photo(self._reader, task["location"], settings), hints

    def _in_place(self, task: dict[str, Any]) -> bool:
        """Whether the present result has the hash that it should have, or rightly is none."""
        wanted = task["known_output_sha256"]
        return wanted is None or _hash_file(self._target, task["output"]) == wanted

    def _remove_left(self, task: dict[str, Any]) -> None:
        """Remove what other content of a photo has left, unless it is no longer as it was noted."""
        masks = [(self._masks, mask_name(task["output"]), task["mask_sha256"])] if self._masks else []
        for storage, name, noted in [(self._target, task["output"], task["output_sha256"]), *masks]:
            if noted is not None and _hash_file(storage, name) == noted:
                with suppress(OSError):  # another program may have it open
                    storage.delete(name)

    def _row(self, task: dict[str, Any], status: str, error: CutrayError | None = None) -> dict[str, Any]:
        """Begin a row with what is known of any photo."""
        return {
            **dict.fromkeys(SCHEMA.names),
            # What an earlier run has written stays our own while the photo fails.
            **({name: task[name] for name in LEFT_COLUMNS} if status == PhotoStatus.FAILED else {}),
            "source": task["key"],
            "output": task["output"],
            "status": status,
            "code": error.code if error else None,
            "reason": printable(str(error)) if error else None,
            "source_bytes": task["size_bytes"] if task["size_bytes"] >= 0 else None,
            "source_modified_ns": task["modified_ns"] if task["modified_ns"] >= 0 else None,
            "node": self._node,
            "model_sha256": self._job.model_sha256,
            "settings_hash": self._job.settings_hash,
            "finished_at": datetime.now(UTC),
        }


def _hash_file(storage: Storage, name: str) -> str | None:
    """Return the SHA-256 of a file, or None where it cannot be read."""
    try:
        with storage.open(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
    except (InputError, OSError):
        return None


def _parse_hints(data: bytes, name: str) -> PhotoOptions:
    """Read hints, which may name no other file: it need not be where the actor is."""
    told = parse_hints(data, name)
    if told.get("strokes"):
        raise OptionError(
            got=f"strokes in {name}",
            allowed="box, keep, drop, subjects and min_area in a batch",
            fix="give points instead",
        )
    return told


def _report_columns(removal: Removal, settings: RemoverSettings) -> dict[str, Any]:
    """Columns that come from the library's report."""
    report = removal.report
    return {
        "width_px": report.width_px,
        "height_px": report.height_px,
        "confidence": report.confidence,
        "area_fraction": report.area_fraction,
        "notes": list(report.notes),
        "refined": report.subject_found and settings.effort.edges != "soft",
        "edge_cases": list(report.edge_cases) if settings.edge_cases else None,
        "engine": report.engine,
    }


def _stops_job(error: CutrayError) -> bool:
    """Whether the next photo would fail for the same reason: a full disk, one that may only be read, a broken one."""
    return isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in _JOB_ERRNOS
