"""Translates the parameters of remove.bg into options, one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import ImageColor

from cutray.config.lengths import Length, parse_length, parse_position, parse_scale, parse_sides
from cutray.errors import OptionError
from cutray.imaging.color_names import parse_color
from cutray.imaging.encode import encode_image
from serve_apps.remover.errors import ApiError, RemoveBgError
from serve_apps.remover.uploads import is_true, parse_options

# Most pixels of each size; None is the photo's own size.
_SIZES: dict[str, str | None] = {
    **dict.fromkeys(("preview", "small", "regular"), "0.25MP"),
    "medium": "1.5MP",
    "hd": "4MP",
    "50MP": "50MP",
    **dict.fromkeys(("auto", "full", "4k", "original")),
}
_CHOICES = {
    "size": set(_SIZES),
    "type": {"auto", "person", "product", "car", "animal", "graphic", "transportation", "other"},
    "type_level": {"1", "2", "none", "latest"},
    "format": {"auto", "png", "jpg", "webp", "zip"},
    "channels": {"rgba", "alpha"},
    "shadow_type": {"none", "auto", "drop", "3D", "car"},
}
_SHADOWS = {"drop": "drop", "auto": "contact", "3D": "contact", "car": "contact"}
_WHOLE = (Length(0, "%"), Length(0, "%"), Length(100, "%"), Length(100, "%"))
_MOST_MARGIN = {"px": 500.0, "%": 50.0}
PARAMETERS = (
    *("image_file", "image_file_b64", "image_url", "size", "type", "type_level", "format", "channels", "roi", "crop"),
    *("crop_margin", "scale", "position", "bg_color", "bg_image_url", "bg_image_file", "semitransparency"),
    *("add_shadow", "shadow_type", "shadow_opacity", "shadow_method"),
)


@dataclass(slots=True)
class Wanted:
    """What a client of remove.bg asks for.

    Attributes:
        options: Checked options of a photo.
        backdrop: An encoded picture to lay the subject on, or None.
        as_zip: Whether colours and alpha are wanted as two files.
        notes: What was ignored.
    """

    options: dict[str, Any]
    backdrop: bytes | None = None
    as_zip: bool = False
    notes: list[str] = field(default_factory=list)


def translate_removebg(fields: Mapping[str, str], backdrop: bytes | None = None) -> Wanted:
    """Translate the parameters.

    Args:
        fields: All parameters that are no files, as text; empty ones count as not given.
        backdrop: The file ``bg_image_file``, or None.

    Raises:
        RemoveBgError: A parameter has a value that is not allowed or not offered; its code names the parameter.
    """
    given = {name: value.strip() for name, value in fields.items() if value.strip()}
    _check_choices(given)
    options = {**_size(given), **_region(given), **_crop(given), **_place(given), **_shadow(given)}
    if not _flag(given, "semitransparency", default="true"):
        options["threshold"] = "0.5"
    color, tint = _color(given.get("bg_color", ""))
    if (color or tint) and backdrop is not None:
        raise RemoveBgError(400, "Only one background can be given.", "multiple_bg_sources")
    only_mask, wanted = given.get("channels") == "alpha", given.get("format", "auto")
    if only_mask:
        options = {name: value for name, value in options.items() if not name.startswith("shadow")}
        options["only_mask"] = "true"
    elif wanted == "jpg" and not color and tint is None and backdrop is None:
        color = "255,255,255"
    opaque = bool(color) or backdrop is not None
    formats = {"jpg": "jpeg", "zip": "png", "auto": "jpeg" if opaque and not only_mask else "png"}
    options["format"] = formats.get(wanted, wanted)
    if color:
        options["background"] = color
    backdrop = backdrop or tint
    try:
        checked = parse_options(options, has_backdrop=backdrop is not None)
    except ApiError as error:
        raise RemoveBgError(400, error.message, "invalid_parameters") from error
    return Wanted(checked, backdrop, wanted == "zip" and not only_mask, _notes(given))


def region_error(error: ApiError, fields: Mapping[str, str]) -> RemoveBgError | None:
    """Name a region that turned out wrong when the photo's size was known; None for any other error."""
    if not fields.get("roi") or error.code != "bad_option" or not error.message.startswith("box "):
        return None
    empty = "is empty" in error.message
    title = "roi is empty." if empty else "roi reaches outside the image."
    return RemoveBgError(400, title, "roi_region_empty" if empty else "roi_exceeds_bounds")


def _check_choices(given: Mapping[str, str]) -> None:
    """Refuse values that remove.bg does not know, and addresses."""
    if "bg_image_url" in given:
        raise RemoveBgError(400, "This server never fetches addresses; send bg_image_file.", "invalid_bg_image_url")
    for name, allowed in _CHOICES.items():
        if name in given and given[name] not in allowed:
            raise RemoveBgError(400, f"{name} must be one of {', '.join(sorted(allowed))}.", f"invalid_{name}")


def _size(given: Mapping[str, str]) -> dict[str, str]:
    """Translate the size; without one the result has the photo's own."""
    most = _SIZES[given.get("size", "full")]
    return {} if most is None else {"size": most}


