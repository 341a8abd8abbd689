"""What is written down about jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Progress:
    """How many photos of a job have which status, and when the job may be done.

    Attributes:
        counts: Number of photos by status.
        eta_s: Seconds until the job is done, as far as can be told; None when it has ended.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    eta_s: int | None = None
