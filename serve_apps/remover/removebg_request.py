"""Translates what clients of remove.bg send."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from cutray.errors import OptionError
from cutray.imaging.color_names import parse_color
from serve_apps.remover.errors import ApiError, RemoveBgError
from serve_apps.remover.uploads import Upload, is_true, parse_options

_FULL_SIZES = {"", "full", "original", "auto", "4k", "50MP"}
_SIZES = {"preview", "small", "regular", "medium", "hd", *_FULL_SIZES} - {""}
_TYPES = {"auto", "person", "product", "car", "animal", "graphic", "transportation", "other"}
_CHOICES = {
    "size": _SIZES,
    "type": _TYPES,
    "format": {"auto", "png", "jpg", "webp"},
    "channels": {"rgba", "alpha"},
}
# What only changes the look in ways that are not offered here is refused unless it is the default.
_NEUTRAL = {
    "roi": {"", "0% 0% 100% 100%"},
    "scale": {"", "original", "100%"},
    "position": {"", "original"},
    "shadow_type": {"", "none", "auto"},
    "add_shadow": {"", "false", "0"},
    "type_level": {"", "1", "2", "none", "latest"},
}
_TRANSLATED = {
    *("image_file_b64", "image_url", "size", "type", "format", "channels", "bg_color", "bg_image_url"),
    *("crop", "crop_margin", "semitransparency"),
}


def read_fields(request: Request, upload: Upload) -> dict[str, str]:
    """Collect the parameters, which may come as a form or as JSON.

    Raises:
        RemoveBgError: The body is no JSON object.
    """
    if "application/json" not in request.headers.get("content-type", ""):
        return upload.fields
    body = next((file.data for file in upload.files if file.field == ""), b"{}")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RemoveBgError(400, "The body is not JSON.", "missing_source") from error
    if not isinstance(values, dict):
        raise RemoveBgError(400, "The body is not a JSON object.", "missing_source")
    upload.files = [file for file in upload.files if file.field != ""]
    return {str(name): _text(value) for name, value in values.items() if value is not None}


def _text(value: object) -> str:
    """Write a JSON value as a form would."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_photo(upload: Upload, fields: Mapping[str, str]) -> bytes:
    """Take the photo from the one place that holds it.

    Raises:
        RemoveBgError: There is none, there are several, or it is an address.
    """
    files = [file.data for file in upload.files if file.field == "image_file"]
    encoded, address = fields.get("image_file_b64", ""), fields.get("image_url", "")
    if len(files) + bool(encoded) + bool(address) > 1:
        raise RemoveBgError(400, "Multiple image sources given: send exactly one.", "multiple_sources")
    if address:
        raise RemoveBgError(400, "This server never fetches addresses; send the file itself.", "invalid_image_url")
    if files:
        return files[0]
    if not encoded:
        raise RemoveBgError(400, "No image given: send image_file or image_file_b64.", "missing_source")
    try:
        return base64.b64decode(encoded.split(",", 1)[-1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RemoveBgError(400, "image_file_b64 is not base64.", "failed_to_read_image") from error


def translate_removebg(fields: Mapping[str, str], *, has_backdrop: bool) -> tuple[dict[str, Any], list[str]]:
    """Translate the parameters.

    Args:
        fields: From ``read_fields``.
        has_backdrop: Whether a background picture came as a file.

    Returns:
        Checked options, and notes on what was ignored.

    Raises:
        RemoveBgError: A parameter has a value that is not allowed or not offered.
    """
    _check_offered(fields)
    color = _color(fields.get("bg_color", "").strip())
    if color and has_backdrop:
        raise RemoveBgError(400, "Only one background can be given.", "multiple_bg_sources")
    only_mask = fields.get("channels", "rgba") == "alpha"
    wanted = fields.get("format") or "auto"
    if wanted == "jpg" and not (color or has_backdrop or only_mask):
        color = "white"
    on_background = bool(color) or has_backdrop
    file_format = {"jpg": "jpeg", "auto": "jpeg" if on_background and not only_mask else "png"}.get(wanted, wanted)
    options = {"format": file_format, "only_mask": str(only_mask).lower()}
    if _flag(fields, "crop", default="false"):
        margin = (fields.get("crop_margin") or "0").strip()
        if not re.fullmatch(r"\d{1,4}(\.\d+)?(px|%)?", margin):
            raise RemoveBgError(400, "crop_margin must be one value, such as 20px or 5%.", "invalid_crop_margin")
        options |= {"crop": "true", "crop_margin": margin}
    if not _flag(fields, "semitransparency", default="true"):
        options["threshold"] = "0.5"
    if color:
        options["background"] = color
    try:
        return parse_options(options, has_backdrop=has_backdrop), _notes(fields)
    except ApiError as error:
        raise RemoveBgError(400, error.message, "invalid_parameters") from error


def _check_offered(fields: Mapping[str, str]) -> None:
    """Refuse values that remove.bg does not know, and what is not offered here."""
    if fields.get("bg_image_url"):
        raise RemoveBgError(400, "This server never fetches addresses; send bg_image_file.", "invalid_bg_image_url")
    for name, allowed in _CHOICES.items():
        if fields.get(name) and fields[name] not in allowed:
            raise RemoveBgError(400, f"{name} must be one of {', '.join(sorted(allowed))}.", f"invalid_{name}")
    for name, neutral in _NEUTRAL.items():
        if fields.get(name, "").lower() not in neutral:
            raise RemoveBgError(400, f"{name} is not offered by this server.", f"invalid_{name}")


def _color(text: str) -> str:
    """Check a background colour; returns it as red,green,blue, empty for none."""
    try:
        return "{},{},{}".format(*parse_color(text)) if text else ""
    except OptionError as error:
        allowed = "a name (white), or hex digits (#ff8800)"
        raise RemoveBgError(400, f"bg_color = {text[:60]!r}: allowed is {allowed}.", "invalid_bg_color") from error


def _flag(fields: Mapping[str, str], name: str, *, default: str) -> bool:
    """Read a parameter that is true or false."""
    try:
        return is_true(name, fields.get(name) or default)
    except ApiError as error:
        raise RemoveBgError(400, error.message, f"invalid_{name}") from error


def _notes(fields: Mapping[str, str]) -> list[str]:
    """Say what was ignored."""
    notes = []
    if fields.get("size", "") not in _FULL_SIZES:
        notes.append("size was ignored: the result has the photo's full size")
    if fields.get("type", "auto") not in ("", "auto"):
        notes.append("type was ignored: the model finds the subject whatever it is")
    if fields.get("crop_margin") and not _flag(fields, "crop", default="false"):
        notes.append("crop_margin was ignored: there is no crop")
    known = _TRANSLATED | set(_NEUTRAL)
    return [*notes, *(f"{name[:40]} was ignored: it is unknown" for name in fields if name not in known)]
