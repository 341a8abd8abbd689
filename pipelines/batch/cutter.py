"""The actor that does the work: it reads, cuts out, encodes and writes a few photos at a time, and reports on each."""

from __future__ import annotations

import errno
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from cutray.config import InputLimits
from cutray.errors import CutrayError, EngineError, InputError, OutputError, WeightsError
from cutray.imaging.encode import encode_image
from cutray.remover import BackgroundRemover, Removal
from pipelines.batch.forward import share_forward
from pipelines.batch.manifest import SCHEMA
from pipelines.batch.orders import Orders
from pipelines.batch.plan import mask_name
from pipelines.batch.storage import open_storage

HALTED, KEPT = "halted", "kept"  # told to the driver, never written down
_ANY_SIZE = InputLimits(max_bytes=1 << 36)
_JOB_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_FAULTS_IN_A_ROW = 3


class Cutter:
    """Cuts out the photos of a block. Each photo becomes one row, whatever happens to it."""

    def __init__(self, orders: Orders, ledger: Any, cpus: int, photos: int) -> None:
        """Remember the orders; the network is loaded with the first photo, where an error can be told.

        Args:
            orders: What to do.
            ledger: Actor that keeps account of crashes.
            cpus: Threads of the network, unless the settings say otherwise.
            photos: Photos in work at a time.
        """
        self._orders = orders
        self._ledger = ledger
        self._remover: BackgroundRemover | None = None
        self._halt: CutrayError | None = None
        self._faults = 0
        self._pool = ThreadPoolExecutor(photos, "photo")
        self._cpus = cpus

    def __call__(self, block: pa.Table) -> pa.Table:
        """Do a block of tasks and return their rows."""
        import ray

        tasks = block.to_pylist()
        crashes = ray.get(self._ledger.crashes.remote([task["key"] for task in tasks]), timeout=60)
        self._load()
        suspects = [task for task in tasks if crashes.get(task["key"])]
        others = [task for task in tasks if not crashes.get(task["key"])]
        # A photo that was in work when a process died is tried alone, so that no other is blamed for its crash.
        rows = [self._guarded(task, crashes[task["key"]]) for task in suspects]
        rows += self._pool.map(self._guarded, others)
        return pa.Table.from_pylist(rows, SCHEMA)

    def _load(self) -> None:
        """Load the network once."""
        if self._remover is not None or self._halt is not None:
            return
        import cv2

        cv2.setNumThreads(1)  # the photos are the parallel part
        values = self._orders.settings.model_dump()
        values["threads"] = values["threads"] or self._cpus
        try:
            remover = BackgroundRemover(values.pop("model"), **values)
            found = remover.segmenter.weights.sha256
            if found != self._orders.model_sha256:
                raise WeightsError(
                    got=f"the weights here have the hash {found[:16]}…",
                    allowed=f"{self._orders.model_sha256[:16]}…, as on the machine that started the job",
                    fix="give every machine the same file",
                )
            share_forward(remover, self._orders.settings.batch_size)
            self._remover = remover
        except CutrayError as error:
            self._halt = error

    def _guarded(self, task: dict[str, Any], crashes: int = 0) -> dict[str, Any]:
        """Do one photo and keep account of it, in case it takes the process down."""
        import ray

        if self._halt is not None:
            return self._row(task, HALTED, self._halt)
        if crashes >= self._orders.attempts:
            reason = f"the process died {crashes} times while it worked on this photo"
            return self._row(task, "failed", CutrayError(got=reason)) | {"code": "crashed"}
        ray.get(self._ledger.begin.remote(task["key"]), timeout=60)
        started = time.perf_counter()
        row = self._attempt(task)
        row["seconds"] = time.perf_counter() - started
        ray.get(self._ledger.end.remote(task["key"]), timeout=60)
        return row

    def _attempt(self, task: dict[str, Any]) -> dict[str, Any]:
        """Turn every way to fail into a row; what concerns the whole job halts it."""
        try:
            row = self._cut(task)
            self._faults = 0
            return row
        except CutrayError as error:
            self._faults += isinstance(error, EngineError)
            if _concerns_all(error) or self._faults >= _FAULTS_IN_A_ROW:
                self._halt = error
                return self._row(task, HALTED, error)
            return self._row(task, "failed", error)
        except Exception as error:
            # The outer edge of one photo: whatever a photo provokes is its own row, never the end of the job.
            unknown = CutrayError(got=f"{type(error).__name__}: {error}"[:500])
            return self._row(task, "failed", unknown) | {"code": "internal"}

    def _cut(self, task: dict[str, Any]) -> dict[str, Any]:
        """Read, recognise, cut out, write."""
        orders, remover = self._orders, self._remover
        assert remover is not None  # _load came first
        data = _read(orders, task["location"])
        digest = hashlib.sha256(data).hexdigest()
        row = self._row(task, "ok") | {"source_bytes": len(data), "source_sha256": digest}
        if digest == task["known_sha256"] and self._in_place(task):
            return row | {"status": KEPT}
        removal = remover.remove_background(data, format=orders.format)
        row |= _facts(removal)
        if not removal.report.subject_found and not orders.write_empty:
            return row | {"status": "no_subject", "code": "no_subject"}
        # The plan has made sure that the name is ours; a file there is what an earlier attempt left.
        orders.target.write(task["output"], removal.data, overwrite=True)
        row |= {"output_bytes": len(removal.data), "output_sha256": hashlib.sha256(removal.data).hexdigest()}
        if orders.masks is not None:
            mask = encode_image(removal.mask, "PNG")
            orders.masks.write(mask_name(task["output"]), mask, overwrite=True)
            row |= {"mask_bytes": len(mask), "mask_sha256": hashlib.sha256(mask).hexdigest()}
        return row

    def _in_place(self, task: dict[str, Any]) -> bool:
        """Whether the present result has the hash that it should have, or rightly is none."""
        wanted = task["known_output_sha256"]
        if wanted is None:
            return True
        try:
            data = self._orders.target.read(task["output"], _ANY_SIZE)
        except InputError:
            return False
        return bool(hashlib.sha256(data).hexdigest() == wanted)

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
            "model_sha256": self._orders.model_sha256,
            "settings_hash": self._orders.settings_hash,
            "finished_at": datetime.now(UTC),
        }


def _read(orders: Orders, location: str) -> bytes:
    """Read a photo from the source, or from an address of its own."""
    if "://" in location:
        folder, _, name = location.rpartition("/")
        return open_storage(folder).read(name, orders.settings)
    return orders.source.read(location, orders.settings)


def _facts(removal: Removal) -> dict[str, Any]:
    """Columns that come from the library's report."""
    report = removal.report
    return {
        "width_px": report.width_px,
        "height_px": report.height_px,
        "confidence": report.confidence,
        "area_fraction": report.area_fraction,
        "notes": list(report.notes),
        "engine": report.engine,
    }


def _concerns_all(error: CutrayError) -> bool:
    """Whether the next photo would fail for the same reason: a full disk, one that may only be read, a broken one."""
    return isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in _JOB_ERRNOS