def _region(given: Mapping[str, str]) -> dict[str, str]:
    """Translate the region that the subject is in."""
    if "roi" not in given:
        return {}
    words = "roi must be four values such as 0% 0% 100% 100% or 10px 10px 200px 300px."
    sides = [_parsed(parse_length, part, "roi", words) for part in given["roi"].split()]
    if len(sides) != 4:
        raise RemoveBgError(400, words, "invalid_roi")
    if tuple(sides) == _WHOLE:
        return {}
    if any(side.unit == "%" and side.value > 100 for side in sides):
        raise RemoveBgError(400, "roi reaches outside the image.", "roi_exceeds_bounds")
    if any(low.unit == high.unit and low.value >= high.value for low, high in zip(sides[:2], sides[2:], strict=True)):
        raise RemoveBgError(400, "roi is empty.", "roi_region_empty")
    return {"box": ",".join(f"{side.value:g}{side.unit.removeprefix('px')}" for side in sides)}


def _crop(given: Mapping[str, str]) -> dict[str, str]:
    """Translate crop and its margin, which also reaches beyond the photo."""
    if not _flag(given, "crop", default="false"):
        return {}
    margin = given.get("crop_margin", "0")
    words = "crop_margin must be 1, 2 or 4 values of at most 500px or 50%, such as 20px or 5% 10%."
    sides = _parsed(parse_sides, margin, "crop_margin", words)
    for side in (sides.top, sides.right, sides.bottom, sides.left):
        if side.value > _MOST_MARGIN[side.unit]:
            raise RemoveBgError(400, words, "invalid_crop_margin")
    return {"crop": "true", "margin": margin} if sides.any else {"crop": "true"}


def _place(given: Mapping[str, str]) -> dict[str, str]:
    """Translate scale and position."""
    options = {}
    if "scale" in given:
        share = _parsed(parse_scale, given["scale"], "scale", "scale must be original or 10% to 100%.")
        if share is not None and share < 0.1:
            raise RemoveBgError(400, "scale must be original or 10% to 100%.", "invalid_scale")
        if share is not None:
            options["scale"] = given["scale"]
    if "position" in given:
        words = "position must be original, center, or one or two percentages such as 50% 100%."
        _parsed(parse_position, given["position"], "position", words)
        if given["position"] != "original" or options:
            options["position"] = given["position"]
    return options


def _shadow(given: Mapping[str, str]) -> dict[str, str]:
    """Translate the shadow, in its newer and its older form."""
    kind = _SHADOWS.get(given.get("shadow_type", "none"), "none")
    if "shadow_type" not in given and _flag(given, "add_shadow", default="false"):
        kind = "contact"
    opacity = given.get("shadow_opacity", "auto")
    if opacity != "auto" and not (re.fullmatch(r"\d{1,3}(\.\d+)?", opacity) and float(opacity) <= 100):
        raise RemoveBgError(400, "shadow_opacity must be auto or 0 to 100.", "invalid_shadow_opacity")
    if kind == "none":
        return {}
    return {"shadow": kind} if opacity == "auto" else {"shadow": kind, "shadow_strength": f"{float(opacity) / 100:g}"}


def _color(text: str) -> tuple[str, bytes | None]:
    """Translate a background colour: as red,green,blue, or as a picture of one pixel where it is half transparent."""
    try:
        if match := re.fullmatch(r"#?([0-9a-fA-F]{4}|[0-9a-fA-F]{8})", text):
            red, green, blue, *rest = ImageColor.getrgb("#" + match[1])
            if rest[0] not in (0, 255):
                return "", encode_image(np.asarray([[(red, green, blue, rest[0])]], np.uint8), "PNG")
            return f"{red},{green},{blue}" if rest[0] else "", None
        return "{},{},{}".format(*parse_color(text)) if text else "", None
    except OptionError as error:
        allowed = "a name (white), or 3, 4, 6 or 8 hex digits (#ff8800)"
        raise RemoveBgError(400, f"bg_color = {text[:60]!r}: allowed is {allowed}.", "invalid_bg_color") from error


def _parsed(parse: Callable[[str], Any], text: str, name: str, words: str) -> Any:
    """Parse a value, or refuse it in words."""
    try:
        return parse(text)
    except ValueError as error:
        raise RemoveBgError(400, words, f"invalid_{name}") from error


def _flag(given: Mapping[str, str], name: str, *, default: str) -> bool:
    """Read a parameter that is true or false."""
    try:
        return is_true(name, given.get(name, default))
    except ApiError as error:
        raise RemoveBgError(400, error.message, f"invalid_{name}") from error


def _notes(given: Mapping[str, str]) -> list[str]:
    """Say what was ignored."""
    notes = []
    if given.get("type", "auto") != "auto":
        notes.append("type was ignored: the model finds the subject whatever it is")
    if "crop_margin" in given and not _flag(given, "crop", default="false"):
        notes.append("crop_margin was ignored: there is no crop")
    if "shadow_method" in given:
        notes.append("shadow_method was ignored: it has no effect")
    return [*notes, *(f"{name[:40]} was ignored: it is unknown" for name in given if name not in PARAMETERS)]
