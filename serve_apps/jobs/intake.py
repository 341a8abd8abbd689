"""Takes the request for a job in: checks options and addresses, spools photos, and writes the job down last."""

from __future__ import annotations

import asyncio
import hashlib
import json
import posixpath
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import unquote

from starlette.requests import Request

from cutray.config import JobSettings, RemoverSettings, parse_settings
from cutray.errors import CutrayError, InputError
from cutray.imaging.detect_format import detect_format
from cutray.sources import output_format
from serve_apps.jobs.addresses import allow_lists
from serve_apps.jobs.archive import ZipPhotos
from serve_apps.jobs.bodies import HEAD_BYTES, JobBody, besides_photos, counted, from_bytes, is_json, read_form
from serve_apps.jobs.database import DatabaseError
from serve_apps.jobs.records import AbandonedError, NewJob, NewPhoto, Progress, Quota, QuotaError
from serve_apps.jobs.spool import Spool
from serve_apps.jobs.store import JobStore
from serve_apps.remover.errors import ApiError
from serve_apps.remover.responses import ENDINGS
from serve_apps.remover.result_names import clean_name, name_results
from serve_apps.remover.uploads import BACKGROUND_FIELD, parse_options, upload_errors

_LONGEST_KEY = 255
_BLOCK_BYTES = 1 << 20
_KEEP_S = 5.0  # photos of a body that came at the last moment still have this long to be written down
_QUOTA_RETRY_S = 60
ModelChooser = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that was written down.

    Attributes:
        row: Its row.
        progress: How its photos stand.
        replayed: Whether it had been sent before.
    """

    row: dict[str, Any]
    progress: Progress
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to become a job.

    Attributes:
        owner: Name of the API key.
        key: The client's name for the request, or None.
        model: Name of the model, or empty for the default one.
        quota: What the owner has and may have; None where the request came before.
        stop: Set once nobody waits for the job any more.
    """

    owner: str
    key: str | None
    model: str
    quota: Quota | None
    stop: threading.Event

    def check_wanted(self) -> None:
        """Raise once nobody waits any more.

        Raises:
            AbandonedError: It is so.
        """
        if self.stop.is_set():
            raise AbandonedError(got="the job was not written down in time", fix="send fewer photos at once")

    def watched(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield blocks as long as somebody waits."""
        for block in blocks:
            self.check_wanted()
            yield block

    def check_quota(self, photos: int, size_bytes: int) -> None:
        """Refuse what is more than the owner may have, as far as it is known.

        Raises:
            QuotaError: It is.
        """
        if self.quota is not None:
            self.quota.check(photos, size_bytes)


class JobIntake:
    """Receives jobs for one Ingress."""

    def __init__(self, settings: JobSettings, store: JobStore, choose_model: ModelChooser) -> None:
        """Read the lists of addresses.

        Args:
            settings: Limits and lists.
            store: Where jobs are written down.
            choose_model: Finds the model that a request names, or raises ``ApiError``.

        Raises:
            ConfigError: An entry of a list is no beginning of an address.
        """
        self._settings, self._store, self._choose_model = settings, store, choose_model
        self._sources, self._targets, self._webhooks = allow_lists(settings)
        self._receiving = 0
        self._background: set[asyncio.Future[Any]] = set()

    async def receive(self, request: Request, owner: str) -> Taken:
        """Take a job in: whatever happens, it is written down and told, or nothing of it is kept.

        Who goes away without an idempotency key could never find the job again, so that it is withdrawn; with a key
        it stays, and the same request finds it.

        Args:
            request: The request.
            owner: Name of the API key.

        Raises:
            ApiError: It is refused; nothing of it is kept.
            DatabaseError: The database is busy or away; nothing of it is kept.
        """
        if self._receiving >= self._settings.max_uploads:
            raise ApiError("overloaded", "Too many jobs are being received.", retry_after_s=2)
        key = request.headers.get("idempotency-key")
        if key is not None and not (0 < len(key) <= _LONGEST_KEY and key.isprintable()):
            raise ApiError("bad_request", f"Idempotency-Key has 1 to {_LONGEST_KEY} printable characters.")
        until = time.monotonic() + self._settings.upload_timeout_s + _KEEP_S
        self._receiving += 1
        keeping: asyncio.Future[Taken] | None = None
        try:
            quota = await asyncio.to_thread(self._store.quota_of, owner, key)
            body = await self._read(request, quota)
            try:
                model = await self._choose_model(body.fields.pop("model", "").strip())
            except BaseException:
                body.close()
                raise
            order = _Order(owner, key, model, quota, threading.Event())
            keeping = asyncio.ensure_future(asyncio.to_thread(self._keep, body, order))
            keeping.add_done_callback(self._count_down)
            try:
                await asyncio.wait({keeping}, timeout=until - time.monotonic())
                order.stop.set()  # from here on it ends at the next photo, or has been written down already
                return await asyncio.shield(keeping)
            except asyncio.CancelledError:
                if key is None:
                    order.stop.set()
                    keeping.add_done_callback(self._withdraw)
                raise
        except QuotaError as error:
            raise ApiError(error.code, str(error), retry_after_s=_QUOTA_RETRY_S) from error
        finally:
            if keeping is None:
                self._receiving -= 1

    async def _read(self, request: Request, quota: Quota | None) -> JobBody:
        """Read the body, as long as it can be within the quota."""
        largest = self._settings.max_photos
        allowance = 0 if is_json(request) else besides_photos(largest)

        def check(size_bytes: int) -> None:
            if quota is not None:
                quota.check(1, 0 if is_json(request) else max(0, size_bytes - allowance))

        declared = request.headers.get("content-length", "0")
        check(int(declared) if declared.isascii() and declared.isdigit() else 0)
        watched = counted(request, check)
        async with upload_errors(self._settings.upload_timeout_s, largest):
            body = await read_form(watched, largest)
            if body is None:
                data = await watched.body()
                body = await asyncio.to_thread(from_bytes, data, request, largest)
        return body

    def _count_down(self, keeping: asyncio.Future[Taken]) -> None:
        """Make room for another job."""
        self._receiving -= 1
        if not keeping.cancelled():
            keeping.exception()  # somebody has heard of it, or has gone

    def _withdraw(self, keeping: asyncio.Future[Taken]) -> None:
        """Take back a job that was written down and that nobody knows of."""
        if not keeping.cancelled() and keeping.exception() is None and not (taken := keeping.result()).replayed:
            undoing = asyncio.ensure_future(asyncio.to_thread(self._undo, taken.row["id"]))
            self._background.add(undoing)
            undoing.add_done_callback(self._background.discard)

    def _undo(self, job_id: str) -> None:
        """Forget a job that has not begun, or have it cancelled."""
        if self._store.withdraw(job_id):
            Spool.of(self._settings.folder, job_id).drop()

    def _keep(self, body: JobBody, order: _Order) -> Taken:
        """Check everything, write files, and write the job down last: what has no row is swept."""
        spool = Spool.of(self._settings.folder, secrets.token_hex(12))
        kept = False
        try:
            job = self._spool(body, spool, order)
            try:
                row, replayed = self._store.add(job, order.check_wanted)
            except DatabaseError:
                kept = True  # perhaps it was written down, and only the confirmation was lost
                found = self._store.get(job.id)
                kept = found is not None
                if found is None:
                    raise
                row, replayed = found, False
            kept = not replayed
            if replayed and row["request_hash"] != job.request_hash:
                raise ApiError("idempotency_mismatch")
            return Taken(row, self._progress(row), replayed)
        except AbandonedError as error:
            raise ApiError("deadline_exceeded", str(error), retry_after_s=_QUOTA_RETRY_S) from error
        except InputError as error:
            raise ApiError(error.code, str(error)) from error
        except OSError as error:
            raise ApiError(
                "unavailable", "The disk for jobs cannot be written.", retry_after_s=_QUOTA_RETRY_S
            ) from error
        finally:
            body.close()
            if not kept:
                spool.drop()

    def _progress(self, row: Mapping[str, Any]) -> Progress:
        """Return how a job stands; one that was written down is told, whatever happens now."""
        try:
            return self._store.progress(row)
        except DatabaseError:
            return Progress({"pending": row["photos"]})

    def _spool(self, body: JobBody, spool: Spool, order: _Order) -> NewJob:
        """Write all photos, and describe the job."""
        fields = dict(body.fields)
        webhook, target = fields.pop("webhook", "").strip(), fields.pop("target", "").strip()
        if webhook:
            self._webhooks.check(webhook)
        if target:
            self._targets.check(target)
        options = parse_options(fields, has_backdrop=body.background is not None)
        background_hash, size_bytes = _keep_background(body.background, spool)
        kept: list[tuple[str, str]] = []
        for name, digest, more_bytes in self._photos(body, spool, order):
            size_bytes += more_bytes
            if size_bytes > self._settings.max_job_bytes:
                raise ApiError("body_too_large", f"The photos have more than {self._settings.max_job_bytes} bytes.")
            order.check_quota(len(kept) + 1, size_bytes)
            kept.append((name, digest))
        if not kept:
            raise ApiError("missing_image", "No photo came with the request: send files as 'images' or a ZIP.")
        ending = ENDINGS[output_format(parse_settings(RemoverSettings, options), None)]
        files = name_results([name for name, _ in kept], [ending] * len(kept))
        sources = body.sources or ("",) * len(kept)
        photos = [
            NewPhoto(name or str(file), str(file), source)
            for (name, _), file, source in zip(kept, files, sources, strict=True)
        ]
        chosen = [options, order.model, webhook, target, background_hash, kept]
        return NewJob(
            spool.folder.name,
            order.owner,
            photos,
            size_bytes,
            options,
            hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest(),
            order.key,
            webhook=webhook,
            target=target,
            model=order.model,
        )

    def _photos(self, body: JobBody, spool: Spool, order: _Order) -> Iterator[tuple[str, str, int]]:
        """Write photos one by one; yields name, hash of the content (or the address), and bytes of each."""
        if body.archive is not None:
            archive = ZipPhotos(
                body.archive, max_photos=self._settings.max_photos, max_bytes=self._settings.max_job_bytes
            )
            order.check_quota(len(archive.entries), sum(entry.file_size for entry in archive.entries))
            for number, (entry, name) in enumerate(zip(archive.entries, archive.names, strict=True), 1):
                size_bytes, digest = spool.write(spool.photo(number), order.watched(archive.blocks(entry)))
                yield name, digest, size_bytes
            return
        order.check_quota(len(body.photos) + len(body.sources), 0)
        for number, (name, file) in enumerate(body.photos, 1):
            blocks = order.watched(iter(partial(file.read, _BLOCK_BYTES), b""))
            size_bytes, digest = spool.write(spool.photo(number), blocks)
            yield name, digest, size_bytes
        for source in body.sources:
            address = self._sources.check(source)
            yield clean_name(posixpath.basename(unquote(address.path))), source, 0


def _keep_background(file: BinaryIO | None, spool: Spool) -> tuple[str, int]:
    """Write the picture that subjects are laid on, and return its hash and size; empty and 0 if there is none."""
    if file is None:
        return "", 0
    data = file.read()
    try:
        detect_format(data[:HEAD_BYTES])
    except CutrayError as error:
        raise ApiError("unsupported_format", f"{BACKGROUND_FIELD}: {error}") from error
    size_bytes, digest = spool.write(spool.background, [data])
    return digest, size_bytes
