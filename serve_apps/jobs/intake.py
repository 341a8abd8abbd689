"""Takes the request for a job in: checks options and addresses, spools photos, and writes the job down last."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import posixpath
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from cutray.config import JobSettings, RemoverSettings, parse_settings
from cutray.errors import CutrayError, InputError
from cutray.imaging.detect_format import detect_format
from cutray.sources import output_format
from serve_apps.jobs.addresses import AllowList
from serve_apps.jobs.archive import MAGIC, ZipPhotos
from serve_apps.jobs.records import NewJob, NewPhoto, QuotaError
from serve_apps.jobs.spool import Spool
from serve_apps.jobs.store import JobStore
from serve_apps.remover.errors import ApiError
from serve_apps.remover.responses import ENDINGS
from serve_apps.remover.result_names import clean_name, name_results
from serve_apps.remover.uploads import BACKGROUND_FIELD, MAX_FIELD_BYTES, MAX_FIELDS, parse_options, upload_errors

_PHOTO_FIELDS = frozenset({"images", "image", "files", "file"})
_ARCHIVE_FIELD = "archive"
_LONGEST_KEY = 255
_BLOCK_BYTES = 1 << 20
_HEAD_BYTES = 1024
_QUOTA_RETRY_S = 60
_BYTES_PER_ADDRESS, _BRACKETS_PER_ADDRESS = 2100, 8  # of JSON; an address has at most 2048 characters


@dataclass(frozen=True, slots=True)
class _Body:
    """What came in, before any of it is kept."""

    fields: dict[str, str]
    photos: tuple[tuple[str, BinaryIO], ...] = ()
    archive: BinaryIO | None = None
    background: BinaryIO | None = None
    sources: tuple[str, ...] = ()


class JobIntake:
    """Receives jobs for one Ingress."""

    def __init__(self, settings: JobSettings, store: JobStore) -> None:
        """Read the lists of addresses.

        Args:
            settings: Limits and lists.
            store: Where jobs are written down.

        Raises:
            ConfigError: An entry of a list is no beginning of an address.
        """
        self._settings, self._store = settings, store
        self._sources = AllowList(settings.sources, ("https", "http", "s3"))
        self._targets = AllowList(settings.targets, ("s3",))
        self._webhooks = AllowList(settings.webhooks, ("https", "http"))
        self._receiving = 0

    async def receive(self, request: Request, owner: str) -> tuple[dict[str, Any], bool]:
        """Take a job in.

        Args:
            request: The request.
            owner: Name of the API key.

        Returns:
            The job's row, and whether it had been sent before.

        Raises:
            ApiError: It is refused; nothing of it is kept.
        """
        if self._receiving >= self._settings.max_uploads:
            raise ApiError("overloaded", "Too many jobs are being received.", retry_after_s=2)
        key = request.headers.get("idempotency-key")
        if key is not None and not (0 < len(key) <= _LONGEST_KEY and key.isprintable()):
            raise ApiError("bad_request", f"Idempotency-Key has 1 to {_LONGEST_KEY} printable characters.")
        self._receiving += 1
        form: FormData | None = None
        try:
            async with upload_errors(self._settings.upload_timeout_s, self._settings.max_photos):
                kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
                if kind == "multipart/form-data":
                    form = await request.form(
                        max_files=self._settings.max_photos + 2, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
                    )
                    body = _from_form(form, self._settings.max_photos)
                else:
                    data, query = await request.body(), dict(request.query_params)
                    body = await asyncio.to_thread(self._from_bytes, data, kind, query)
            return await asyncio.to_thread(self._keep, body, owner, key)
        finally:
            self._receiving -= 1
            if form is not None:
                await form.close()

    def _from_bytes(self, data: bytes, kind: str, query: dict[str, str]) -> _Body:
        """Read a body that is no form: JSON with addresses, a ZIP, or one photo."""
        if kind == "application/json" or kind.endswith("+json"):
            return _from_json(data, self._settings.max_photos)
        if not data:
            return _Body(query)
        if data.startswith(MAGIC):
            return _Body(query, archive=io.BytesIO(data))
        try:
            detect_format(data[:_HEAD_BYTES])
        except InputError as error:
            if kind == "application/x-www-form-urlencoded":
                return _Body(query)  # a form without files
            raise ApiError("unsupported_format", f"The body is neither a photo nor a ZIP: {error}") from error
        return _Body(query, photos=(("", io.BytesIO(data)),))

    def _keep(self, body: _Body, owner: str, key: str | None) -> tuple[dict[str, Any], bool]:
        """Check everything, write files, and write the job down last: what has no row is swept."""
        spool = Spool.of(self._settings.folder, secrets.token_hex(12))
        kept = False
        try:
            job = self._spool(body, spool, owner, key)
            row, replayed = self._store.add(job)
            if replayed and row["request_hash"] != job.request_hash:
                raise ApiError("idempotency_mismatch")
            kept = not replayed
            return row, replayed
        except QuotaError as error:
            raise ApiError(error.code, str(error), retry_after_s=_QUOTA_RETRY_S) from error
        except InputError as error:
            raise ApiError(error.code, str(error)) from error
        except OSError as error:
            raise ApiError(
                "unavailable", "The disk for jobs cannot be written.", retry_after_s=_QUOTA_RETRY_S
            ) from error
        finally:
            if not kept:
                spool.drop()

    def _spool(self, body: _Body, spool: Spool, owner: str, key: str | None) -> NewJob:
        """Write all photos, and describe the job."""
        fields = dict(body.fields)
        webhook, target = fields.pop("webhook", "").strip(), fields.pop("target", "").strip()
        if webhook:
            self._webhooks.check(webhook)
        if target:
            self._targets.check(target)
        options = parse_options(fields, has_backdrop=body.background is not None)
        background_hash = _keep_background(body.background, spool)
        kept = list(self._photos(body, spool))
        if not kept:
            raise ApiError("missing_image", "No photo came with the request: send files as 'images' or a ZIP.")
        size_bytes = sum(size for _, _, size in kept)
        if size_bytes > self._settings.max_job_bytes:
            raise ApiError("body_too_large", f"The photos have more than {self._settings.max_job_bytes} bytes.")
        ending = ENDINGS[output_format(parse_settings(RemoverSettings, options), None)]
        files = name_results([name for name, _, _ in kept], [ending] * len(kept))
        sources = body.sources or ("",) * len(kept)
        photos = [
            NewPhoto(name or str(file), str(file), source)
            for (name, _, _), file, source in zip(kept, files, sources, strict=True)
        ]
        chosen = [options, webhook, target, background_hash, [(name, digest) for name, digest, _ in kept]]
        request_hash = hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()
        return NewJob(
            spool.folder.name, owner, photos, size_bytes, options, request_hash, key, webhook=webhook, target=target
        )

    def _photos(self, body: _Body, spool: Spool) -> Iterator[tuple[str, str, int]]:
        """Write photos one by one; yields name, hash of the content (or the address), and bytes of each."""
        if body.archive is not None:
            archive = ZipPhotos(
                body.archive, max_photos=self._settings.max_photos, max_bytes=self._settings.max_job_bytes
            )
            for number, (entry, name) in enumerate(zip(archive.entries, archive.names, strict=True), 1):
                size_bytes, digest = spool.write(spool.photo(number), archive.blocks(entry))
                yield name, digest, size_bytes
            return
        for number, (name, file) in enumerate(body.photos, 1):
            size_bytes, digest = spool.write(spool.photo(number), iter(partial(file.read, _BLOCK_BYTES), b""))
            yield name, digest, size_bytes
        for source in body.sources:
            address = self._sources.check(source)
            yield clean_name(posixpath.basename(unquote(address.path))), source, 0


def _keep_background(file: BinaryIO | None, spool: Spool) -> str:
    """Write the picture that subjects are laid on, and return its hash; empty if there is none."""
    if file is None:
        return ""
    data = file.read()
    try:
        detect_format(data[:_HEAD_BYTES])
    except CutrayError as error:
        raise ApiError("unsupported_format", f"{BACKGROUND_FIELD}: {error}") from error
    return spool.write(spool.background, [data])[1]


def _from_form(form: FormData, max_photos: int) -> _Body:
    """Take a form apart."""
    fields: dict[str, str] = {}
    photos: list[tuple[str, BinaryIO]] = []
    others: dict[str, BinaryIO] = {}
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name.removesuffix("[]") in _PHOTO_FIELDS:
            photos.append((clean_name(value.filename or ""), value.file))
        elif name in (_ARCHIVE_FIELD, BACKGROUND_FIELD) and name not in others:
            others[name] = value.file
        else:
            raise ApiError("bad_option", f"A file came as {name[:60]!r}: allowed is images, or archive once.")
    if photos and _ARCHIVE_FIELD in others:
        raise ApiError("bad_option", "images and archive came together; send one of them.")
    if len(photos) > max_photos:
        raise ApiError("too_many_images", f"{len(photos)} photos came, and at most {max_photos} are taken.")
    if BACKGROUND_FIELD in others and fields.get("background", "").strip():
        raise ApiError("bad_option", f"background and {BACKGROUND_FIELD} came together; send one of them.")
    return _Body(fields, tuple(photos), others.get(_ARCHIVE_FIELD), others.get(BACKGROUND_FIELD))


def _from_json(data: bytes, max_photos: int) -> _Body:
    """Read a JSON body with addresses; what takes far more memory than bytes is refused before it is parsed."""
    if len(data) > (longest := max_photos * _BYTES_PER_ADDRESS + MAX_FIELD_BYTES):
        raise ApiError("body_too_large", f"The JSON has {len(data)} bytes, and at most {longest} are taken.")
    if data.count(b"[") + data.count(b"{") > max_photos * _BRACKETS_PER_ADDRESS + MAX_FIELDS:
        raise ApiError("bad_request", "The JSON holds more than a list of addresses and options.")
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ApiError("bad_request", "The body is no JSON.") from error
    if not isinstance(told, dict):
        raise ApiError("bad_request", "The JSON is no object.")
    sources = cast("Mapping[str, Any]", told).get("sources")
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise ApiError("bad_request", "sources is no list of addresses.")
    if not sources:
        raise ApiError("missing_image", "sources is empty.")
    if len(sources) > max_photos:
        raise ApiError("too_many_images", f"{len(sources)} photos came, and at most {max_photos} are taken.")
    fields = {}
    for name, value in told.items():
        if name == "sources":
            continue
        if not isinstance(value, str | int | float | bool):
            raise ApiError("bad_option", f"{name[:60]} is no text, number, true or false.")
        fields[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return _Body(fields, sources=tuple(sources))
