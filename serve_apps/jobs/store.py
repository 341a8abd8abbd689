"""The state of jobs: each change is one transaction, so that a killed process leaves it as it was or as it is to be."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from cutray.config import JobSettings
from serve_apps.jobs.database import PATIENT_S, Database
from serve_apps.jobs.queries import (
    count_photos,
    find_job,
    find_repeated,
    lock_owner,
    photos_ahead,
    read_quota,
    seconds_per_photo,
)
from serve_apps.jobs.records import ENDED, JobState, NewJob, Progress, Quota
from serve_apps.jobs.tables import EVENTS, JOBS, PHOTOS

# Takes a job's row and the numbers of its photos by status, returns what a webhook tells.
BodyOf = Callable[[Mapping[str, Any], Mapping[str, int]], Mapping[str, Any]]
_START_S = 10.0  # until the first photo of a job is in work


class JobStore:
    """All jobs. Objects may be shared by threads; processes open their own."""

    def __init__(self, settings: JobSettings, wait_s: float = PATIENT_S) -> None:
        """Keep the settings; the database is opened when it is first needed.

        Args:
            settings: Folder, database and quotas.
            wait_s: Longest time to wait for a database that is busy; every method raises ``DatabaseError`` then.
        """
        self._settings = settings
        self._database = Database(settings, wait_s)

    def quota_of(self, owner: str, idempotency_key: str | None = None) -> Quota | None:
        """Return what an owner has and may have; None where a job under this idempotency key is there already."""
        alive = sa.or_(JOBS.c.expires_at.is_(None), JOBS.c.expires_at > time.time())
        same = sa.select(JOBS.c.id).where(JOBS.c.owner == owner, JOBS.c.idempotency_key == idempotency_key, alive)
        with self._database.reading() as connection:
            if idempotency_key is not None and connection.execute(same).first():
                return None
            return read_quota(connection, owner, self._settings)

    def add(self, job: NewJob, check_wanted: Callable[[], None] = lambda: None) -> tuple[dict[str, Any], bool]:
        """Write a job down.

        Args:
            job: The job.
            check_wanted: Raises if nobody waits for it any more; nothing is written then.

        Returns:
            The job, and whether it had been written down before under the same idempotency key.

        Raises:
            QuotaError: Its owner has as much as it may.
        """
        with self._database.writing() as connection:
            lock_owner(connection, job.owner)
            if job.idempotency_key is not None and (known := find_repeated(connection, job)):
                return known, True
            read_quota(connection, job.owner, self._settings).check(len(job.photos), job.size_bytes)
            row = {
                "id": job.id,
                "owner": job.owner,
                "state": JobState.QUEUED,
                "photos": len(job.photos),
                "bytes": job.size_bytes,
                "options": dict(job.options),
                "model_name": job.model,
                "webhook": job.webhook,
                "target": job.target,
                "idempotency_key": job.idempotency_key,
                "request_hash": job.request_hash,
                "created_at": time.time(),
            }
            connection.execute(sa.insert(JOBS).values(**row))
            photos = [
                {"job_id": job.id, "number": number, "name": photo.name, "file": photo.file, "source": photo.source}
                | {"status": "pending", "details": {}}
                for number, photo in enumerate(job.photos, 1)
            ]
            connection.execute(sa.insert(PHOTOS), photos)
            check_wanted()  # it may have waited long for others who write
            return find_job(connection, job.id) or row, False

    def withdraw(self, job_id: str) -> bool:
        """Forget a job that has not begun; one that has is to be stopped, and nobody is told.

        Returns:
            Whether it is forgotten.
        """
        with self._database.writing() as connection:
            row = find_job(connection, job_id, lock=True)
            if row is not None and row["state"] == JobState.RUNNING:
                values = {"state": JobState.CANCELLING, "webhook": ""}
                connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(**values))
            if row is None or row["state"] != JobState.QUEUED:
                return False
            for table, column in ((PHOTOS, PHOTOS.c.job_id), (JOBS, JOBS.c.id)):
                connection.execute(sa.delete(table).where(column == job_id))
        return True

    def get(self, job_id: str, owner: str | None = None) -> dict[str, Any] | None:
        """Return a job that has not expired; with an owner, only one of its own."""
        with self._database.reading() as connection:
            row = find_job(connection, job_id)
        if row is None or (owner is not None and row["owner"] != owner):
            return None
        return None if row["expires_at"] is not None and row["expires_at"] <= time.time() else row

    def list_jobs(self, owner: str, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return jobs of an owner, the newest first."""
        alive = sa.or_(JOBS.c.expires_at.is_(None), JOBS.c.expires_at > time.time())
        query = sa.select(JOBS).where(JOBS.c.owner == owner, alive).order_by(JOBS.c.created_at.desc(), JOBS.c.id)
        return self._all(query.offset(offset).limit(limit))

    def photos(self, job_id: str, offset: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Return photos of a job, in order."""
        query = sa.select(PHOTOS).where(PHOTOS.c.job_id == job_id).order_by(PHOTOS.c.number)
        return self._all(query.offset(offset).limit(limit))

    def photo(self, job_id: str, file: str) -> dict[str, Any] | None:
        """Return the photo whose result has this name."""
        return next(iter(self._all(sa.select(PHOTOS).where(PHOTOS.c.job_id == job_id, PHOTOS.c.file == file))), None)

    def progress(self, job: Mapping[str, Any]) -> Progress:
        """Count a job's photos, and estimate when it is done."""
        with self._database.reading() as connection:
            counts = count_photos(connection, job["id"])
            if job["state"] in ENDED:
                return Progress(counts)
            per_photo_s = seconds_per_photo(connection)
            waiting = counts.get("pending", 0)
            if job["state"] == JobState.QUEUED:
                waiting += photos_ahead(connection, job)
        return Progress(counts, round(_START_S * (job["state"] == JobState.QUEUED) + waiting * per_photo_s))

    def record(self, job_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write down what became of photos; to do it twice changes nothing.

        Args:
            job_id: The job.
            rows: ``number``, ``status``, ``output`` and ``details`` of each.
        """
        values = [{f"_{name}": value for name, value in row.items()} for row in rows]
        if not values:
            return
        change = (
            sa.update(PHOTOS)
            .where(PHOTOS.c.job_id == job_id, PHOTOS.c.number == sa.bindparam("_number"))
            .values({name: sa.bindparam(f"_{name}") for name in ("status", "output", "details")})
        )
        with self._database.writing() as connection:
            connection.execute(change, values)

    def startable(self) -> list[dict[str, Any]]:
        """Return jobs to run: those that had begun, then those whose owner has the fewest running, then by age."""
        states = [JobState.RUNNING, JobState.QUEUED]
        jobs = self._all(sa.select(JOBS).where(JOBS.c.state.in_(states)).order_by(JOBS.c.created_at, JOBS.c.id))
        running = [job["owner"] for job in jobs if job["state"] == JobState.RUNNING]
        return sorted(jobs, key=lambda job: (job["state"] == JobState.QUEUED, running.count(job["owner"])))

    def start(self, job_id: str, model: str, sha256: str = "") -> bool:
        """Let a queued job begin with a model; returns False if it has been cancelled meanwhile.

        Args:
            job_id: The job.
            model: Address of the model.
            sha256: Identity of its network.
        """
        values = {"state": JobState.RUNNING, "model": model, "model_sha256": sha256, "started_at": time.time()}
        change = sa.update(JOBS).where(JOBS.c.id == job_id, JOBS.c.state == JobState.QUEUED).values(**values)
        with self._database.writing() as connection:
            return connection.execute(change).rowcount == 1

    def set_model_hash(self, job_id: str, sha256: str) -> None:
        """Note the hash of the weights that a job is worked with."""
        with self._database.writing() as connection:
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(model_sha256=sha256))

    def set_attempts(self, job_id: str, attempts: int) -> None:
        """Note how often a job's process has ended without a new photo."""
        with self._database.writing() as connection:
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(attempts=attempts))

    def cancelling(self) -> list[str]:
        """Return ids of jobs that are to be stopped."""
        return [row["id"] for row in self._all(sa.select(JOBS.c.id).where(JOBS.c.state == JobState.CANCELLING))]

    def cancel(self, job_id: str, body_of: BodyOf) -> JobState | None:
        """Cancel a job that has not ended.

        Args:
            job_id: The job.
            body_of: Makes the body of the event.

        Returns:
            Its new state, or None if it had ended before.
        """
        running = sa.update(JOBS).where(JOBS.c.id == job_id, JOBS.c.state.in_([JobState.RUNNING, JobState.CANCELLING]))
        with self._database.writing() as connection:
            if connection.execute(running.values(state=JobState.CANCELLING)).rowcount:
                return JobState.CANCELLING
        return self.finish(job_id, JobState.CANCELLED, body_of, size_bytes=0)

    def finish(
        self,
        job_id: str,
        state: JobState,
        body_of: BodyOf,
        *,
        error: Mapping[str, str] | None = None,
        size_bytes: int | None = None,
    ) -> JobState | None:
        """End a job, once: its state and the event that tells of it are written together.

        Args:
            job_id: The job.
            state: How it ended; a job that is to be stopped is cancelled, whatever this says.
            body_of: Makes the body of the event.
            error: Code and message, if it failed.
            size_bytes: Bytes that are kept of it.

        Returns:
            Its state, or None if it had ended before.
        """
        now = time.time()
        with self._database.writing() as connection:
            row = find_job(connection, job_id, lock=True)
            if row is None or row["state"] in ENDED:
                return None
            ended = JobState.CANCELLED if row["state"] == JobState.CANCELLING else state
            values = {"state": ended, "finished_at": now, "expires_at": now + self._settings.keep_s}
            values |= {"error": dict(error)} if error else {}
            values |= {} if size_bytes is None else {"bytes": size_bytes}
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(**values))
            if row["webhook"]:
                body = json.dumps(body_of(row | values, count_photos(connection, job_id)), separators=(",", ":"))
                event = {"id": f"evt_{secrets.token_hex(12)}", "job_id": job_id, "owner": row["owner"], "body": body}
                event |= {"url": row["webhook"], "state": "waiting", "attempts": 0, "next_at": now}
                connection.execute(sa.insert(EVENTS).values(**event))
        return ended

    def due_events(self) -> list[dict[str, Any]]:
        """Return events that are to be sent now."""
        return self._all(sa.select(EVENTS).where(EVENTS.c.state == "waiting", EVENTS.c.next_at <= time.time()))

    def event_of(self, job_id: str) -> dict[str, Any] | None:
        """Return the event of a job's end."""
        return next(iter(self._all(sa.select(EVENTS).where(EVENTS.c.job_id == job_id))), None)

    def set_event(self, event_id: str, state: str, attempts: int, next_at: float) -> None:
        """Note what came of sending an event."""
        values = {"state": state, "attempts": attempts, "next_at": next_at}
        with self._database.writing() as connection:
            connection.execute(sa.update(EVENTS).where(EVENTS.c.id == event_id).values(**values))

    def expire(self, job_id: str) -> None:
        """Let the time of an ended job be over."""
        with self._database.writing() as connection:
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(expires_at=0.0))

    def expired(self) -> list[str]:
        """Return ids of jobs whose time is over and whose event is not under way."""
        waiting = sa.select(EVENTS.c.job_id).where(EVENTS.c.state == "waiting")
        query = sa.select(JOBS.c.id).where(JOBS.c.expires_at <= time.time(), JOBS.c.id.not_in(waiting))
        return [row["id"] for row in self._all(query)]

    def delete(self, job_id: str) -> None:
        """Forget a job."""
        with self._database.writing() as connection:
            for table in (EVENTS, PHOTOS):
                connection.execute(sa.delete(table).where(table.c.job_id == job_id))
            connection.execute(sa.delete(JOBS).where(JOBS.c.id == job_id))

    def knows(self, job_id: str) -> bool:
        """Whether there is such a job, expired or not."""
        with self._database.reading() as connection:
            return find_job(connection, job_id) is not None

    def counts_by_state(self) -> tuple[dict[str, int], float]:
        """Return the number of jobs by state, and the age of the oldest queued one in seconds."""
        with self._database.reading() as connection:
            found = connection.execute(sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state)).all()
            oldest = connection.execute(
                sa.select(sa.func.min(JOBS.c.created_at)).where(JOBS.c.state == JobState.QUEUED)
            ).scalar()
        return {str(state): int(number) for state, number in found}, time.time() - oldest if oldest else 0.0

    def counts(self, job_id: str) -> dict[str, int]:
        """Return the number of a job's photos by status."""
        with self._database.reading() as connection:
            return count_photos(connection, job_id)

    def _all(self, query: Any) -> list[dict[str, Any]]:
        """Return all rows of a query."""
        with self._database.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]
