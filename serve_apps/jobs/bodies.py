"""Takes the body of POST /jobs apart: a form with files, JSON with addresses, a ZIP, or one photo."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message

from cutray.errors import InputError
from cutray.imaging.detect_format import detect_format
from serve_apps.jobs.archive import MAGIC
from serve_apps.remover.errors import ApiError
from serve_apps.remover.result_names import clean_name
from serve_apps.remover.uploads import BACKGROUND_FIELD, MAX_FIELD_BYTES, MAX_FIELDS, is_unselected

HEAD_BYTES = 1024
_PHOTO_FIELDS = frozenset({"images", "image", "files", "file"})
_ARCHIVE_FIELD = "archive"
_BYTES_PER_ADDRESS, _BRACKETS_PER_ADDRESS = 2100, 8  # of JSON; an address has at most 2048 characters
_BYTES_PER_PHOTO = 1024  # of a form or a ZIP, besides the photo itself


@dataclass(frozen=True, slots=True)
class JobBody:
    """What came in, before any of it is kept.

    Attributes:
        fields: All that is text.
        photos: Name and content of each photo that came by itself.
        archive: A ZIP of photos.
        background: The picture that subjects are laid on.
        sources: Addresses of photos.
    """

    fields: dict[str, str]
    photos: tuple[tuple[str, BinaryIO], ...] = ()
    archive: BinaryIO | None = None
    background: BinaryIO | None = None
    sources: tuple[str, ...] = ()

    def close(self) -> None:
        """Close all files; nothing can be read any more."""
        for file in (self.archive, self.background, *(file for _, file in self.photos)):
            if file is not None:
                file.close()


def is_json(request: Request) -> bool:
    """Return whether a request says that its body is JSON, which holds addresses and no photo."""
    kind = _kind_of(request)
    return kind == "application/json" or kind.endswith("+json")


def besides_photos(max_photos: int) -> int:
    """Return how many bytes a body has at most besides its photos: names, headers of parts, and fields."""
    return max_photos * _BYTES_PER_PHOTO + MAX_FIELDS * MAX_FIELD_BYTES


def counted(request: Request, check: Callable[[int], None]) -> Request:
    """Return a request whose body is watched while it arrives.

    Args:
        request: The request.
        check: Is told how many bytes have come so far; what it raises ends the request.
    """
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        check(seen)
        return message

    return Request(request.scope, receive)


async def read_form(request: Request, max_photos: int) -> JobBody | None:
    """Read a form with files; returns None where the body is something else.

    Raises:
        ApiError: A file came under a name without a meaning, or too many did.
    """
    if _kind_of(request) != "multipart/form-data":
        return None
    form = await request.form(max_files=max_photos + 2, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    try:
        return _from_form(form, max_photos)
    except BaseException:
        await form.close()
        raise


def from_bytes(data: bytes, request: Request, max_photos: int) -> JobBody:
    """Read a body that is no form: JSON with addresses, a ZIP, or one photo.

    Raises:
        ApiError: It is none of these.
    """
    query = dict(request.query_params)
    if is_json(request):
        return _from_json(data, max_photos)
    if not data:
        return JobBody(query)
    if data.startswith(MAGIC):
        return JobBody(query, archive=io.BytesIO(data))
    try:
        detect_format(data[:HEAD_BYTES])
    except InputError as error:
        if _kind_of(request) == "application/x-www-form-urlencoded":
            return JobBody(query)  # a form without files
        raise ApiError("unsupported_format", f"The body is neither a photo nor a ZIP: {error}") from error
    return JobBody(query, photos=(("", io.BytesIO(data)),))


def _kind_of(request: Request) -> str:
    """Return the type of a body, in the client's words."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _from_form(form: FormData, max_photos: int) -> JobBody:
    """Take a form apart."""
    fields: dict[str, str] = {}
    photos: list[tuple[str, BinaryIO]] = []
    others: dict[str, BinaryIO] = {}
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif is_unselected(value):
            continue
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
    return JobBody(fields, tuple(photos), others.get(_ARCHIVE_FIELD), others.get(BACKGROUND_FIELD))


def _from_json(data: bytes, max_photos: int) -> JobBody:
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
    return JobBody(fields, sources=tuple(sources))
