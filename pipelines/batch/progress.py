"""Counts what comes back from the actors, and sums it up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cutray.config import BatchSettings
from pipelines.batch.manifest import PhotoStatus


@dataclass(slots=True)
class BatchProgress:
    """What a run has seen so far.

    Attributes:
        worked: Photos that came back from the actors.
        kept: Photos that were done before and are in place.
        failed: Failed photos, of earlier runs too.
        refined: Photos whose soft edges were solved from their own colours.
        halted: Why the job cannot go on.
        waiting: Rows that are not written down yet.
        kept_at_s: When rows were written down last, on the monotonic clock.
    """

    worked: int = 0
    kept: int = 0
    failed: int = 0
    refined: int = 0
    halted: str | None = None
    waiting: list[dict[str, Any]] = field(default_factory=list)
    kept_at_s: float = field(default_factory=time.monotonic)

    @property
    def refined_share(self) -> float:
        """Share of what came back, in [0, 1]."""
        return self.refined / self.worked if self.worked else 0.0


def count_row(row: dict[str, Any], earlier: Mapping[str, dict[str, Any]], progress: BatchProgress) -> None:
    """Take in one row."""
    status = row["status"]
    if status == PhotoStatus.HALTED:
        progress.halted = row["reason"]
        return
    progress.worked += 1
    if status == PhotoStatus.KEPT:
        progress.kept += 1
        fresh = {name: row[name] for name in ("source_bytes", "source_modified_ns", "finished_at")}
        progress.waiting.append(earlier[row["source"]] | fresh)
        return
    progress.failed += status == PhotoStatus.FAILED
    progress.refined += bool(row["refined"])
    progress.waiting.append(row)


def progress_line(progress: BatchProgress, total: int, elapsed_s: float) -> str:
    """One line for a log."""
    rate = progress.worked / elapsed_s
    left_s = (total - progress.worked) / rate if rate else float("nan")
    return (
        f"{progress.worked} of {total}, {rate:.1f} photos/s, {left_s:.0f} s left, {progress.failed} failed,"
        f" {progress.refined_share:.0%} with refined edges"
    )


def summarise_batch(
    batch_settings: BatchSettings,
    photos: int,
    rows: pa.Table,
    progress: BatchProgress,
    worked_s: float,
    elapsed_s: float,
) -> dict[str, Any]:
    """Collect what a program wants to know."""
    counts = {item["values"]: item["counts"] for item in pc.value_counts(rows.column("status")).to_pylist()}
    failed = counts.get(PhotoStatus.FAILED, 0)
    allowed = batch_settings.max_failures
    most = float(allowed[:-1]) / 100 * photos if allowed.endswith("%") else float(allowed)
    finished = (
        counts.get(PhotoStatus.OK, 0)
        + counts.get(PhotoStatus.NO_SUBJECT, 0)
        + counts.get(PhotoStatus.SKIPPED, 0)
        + failed
        == photos
    )
    return {
        "job": "batch",
        "ok": finished and failed <= most,
        "photos": photos,
        "done": counts.get(PhotoStatus.OK, 0),
        "no_subject": counts.get(PhotoStatus.NO_SUBJECT, 0),
        "skipped": counts.get(PhotoStatus.SKIPPED, 0),
        "failed": failed,
        "refined": pc.sum(rows.column("refined")).as_py() or 0,
        "worked": progress.worked,
        "kept": progress.kept,
        "photos_per_s": round(progress.worked / worked_s, 2) if worked_s else None,
        "seconds": round(elapsed_s, 1),
    }
