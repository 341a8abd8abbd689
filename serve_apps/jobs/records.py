"""What is written down about jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cutray.config import JobSettings
from cutray.errors import CutrayError


class JobState(StrEnum):
    """How a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Exit code of a process whose job another one still works on. Source: EX_TEMPFAIL of sysexits.h
BUSY = 75
ENDED = (JobState.FINISHED, JobState.FAILED, JobState.CANCELLED)


class QuotaError(CutrayError):
    """An API key has as much as it may."""

    code = "quota_exceeded"


class AbandonedError(CutrayError):
    """Nobody waits any more for a job that is being written down."""

    code = "deadline_exceeded"


@dataclass(frozen=True, slots=True)
class Quota:
    """What an API key has, and what it may have.

    Attributes:
        jobs: Jobs that have not ended.
        photos: Photos in these.
        size_bytes: Bytes of photos and results that are kept.
        settings: How much of each it may have.
    """

    jobs: int
    photos: int
    size_bytes: int
    settings: JobSettings

    def check(self, photos: int, size_bytes: int) -> None:
        """Refuse one more job that would be too much.

        Args:
            photos: Photos of the job.
            size_bytes: Bytes of these.

        Raises:
            QuotaError: The message says of what.
        """
        for what, has, more, most in (
            ("jobs that have not ended", self.jobs, 1, self.settings.jobs_per_key),
            ("photos in jobs that have not ended", self.photos, photos, self.settings.photos_per_key),
            ("bytes of photos and results", self.size_bytes, size_bytes, self.settings.bytes_per_key),
        ):
            if has + more > most:
                raise QuotaError(
                    got=f"{has} {what}, and {more} more", allowed=f"at most {most}", fix="wait, or purge jobs"
                )


@dataclass(frozen=True, slots=True)
class NewPhoto:
    """A photo of a job that is about to begin.

    Attributes:
        name: In the client's words, safe to show.
        file: What its result is called.
        source: Address that it is fetched from; empty if it came with the request.
    """

    name: str
    file: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is about to begin.

    Attributes:
        id: Its id.
        owner: Name of the API key.
        photos: Its photos, in order.
        size_bytes: Bytes of all photos that came with the request.
        options: Fields of ``CutOptions``, checked.
        request_hash: Hash of all that the client chose, to know a repeated request.
        idempotency_key: The client's name for the request, or None.
        webhook: Address to tell of the end, or empty.
        target: Address to write results to as well, or empty.
        model: Name of the model, or empty for the default one.
    """

    id: str
    owner: str
    photos: Sequence[NewPhoto]
    size_bytes: int
    options: Mapping[str, Any]
    request_hash: str
    idempotency_key: str | None = None
    webhook: str = ""
    target: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many photos of a job have which status, and when the job may be done.

    Attributes:
        counts: Number of photos by status.
        eta_s: Seconds until the job is done, as far as can be told; None when it has ended.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    eta_s: int | None = None
