"""Translates what clients of rembg's server send."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from serve_apps.remover.errors import ApiError
from serve_apps.remover.model_names import match_name, names_of
from serve_apps.remover.uploads import Upload, is_true, parse_options

_NUMBERS = ("af", "ab", "ae")  # rembg's thresholds and erosion; its own matting has no counterpart here
_KNOWN = {"model", "a", *_NUMBERS, "om", "ppm", "bgc", "extras"}


def translate_rembg(fields: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Translate the fields of a request.

    Args:
        fields: Fields of form and query.

    Returns:
        Checked options, and notes on what was ignored.

    Raises:
        ApiError: A value is not allowed.
    """
    options = {}
    if is_true("om", fields.get("om", "")):
        options["only_mask"] = "true"
    if is_true("ppm", fields.get("ppm", "")):
        options["threshold"] = "0.5"
    color, notes = _background(fields.get("bgc", ""))
    if color:
        options["background"] = color
    return parse_options(options), [*notes, *_ignored(fields)]


def pick_photo(upload: Upload) -> tuple[bytes, list[str]]:
    """Take the photo out of a request.

    Args:
        upload: What came in.

    Returns:
        The photo, and a note if more files came.

    Raises:
        ApiError: There is none.
    """
    photo = next((file.data for file in upload.files if file.field in ("file", "")), None)
    if photo is None:
        raise ApiError("missing_image", "No photo came with the request; send it as the file 'file'.")
    return photo, ["all files but one were ignored: a request has one photo"] if len(upload.files) > 1 else []


def note_model(fields: Mapping[str, str], served: str) -> list[str]:
    """Return a note if a request names another model than the one that is served."""
    wanted = fields.get("model", "").strip()
    return [f"model was ignored: {served} is served"] if wanted and match_name(wanted, names_of(served)) is None else []


def _background(text: str) -> tuple[str, list[str]]:
    """Read ``bgc``; returns a colour as text, empty for none, and notes."""
    if not text.strip():
        return "", []
    parts = [part.strip() for part in text.split(",")]
    good = all(part.isascii() and part.isdigit() and int(part[:4]) <= 255 for part in parts)
    if len(parts) not in (3, 4) or not good:
        raise ApiError("bad_option", f"bgc = {text[:60]!r}: allowed is red,green,blue,alpha, each 0 to 255.")
    opacity = int(parts[3]) if len(parts) == 4 else 255
    if opacity == 0:
        return "", []
    notes = [] if opacity == 255 else ["bgc was taken as opaque: a background cannot be half transparent"]
    return ",".join(parts[:3]), notes


def _ignored(fields: Mapping[str, str]) -> list[str]:
    """Check what has no counterpart, and say that it was ignored."""
    notes = []
    if is_true("a", fields.get("a", "")):
        notes.append("a was ignored: soft edges are always solved")
    for name in _NUMBERS:
        value = fields.get(name, "").strip()
        if value and not (value.isascii() and value.isdigit()):
            raise ApiError("bad_option", f"{name} = {value[:60]!r}: allowed is a whole number.")
        if value:
            notes.append(f"{name} was ignored: rembg's own matting has no counterpart here")
    if extras := fields.get("extras", "").strip():
        notes += _extras(extras)
    return [*notes, *(f"{name[:40]} was ignored: it is unknown" for name in fields if name not in _KNOWN)]


def _extras(text: str) -> list[str]:
    """Say which extras were ignored; rembg itself passes over those that are no JSON."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return ["extras was ignored: it is no JSON"]
    if not isinstance(values, dict):
        return ["extras was ignored: it is no JSON object"]
    return [f"extras was ignored: {', '.join(str(name)[:40] for name in values)}"] if values else []
