"""Reads what clients of remove.bg send: a form or JSON, with the photo in one of several places."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping

from fastapi import Request

from serve_apps.remover.errors import RemoveBgError
from serve_apps.remover.uploads import Upload


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
    # Many encoders break lines. A space stays an error: it is a `+` that a client did not escape.
    unbroken = re.sub(r"[\t\n\v\f\r]", "", encoded.split(",", 1)[-1])
    try:
        return base64.b64decode(unbroken, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RemoveBgError(400, "image_file_b64 is not base64.", "failed_to_read_image") from error
