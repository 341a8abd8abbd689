"""Hints in a file beside the photo: ``photo.hints.json`` says of ``photo.jpg`` what options say of a single photo."""

from __future__ import annotations

import json
import os
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from cutray.config import HintSettings, InputLimits, RemoverSettings, parse_settings
from cutray.errors import ConfigError, OptionError
from cutray.hints import format_points
from cutray.imaging.files import read_bytes

if TYPE_CHECKING:
    from cutray.options import PhotoOptions

SUFFIX = ".hints.json"
_ALLOWED = (*HintSettings.model_fields, "subjects", "min_area")
_EXAMPLE = '{"box": [40, 60, 800, 900], "keep": [[120, 340]]}'
_LIMITS = InputLimits(max_bytes=1 << 20)


def hints_name(photo: str) -> str:
    """Return the name of the file with a photo's hints: ``a/photo.hints.json`` for ``a/photo.jpg``."""
    return os.path.splitext(photo)[0] + SUFFIX


def hints_beside(photo: str | PathLike[str]) -> PhotoOptions:
    """Read the hints that lie beside a photo.

    Args:
        photo: The photo's path.

    Returns:
        Options of ``remove_background``; none if there is no such file.

    Raises:
        OptionError: The file is no JSON object, or holds something that is no hint.
        InputError: It cannot be read.
    """
    path = hints_name(os.fspath(photo))
    if not os.path.isfile(path):
        return {}
    options = parse_hints(read_bytes(path, _LIMITS), path)
    if strokes := options.get("strokes"):
        options["strokes"] = os.path.join(os.path.dirname(path), strokes)
    return options


def parse_hints(data: bytes, name: str) -> PhotoOptions:
    """Read a file of hints.

    Args:
        data: A JSON object with `box` as a text or four numbers, `keep` and `drop` as a text or pairs of numbers,
            `strokes`, `subjects` and `min_area`.
        name: Name of the file, for messages.

    Returns:
        Options of ``remove_background``.

    Raises:
        OptionError: It is no JSON object, or holds something that is no hint.
    """
    try:
        found = json.loads(data)
        if not isinstance(found, dict):
            raise TypeError("no JSON object")
        values: dict[str, Any] = {key: value for key, value in found.items() if value is not None}
        if unknown := sorted(set(values) - set(_ALLOWED)):
            raise TypeError(f"{unknown[0]!r} is no hint")
        if isinstance(values.get("box"), list):
            values["box"] = ",".join(f"{side:g}" for side in values["box"])
        for marks in {"keep", "drop"} & set(values):
            values[marks] = format_points(values[marks])
        if isinstance(values.get("subjects"), int):
            values["subjects"] = str(values["subjects"])
        settings = parse_settings(RemoverSettings, values)
    except (ValueError, TypeError, RecursionError, ConfigError) as error:
        reason = error.got if isinstance(error, ConfigError) else str(error)
        raise OptionError(
            got=f"{name} is no file of hints: {reason}"[:300],
            allowed=f"a JSON object with {', '.join(_ALLOWED)}, such as {_EXAMPLE}",
            fix="correct the file, or move it away",
        ) from error
    return cast("PhotoOptions", settings.model_dump(include=set(values)))
