"""The actor that does the work: it reads, cuts out, encodes and writes a few photos at a time, and reports on each."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from threading import Lock, Thread
from typing import Any

import pyarrow as pa

from cutray.config import RemoverSettings
from cutray.errors import ConfigError, CutrayError, EngineError, InputError, OutputError, WeightsError
from cutray.imaging.encode import encode_image
from cutray.remover import BackgroundRemover, Removal
from pipelines.batch.forward import SharedEngine
from pipelines.batch.manifest import SCHEMA
from pipelines.batch.orders import Orders
from pipelines.batch.plan import mask_name
from pipelines.batch.quarantine import Quarantine
from pipelines.batch.shards import CountedFile, fill_shard, sample_names
from pipelines.batch.sources import read_photo

HALTED, KEPT = "halted", "kept"  # told to the driver, never written down
_JOB_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_FAULTS_IN_A_ROW = 3
_LOOK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one photo; its pictures are kept only where they go to a shard."""

    row: dict[str, Any]
    cutout: bytes | None = None
    mask: bytes | None = None


class Cutter:
    """Cuts out the photos of a block. Each photo becomes one row, whatever happens to it.

    Ray gives it several blocks at a time, in threads: while the last photos of one are in work, those of the next
    begin. All blocks together have no more photos in work than one would.
    """

    def __init__(self, orders: Orders, ledger: Any, cpus: int, photos: int) -> None:
        """Remember the orders; the network is loaded with the first photo, where an error can be told.

        Args:
            orders: What to do.
            ledger: Actor that keeps account of crashes.
            cpus: Threads of the network, unless the settings say otherwise; each looks at a photo of its own.
            photos: Photos in work at a time.
        """
        import ray

        self._orders = orders
        self._ledger = ledger
        self._node = ray.get_runtime_context().get_node_id()[:12]
        Thread(target=_end_with, args=(os.getppid(),), name="parent", daemon=True).start()
        self._remover: BackgroundRemover | None = None
        self._loading = Lock()
        self._quarantine = Quarantine()
        self._halt: CutrayError | None = None
        self._faults = 0
        self._pool = ThreadPoolExecutor(photos, "photo")
        self._ahead = 2 * photos  # finished photos wait for a slow one before them, but not without a bound
        self._cpus = cpus

    def __call__(self, block: pa.Table) -> pa.Table:
        """Do a block of tasks and return their rows."""
        import ray

        tasks = block.to_pylist()
        crashes = ray.get(self._ledger.crashes.remote([task["key"] for task in tasks]), timeout=60)
        with self._loading:
            self._load()
        if self._orders.sink != "files":
            return pa.Table.from_pylist(self._shard(tasks, crashes), SCHEMA)
        return pa.Table.from_pylist([done.row for done in self._done(tasks, crashes)], SCHEMA)

    def _done(self, tasks: Sequence[dict[str, Any]], crashes: dict[str, int]) -> Iterator[Done]:
        """Yield what became of each photo, in order, while those after it are in work."""
        # A photo that was in work when a process died is tried alone, so that no other is blamed for its crash.
        tried = {task["key"]: self._suspect(task, crashes[task["key"]]) for task in tasks if task["key"] in crashes}
        jobs = [
            partial(tried.pop, task["key"]) if task["key"] in tried else partial(self._ordinary, task) for task in tasks
        ]
        yield from _in_order(self._pool, jobs, self._ahead)

    def _shard(self, tasks: Sequence[dict[str, Any]], crashes: dict[str, int]) -> list[dict[str, Any]]:
        """Write one file with the results of all tasks; nothing counts before the whole of it is in place."""
        orders, output = self._orders, tasks[0]["output"]
        if self._halt is None and (kept := self._kept_shard(tasks)):
            return kept
        names = {task["key"]: task["name"] for task in tasks}
        if orders.sink == "webdataset":
            samples = sample_names(names.values())
            names = {key: samples[name] for key, name in names.items()}
        rows = []
        try:
            with orders.target.create(output) as file:
                counted = CountedFile(file)
                with fill_shard(orders.sink, counted, ending=orders.format, masks=orders.shard_masks) as add:
                    for done in self._done(tasks, crashes):
                        if self._halt is not None:
                            raise self._halt
                        add(names[done.row["source"]], done.row, done.cutout, done.mask)
                        rows.append(done.row)
        except CutrayError as error:
            self._halt = self._halt or error
            return [self._row(task, HALTED, self._halt) for task in tasks]
        return [row | {"shard_bytes": counted.size_bytes, "shard_sha256": counted.sha256} for row in rows]

    def _kept_shard(self, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return rows that say so if no photo of a shard has changed and the shard is in place, else nothing."""
        if not all(task["known_sha256"] for task in tasks) or not self._in_place(tasks[0]):
            return []
        rows = []
        for task in tasks:
            try:
                data = read_photo(self._orders.source, task["location"], self._orders.settings)
            except InputError:
                return []
            if hashlib.sha256(data).hexdigest() != task["known_sha256"]:
                return []
            rows.append(self._row(task, KEPT) | {"source_bytes": len(data)})
        return rows

    def _load(self) -> None:
        """Load the network once."""
        if self._remover is not None or self._halt is not None:
            return
        import cv2
        import ray

        cv2.setNumThreads(1)  # the photos are the parallel part
        values = self._orders.settings.model_dump()
        values["threads"] = values["threads"] or self._cpus
        values["streams"] = values["threads"]
        try:
            remover = BackgroundRemover(values.pop("model"), **values)
            found = remover.segmenter.weights.sha256
            if found != self._orders.model_sha256:
                raise WeightsError(
                    got=f"the weights here have the hash {found[:16]}…",
                    allowed=f"{self._orders.model_sha256[:16]}…, as on the machine that started the job",
                    fix="give every machine the same file",
                )
            engine = remover.segmenter.engine
            agreed = ray.get(self._ledger.agree.remote(engine.precision), timeout=60)
            if agreed != engine.precision:
                raise ConfigError(
                    got=f"the fastest number format of this machine is {engine.precision}",
                    allowed=f"{agreed}, in which the job has begun: results must not depend on who made them",
                    fix=f"give --precision {agreed}, or one that all machines compute in",
                )
            if engine.device != "cpu":
                shared = SharedEngine(engine, self._orders.settings.batch_size)
                remover.segmenter = replace(remover.segmenter, engine=shared)
            self._remover = remover
        except CutrayError as error:
            self._halt = error

    def _suspect(self, task: dict[str, Any], crashes: int) -> Done:
        """Do one photo that has been in work when a process died, as long as it has not been often."""
        if crashes >= self._orders.attempts:
            reason = f"the process died {crashes} times while it worked on this photo"
            return Done(self._row(task, "failed", CutrayError(got=reason)) | {"code": "crashed"})
        with self._quarantine.alone():
            return self._guarded(task)

    def _ordinary(self, task: dict[str, Any]) -> Done:
        """Do one photo while others are in work."""
        with self._quarantine.among_others():
            return self._guarded(task)

    def _guarded(self, task: dict[str, Any]) -> Done:
        """Do one photo and keep account of it, in case it takes the process down."""
        import ray

        if self._halt is not None:
            return Done(self._row(task, HALTED, self._halt))
        ray.get(self._ledger.begin.remote(task["key"]), timeout=60)
        started = time.perf_counter()
        done = self._attempt(task)
        done.row["seconds"] = time.perf_counter() - started
        self._ledger.end.remote(task["key"])  # not waited for: if it is lost, the photo is tried alone once more
        return done

    def _attempt(self, task: dict[str, Any]) -> Done:
        """Turn every way to fail into a row; what concerns the whole job halts it."""
        try:
            done = self._cut(task)
            self._faults = 0
            return done
        except CutrayError as error:
            self._faults += isinstance(error, EngineError)
            if _concerns_all(error) or self._faults >= _FAULTS_IN_A_ROW:
                self._halt = error
                return Done(self._row(task, HALTED, error))
            return Done(self._row(task, "failed", error))
        except Exception as error:
            # The outer edge of one photo: whatever a photo provokes is its own row, never the end of the job.
            unknown = CutrayError(got=f"{type(error).__name__}: {error}"[:500])
            return Done(self._row(task, "failed", unknown) | {"code": "internal"})

    def _cut(self, task: dict[str, Any]) -> Done:
        """Read, recognise, cut out, write."""
        orders, remover = self._orders, self._remover
        assert remover is not None  # _load came first
        data = read_photo(orders.source, task["location"], orders.settings)
        digest = hashlib.sha256(data).hexdigest()
        row = self._row(task, "ok") | {"source_bytes": len(data), "source_sha256": digest}
        to_files = orders.sink == "files"
        if to_files and digest == task["known_sha256"] and self._in_place(task):
            return Done(row | {"status": KEPT})
        removal = remover.remove_background(data, format=orders.format)
        row |= _facts(removal, orders.settings)
        if not removal.report.subject_found and not orders.write_empty:
            return Done(row | {"status": "no_subject", "code": "no_subject"})
        row |= {"output_bytes": len(removal.data), "output_sha256": hashlib.sha256(removal.data).hexdigest()}
        mask = encode_image(removal.mask, "PNG") if orders.masks is not None or orders.shard_masks else None
        if mask is not None:
            row |= {"mask_bytes": len(mask), "mask_sha256": hashlib.sha256(mask).hexdigest()}
        if not to_files:
            return Done(row, removal.data, mask)
        # The plan has made sure that the name is ours; a file there is what an earlier attempt left.
        orders.target.write(task["output"], removal.data, overwrite=True)
        if orders.masks is not None and mask is not None:
            orders.masks.write(mask_name(task["output"]), mask, overwrite=True)
        return Done(row)

    def _in_place(self, task: dict[str, Any]) -> bool:
        """Whether the present result has the hash that it should have, or rightly is none."""
        wanted = task["known_output_sha256"]
        if wanted is None:
            return True
        try:
            with self._orders.target.open(task["output"]) as file:
                digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]  # it has readinto
            return bool(digest.hexdigest() == wanted)
        except (InputError, OSError):
            return False

    def _row(self, task: dict[str, Any], status: str, error: CutrayError | None = None) -> dict[str, Any]:
        """Begin a row with what is known of any photo."""
        return {
            "source": task["key"],
            "output": task["output"],
            "status": status,
            "code": error.code if error else None,
            "reason": str(error) if error else None,
            "source_bytes": task["size_bytes"] if task["size_bytes"] >= 0 else None,
            "source_modified_ns": task["modified_ns"] if task["modified_ns"] >= 0 else None,
            "node": self._node,
            "model_sha256": self._orders.model_sha256,
            "settings_hash": self._orders.settings_hash,
            "finished_at": datetime.now(UTC),
        }


def _end_with(parent: int) -> None:
    """End this process when Ray's has gone, whatever it is doing; nobody would ask for its results any more."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def _in_order(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], Done]], ahead: int) -> Iterator[Done]:
    """Yield results in the order of their jobs, with a limited number of them in work or waiting."""
    waiting: deque[Future[Done]] = deque()
    for job in jobs:
        waiting.append(pool.submit(job))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _facts(removal: Removal, settings: RemoverSettings) -> dict[str, Any]:
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


def _concerns_all(error: CutrayError) -> bool:
    """Whether the next photo would fail for the same reason: a full disk, one that may only be read, a broken one."""
    return isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in _JOB_ERRNOS
