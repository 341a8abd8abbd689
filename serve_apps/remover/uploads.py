"""Reads photos and options out of a request: multipart, urlencoded, JSON or a raw body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from cutray.config import parse_settings
from cutray.errors import ConfigError, InputError, OptionError
from cutray.imaging.compose import parse_color
from cutray.imaging.detect_format import detect_format
from serve_apps.remover.errors import ApiError
from serve_apps.remover.schemas import CutOptions, Limits

_MAX_FIELDS = 60
_MAX_FIELD_BYTES = 64 << 10
_ECHOED_CHARACTERS = 300
_MULTIPART, _URLENCODED = "multipart/form-data", "application/x-www-form-urlencoded"


@dataclass(slots=True)
class Upload:
    """What came in.

    Attributes:
        files: Name of the form's field and content of each file, in order; the raw body has the name "".
        fields: All other fields of form and query; the form has the last word.
    """

    files: list[tuple[str, bytes]] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def read_upload(request: Request, limits: Limits, *, max_files: int) -> Upload:
    """Read a request's body.

    Raises:
        ApiError: It is malformed, has too many files or fields, or does not arrive in time.
    """
    try:
        async with asyncio.timeout(limits.upload_timeout_s):
            return await _read(request, max_files)
    except TimeoutError as error:
        raise ApiError("upload_too_slow") from error
    except (MultiPartException, HTTPException, UnicodeDecodeError) as error:
        raise ApiError("bad_request", "The form is malformed, or has too many parts.") from error
    except ClientDisconnect as error:
        raise ApiError("body_too_large", "The body has too many bytes, or broke off.") from error


async def _read(request: Request, max_files: int) -> Upload:
    """Tell a form from a raw body by its content type, which some clients get wrong."""
    upload = Upload(fields=dict(request.query_params.multi_items()))
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != _MULTIPART and (kind != _URLENCODED or _is_picture(await request.body())):
        body = await request.body()
        if body:
            upload.files.append(("", body))
        return upload
    form = await request.form(max_files=max_files + 2, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                upload.files.append((name, await value.read()))
            else:
                upload.fields[name] = value
    finally:
        await form.close()
    return upload


def _is_picture(body: bytes) -> bool:
    """Recognise a photo: `curl --data-binary` says urlencoded of whatever it sends."""
    try:
        return bool(detect_format(body))
    except InputError:
        return False


def pick_images(upload: Upload, names: Iterable[str], *, most: int) -> list[bytes]:
    """Take the photos out of an upload.

    Args:
        upload: What came in.
        names: Fields that hold photos; a raw body always does.
        most: How many there may be.

    Raises:
        ApiError: There is none, or too many.
    """
    wanted = {"", *names}
    images = [data for name, data in upload.files if name.removesuffix("[]") in wanted]
    if not images:
        raise ApiError("missing_image", f"No photo came with the request; send a file as {sorted(wanted)[1]!r}.")
    if len(images) > most:
        raise ApiError("too_many_images", f"{len(images)} photos came, and at most {most} are taken.")
    return images


def parse_options(values: Mapping[str, str], *, has_backdrop: bool = False) -> dict[str, Any]:
    """Check the options of a request.

    Args:
        values: Names as on the command line, with ``_`` or ``-``, and values as text.
        has_backdrop: Whether a picture came to lay the subject on.

    Returns:
        The options that were given, checked, for ``CutRequest``.

    Raises:
        ApiError: One is unknown or has a value that is not allowed.
    """
    plain = {name.replace("-", "_"): _plain(name.replace("-", "_"), value) for name, value in values.items()}
    if has_backdrop:
        plain["background"] = "white"  # never seen: the picture takes its place
    try:
        settings = parse_settings(CutOptions, plain)
        background = settings.background
        if background is not None and background != "blur":
            # Only colours: a path would let strangers lay the server's own files behind their photos.
            plain["background"] = "{},{},{}".format(*parse_color(background))
    except ConfigError as error:
        raise ApiError("bad_option", error.got[:_ECHOED_CHARACTERS]) from error
    except OptionError as error:
        raise ApiError("bad_option", f"background {background!r:.60} is neither a colour nor blur.") from error
    return {**settings.model_dump(include=set(plain)), **{k: v for k, v in plain.items() if k == "background"}}


def _plain(name: str, value: str) -> Any:
    """Turn text into what the settings take: empty is unset for those that may be, numbers are numbers."""
    known = CutOptions.model_fields.get(name)
    if known is None:
        return value
    kinds = get_args(known.annotation)
    if type(None) in kinds and value.strip().lower() in ("", "none", "transparent"):
        return None
    if kinds and all(isinstance(kind, int) for kind in kinds) and value.isascii() and value.isdigit():
        return int(value[:9])
    return value
