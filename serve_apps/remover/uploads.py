"""Reads photos and options out of a request: multipart, urlencoded, JSON or a raw body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from cutray.config import RemoverSettings, overlay, parse_settings
from cutray.config.templates import is_file, list_templates, template_values
from cutray.errors import ConfigError, InputError, OptionError
from cutray.imaging.color_names import parse_color
from cutray.imaging.detect_format import detect_format
from cutray.imaging.fills import is_fill, parse_fill
from cutray.preflight import check_output_settings
from serve_apps.remover.errors import ApiError
from serve_apps.remover.result_names import clean_name
from serve_apps.remover.schemas import CutOptions, Limits

MAX_FIELDS = 60
MAX_FIELD_BYTES = 64 << 10
_ECHOED_CHARACTERS = 300
_TRUE = frozenset({"true", "1", "yes", "on", "y", "t"})
_FALSE = frozenset({"false", "0", "no", "off", "n", "f", ""})
BACKGROUND_FIELD, STROKES_FIELD = "background_image", "strokes"
_MULTIPART, _URLENCODED = "multipart/form-data", "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file of a request.

    Attributes:
        field: Name of the form's field; empty for a raw body.
        data: Its content.
        name: The file's name in the words of the client, safe to use; may be empty.
    """

    field: str
    data: bytes
    name: str = ""


