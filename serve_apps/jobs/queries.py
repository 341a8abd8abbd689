"""Questions to the tables of jobs, within a transaction of the caller's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from cutray.config import JobSettings
from serve_apps.jobs.records import ENDED, JobState, NewJob, Quota
from serve_apps.jobs.tables import JOBS, OWNERS, PHOTOS

_GUESS_S = 1.0  # for a photo, as long as no job has shown how long one takes
_RECENT_JOBS = 5


def find_job(connection: sa.Connection, job_id: str, *, lock: bool = False) -> dict[str, Any] | None:
    """Return a job's row; with ``lock`` nobody else changes it before the transaction has ended."""
    query = sa.select(JOBS).where(JOBS.c.id == job_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return dict(row) if row else None


def lock_owner(connection: sa.Connection, owner: str) -> None:
    """Let one transaction at a time add jobs of an owner, so that two cannot share the last of a quota."""
    query = sa.select(OWNERS).where(OWNERS.c.name == owner).with_for_update()
    if connection.execute(query).first() is None:
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(OWNERS).values(name=owner))
        except sa.exc.IntegrityError:  # another one was first
            pass
        connection.execute(query)


def find_repeated(connection: sa.Connection, job: NewJob) -> dict[str, Any] | None:
    """Return the job that its owner has sent before under the same idempotency key; one that is over gives it up."""
    same = (JOBS.c.owner == job.owner, JOBS.c.idempotency_key == job.idempotency_key)
    over = sa.update(JOBS).where(*same, JOBS.c.expires_at <= time.time())
    connection.execute(over.values(idempotency_key=None))
    row = connection.execute(sa.select(JOBS).where(*same)).mappings().first()
    return dict(row) if row else None


def read_quota(connection: sa.Connection, owner: str, settings: JobSettings) -> Quota:
    """Return what an owner has, beside what it may have."""
    total, own = sa.func.coalesce, JOBS.c.owner == owner
    open_jobs = sa.select(sa.func.count(), total(sa.func.sum(JOBS.c.photos), 0)).where(own, JOBS.c.state.not_in(ENDED))
    jobs, photos = connection.execute(open_jobs).one()
    size_bytes = connection.execute(sa.select(total(sa.func.sum(JOBS.c.bytes), 0)).where(own)).scalar_one()
    return Quota(int(jobs), int(photos), int(size_bytes), settings)


def count_photos(connection: sa.Connection, job_id: str) -> dict[str, int]:
    """Return the number of a job's photos by status."""
    query = sa.select(PHOTOS.c.status, sa.func.count()).where(PHOTOS.c.job_id == job_id).group_by(PHOTOS.c.status)
    return {str(status): int(number) for status, number in connection.execute(query)}


def photos_ahead(connection: sa.Connection, job: Mapping[str, Any]) -> int:
    """Return how many photos are in jobs that come before one."""
    before = (JOBS.c.state.in_([JobState.QUEUED, JobState.RUNNING]), JOBS.c.created_at < job["created_at"])
    return int(
        connection.execute(sa.select(sa.func.coalesce(sa.func.sum(JOBS.c.photos), 0)).where(*before)).scalar_one()
    )


def seconds_per_photo(connection: sa.Connection) -> float:
    """Return how long a photo took in the jobs that finished last."""
    query = sa.select(JOBS.c.photos, JOBS.c.started_at, JOBS.c.finished_at).where(JOBS.c.state == JobState.FINISHED)
    last = connection.execute(query.order_by(JOBS.c.finished_at.desc()).limit(_RECENT_JOBS)).all()
    spent_s = sum(row.finished_at - row.started_at for row in last if row.started_at)
    photos = sum(row.photos for row in last if row.started_at)
    return spent_s / photos if photos else _GUESS_S
