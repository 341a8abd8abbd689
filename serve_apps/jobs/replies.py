"""How jobs are told: as JSON, as a webhook's body, and as a ZIP that is written while it is sent."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serve_apps.jobs.records import Progress
from serve_apps.remover.model_names import public_name

_BLOCK_BYTES = 1 << 18
_NO_COMPRESSION = 0  # results are compressed already


def job_body(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Describe a job without its photos.

    Args:
        job: Its row.
        progress: How its photos stand.
    """
    counts = progress.counts
    pending = counts.get("pending", 0)
    times = ("created_at", "started_at", "finished_at", "expires_at")
    return {
        "job_id": job["id"],
        "state": str(job["state"]),
        "photos": job["photos"],
        "done": counts.get("ok", 0),
        "no_subject": counts.get("no_subject", 0),
        "failed": counts.get("failed", 0),
        "progress": round(1 - pending / job["photos"], 4),
        "eta_s": progress.eta_s,
        "model": job["model_name"] or public_name(job["model"]) or None,
        "model_sha256": job["model_sha256"] or None,
        "options": job["options"],
        "webhook": job["webhook"] or None,
        "target": job["target"] or None,
        "error": job["error"],
        **{name: _moment(job[name]) for name in times},
    }


def event_body(job: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    """Describe the end of a job for a webhook."""
    return {"type": f"job.{job['state']}", "job": job_body(job, Progress(counts))}


def photo_body(photo: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """Describe one photo of a job."""
    body = {"number": photo["number"], "name": photo["name"], "status": photo["status"]}
    if photo["status"] == "ok":
        body["file"] = photo["file"]
        if job["target"]:
            body["url"] = target_url(job["target"], photo["file"])
    return {**body, **photo["details"]}


def target_url(target: str, file: str) -> str:
    """Return where a result is written besides the job's folder."""
    return f"{target.rstrip('/')}/{file}"


def stream_zip(files: Sequence[tuple[str, Path]], rows: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    """Write a ZIP while it is sent; it is never whole in memory or on disk.

    The size of an entry comes behind it, because the sink cannot go back. Readers that go forwards alone, such as the
    ZipInputStream of Java, find its end only if it is a deflate stream. So all are, without compression.

    Args:
        files: Name and path of each result.
        rows: What became of each photo, for ``results.json``.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=_NO_COMPRESSION) as archive:
        for name, path in files:
            with open(path, "rb") as file, archive.open(name, "w") as entry:
                while block := file.read(_BLOCK_BYTES):
                    entry.write(block)
                    yield sink.take()
        with archive.open("results.json", "w") as entry:
            entry.write(json.dumps(rows, indent=2).encode())
    yield sink.take()


class _Sink(io.RawIOBase):
    """Holds what was written until it is taken; cannot go back, and so makes ``zipfile`` write forwards alone."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        data = bytes(self._held)
        self._held.clear()
        return data


def _moment(at: float | None) -> str | None:
    """Write a time as ISO 8601 in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