@dataclass(slots=True)
class Upload:
    """What came in.

    Attributes:
        files: The files, in order.
        fields: All other fields of form and query; the form has the last word.
    """

    files: list[UploadedFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


class _InMemoryParser(MultiPartParser):
    """Reads a form whose files stay in memory: a photo is never written to a disk. Bodies have a limit of their own."""

    spool_max_size = 0  # no file is too large for memory


async def read_upload(
    request: Request, limits: Limits, *, max_files: int, max_field_bytes: int = MAX_FIELD_BYTES
) -> Upload:
    """Read a request's body.

    Args:
        request: The request.
        limits: How long the body may take.
        max_files: Most photos; two more files are read, for a background and for telling what is too many.
        max_field_bytes: Longest field of a form that is no file.

    Raises:
        ApiError: It is malformed, has too many files or fields, or does not arrive in time.
    """
    async with upload_errors(limits.upload_timeout_s, max_files, max_field_bytes):
        upload = await _read(request, max_files, max_field_bytes)
    return upload  # noqa: RET504 (mypy cannot see that nothing is swallowed)


@asynccontextmanager
async def upload_errors(
    timeout_s: float, max_files: int, max_field_bytes: int = MAX_FIELD_BYTES
) -> AsyncIterator[None]:
    """Turn whatever goes wrong while a body is read into an answer.

    Args:
        timeout_s: Longest time for it to arrive.
        max_files: Most photos, for the message.
        max_field_bytes: Longest field of a form that is no file, for the message.

    Raises:
        ApiError: The body is malformed, has too many files or fields, or does not arrive in time.
    """
    try:
        async with _arriving(timeout_s):
            yield
    except (MultiPartException, HTTPException) as error:
        raise _form_error(str(getattr(error, "detail", error)), max_files, max_field_bytes) from error
    except UnicodeDecodeError as error:
        raise ApiError("bad_request", "The form holds text that is not UTF-8.") from error


async def read_body(request: Request, limits: Limits, check: Callable[[int], None] = lambda _: None) -> bytes:
    """Read a request's body as it is.

    Args:
        request: The request.
        limits: How long the body may take.
        check: Is told how many bytes are announced, and how many have come so far; what it raises ends the request.

    Raises:
        ApiError: It is too long, or does not arrive in time.
    """
    declared = request.headers.get("content-length", "0")
    check(int(declared) if declared.isascii() and declared.isdigit() else 0)
    body = bytearray()
    async with _arriving(limits.upload_timeout_s):
        async for block in request.stream():
            body += block
            check(len(body))
    return bytes(body)


@asynccontextmanager
async def _arriving(timeout_s: float) -> AsyncIterator[None]:
    """Wait for a body, for as long as it may take."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise ApiError("upload_too_slow") from error
    except ClientDisconnect as error:
        raise ApiError("body_too_large", "The body has too many bytes, or broke off.") from error


def _form_error(told: str, max_files: int, max_field_bytes: int) -> ApiError:
    """Name the limit that a form exceeds; the parser tells which one in words alone."""
    if "many files" in told:
        return ApiError("too_many_images", f"More files came than {max_files} photos and a background.")
    if "many fields" in told:
        return ApiError("bad_request", f"The form has more than {MAX_FIELDS} fields.")
    if "maximum size" in told:
        return ApiError("bad_request", f"A field of the form has more than {max_field_bytes} bytes.")
    return ApiError("bad_request", "The form is malformed.")


async def _read(request: Request, max_files: int, max_field_bytes: int) -> Upload:
    """Tell a form from a raw body by its content type, which some clients get wrong."""
    upload = Upload(fields=dict(request.query_params.multi_items()))
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != _MULTIPART and (kind != _URLENCODED or _is_picture(await request.body())):
        body = await request.body()
        if body:
            upload.files.append(UploadedFile("", body))
        return upload
    form = await _read_form(request, kind, max_files=max_files + 2, max_part_size=max_field_bytes)
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if is_unselected(value):
                    continue
                upload.files.append(UploadedFile(name, await value.read(), clean_name(value.filename or "")))
            else:
                upload.fields[name] = value
    finally:
        await form.close()
    return upload


async def _read_form(request: Request, kind: str, *, max_files: int, max_part_size: int) -> FormData:
    """Read a form of one of the two kinds; files are in one of them alone."""
    if kind != _MULTIPART:
        return await request.form(max_fields=MAX_FIELDS, max_part_size=max_part_size)
    async with aclosing(request.stream()) as stream:
        return await _InMemoryParser(
            request.headers, stream, max_files=max_files, max_fields=MAX_FIELDS, max_part_size=max_part_size
        ).parse()


def is_unselected(file: UploadFile) -> bool:
    """Return whether a file is what browsers send of an input without a choice: neither a name nor a byte."""
    return not file.filename and not file.size


def _is_picture(body: bytes) -> bool:
    """Recognise a photo: `curl --data-binary` says urlencoded of whatever it sends."""
    try:
        return bool(detect_format(body))
    except InputError:
        return False


def pick_images(
    upload: Upload, names: Sequence[str], *, most: int, beside: Sequence[str] = (BACKGROUND_FIELD,)
) -> list[UploadedFile]:
    """Take the photos out of an upload.

    Args:
        upload: What came in.
        names: Fields that hold photos, the documented one first; a raw body always does.
        most: How many there may be.
        beside: Fields of other files that may come with them.

    Raises:
        ApiError: There is none, there are too many, or a file came under a name that has no meaning.
    """
    wanted = {"", *names}
    images = [file for file in upload.files if file.field.removesuffix("[]") in wanted]
    other = [file.field for file in upload.files if file not in images and file.field not in beside and file.data]
    if not images:
        raise ApiError("missing_image", f"No photo came with the request; send a file as {names[0]!r}.")
    if len(images) > most:
        raise ApiError("too_many_images", f"{len(images)} photos came, and at most {most} are taken.")
    if other:
        allowed = ", ".join([*names, *beside])
        raise ApiError("bad_option", f"A file came as {other[0][:60]!r}: allowed is {allowed}.")
    return images


def pick_background(upload: Upload) -> bytes | None:
    """Take the picture to lay the subject on out of an upload, or None.

    Raises:
        ApiError: There are several, or a colour came as well.
    """
    pictures = [file.data for file in upload.files if file.field == BACKGROUND_FIELD]
    color = next((value for name, value in upload.fields.items() if name == "background"), "")
    if len(pictures) > 1:
        raise ApiError("bad_option", f"{len(pictures)} files {BACKGROUND_FIELD} came, and one is taken.")
    if pictures and color.strip():
        raise ApiError("bad_option", f"background and {BACKGROUND_FIELD} came together; send one of them.")
    return pictures[0] if pictures else None


def pick_strokes(upload: Upload) -> bytes | None:
    """Take the picture of strokes out of an upload, or None.

    Raises:
        ApiError: There are several, or it came as text.
    """
    pictures = [file.data for file in upload.files if file.field == STROKES_FIELD]
    if len(pictures) > 1:
        raise ApiError("bad_option", f"{len(pictures)} files {STROKES_FIELD} came, and one is taken.")
    # A text would be a path, and nobody is to read the server's own files.
    if upload.fields.pop(STROKES_FIELD, "").strip():
        raise ApiError("bad_option", f"{STROKES_FIELD} came as text: send the picture as a file.")
    return pictures[0] if pictures else None


def pick_model(upload: Upload) -> str:
    """Take the name of the model out of an upload's fields; empty where the default one is meant."""
    return upload.fields.pop("model", "").strip()


def is_true(name: str, value: str) -> bool:
    """Read a field that is true or false; empty is false.

    Args:
        name: The field, for the message.
        value: Its text.

    Raises:
        ApiError: The text is neither.
    """
    text = value.strip().lower()
    if text not in _TRUE | _FALSE:
        raise ApiError("bad_option", f"{name} = {value[:60]!r}: allowed is true or false.")
    return text in _TRUE


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
    if len(values) > MAX_FIELDS:  # each that is unknown would be compared with all that are known
        raise ApiError("bad_request", f"The request has more than {MAX_FIELDS} fields.")
    plain = {name.replace("-", "_"): _plain(name.replace("-", "_"), value) for name, value in values.items()}
    if plain.get(STROKES_FIELD):
        raise ApiError("bad_option", f"{STROKES_FIELD} came as text, or where it has no meaning: send a file.")
    if has_backdrop:
        plain["background"] = "white"  # never seen: the picture takes its place
    background = None
    template = str(plain.get("template") or "")
    if is_file(template):
        raise ApiError("bad_option", f"template = {template[:60]!r}: allowed is one of {', '.join(list_templates())}.")
    try:
        settings = parse_settings(CutOptions, plain)
        background = settings.background
        if "background" not in plain:
            pass  # the template's own, which may be a file of this machine
        elif background is not None and is_fill(background):
            parse_fill(background)
        elif background is not None and background != "blur":
            # Only colours: a path would let strangers lay the server's own files behind their photos.
            plain["background"] = "{},{},{}".format(*parse_color(background))
    except ConfigError as error:
        raise ApiError("bad_option", error.got[:_ECHOED_CHARACTERS]) from error
    except OptionError as error:
        raise ApiError(
            "bad_option", f"background = {background!r:.60}: allowed is a colour, a gradient, a pattern or blur."
        ) from error
    # A template is replaced by its values: other processes may not know it.
    wanted = plain.keys() | (template_values(template, CutOptions.model_fields) if template else {}).keys()
    told = settings.model_dump(include=wanted - {"template"})
    options = overlay(told, {name: value for name, value in told.items() if name in plain})
    if "background" in plain:
        options["background"] = plain["background"]
    try:
        check_output_settings(parse_settings(RemoverSettings, options))
    except ConfigError as error:
        raise ApiError("bad_option", error.got[:_ECHOED_CHARACTERS]) from error
    except OptionError as error:
        raise ApiError("bad_option", str(error)) from error
    return options


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
