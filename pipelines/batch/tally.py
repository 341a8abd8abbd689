"""Counts what comes back from the actors, and sums it up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cutray.config import BatchSettings
from pipelines.batch.cutter import HALTED, KEPT


@dataclass(slots=True)
class Tally:
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


def count_row(row: dict[str, Any], earlier: Mapping[str, dict[str, Any]], tally: Tally) -> None:
    """Take in one row."""
    status = row["status"]
    if status == HALTED:
        tally.halted = row["reason"]
        return
    tally.worked += 1
    if status == KEPT:
        tally.kept += 1
        fresh = {name: row[name] for name in ("source_bytes", "source_modified_ns", "finished_at")}
        tally.waiting.append(earlier[row["source"]] | fresh)
        return
    tally.failed += status == "failed"
    tally.refined += bool(row["refined"])
    tally.waiting.append(row)


def progress_line(tally: Tally, total: int, elapsed_s: float) -> str:
    """One line for a log."""
    rate = tally.worked / elapsed_s
    left_s = (total - tally.worked) / rate if rate else float("nan")
    return (
        f"{tally.worked} of {total}, {rate:.1f} photos/s, {left_s:.0f} s left, {tally.failed} failed,"
        f" {tally.refined_share:.0%} with refined edges"
    )


def summarise_batch(
    spread: BatchSettings, photos: int, rows: pa.Table, tally: Tally, worked_s: float, elapsed_s: float
) -> dict[str, Any]:
    """Collect what a program wants to know."""
    counts = {item["values"]: item["counts"] for item in pc.value_counts(rows.column("status")).to_pylist()}
    failed = counts.get("failed", 0)
    allowed = spread.max_failures
    most = float(allowed[:-1]) / 100 * photos if allowed.endswith("%") else float(allowed)
    finished = counts.get("ok", 0) + counts.get("no_subject", 0) + failed == photos
    return {
        "job": "batch",
        "ok": finished and failed <= most,
        "photos": photos,
        "done": counts.get("ok", 0),
        "no_subject": counts.get("no_subject", 0),
        "failed": failed,
        "refined": pc.sum(rows.column("refined")).as_py() or 0,
        "worked": tally.worked,
        "kept": tally.kept,
        "photos_per_s": round(tally.worked / worked_s, 2) if worked_s else None,
        "seconds": round(elapsed_s, 1),
    }
