"""Colours as people write them."""

from __future__ import annotations

import re

from PIL import ImageColor

from cutray.errors import OptionError

Color = tuple[int, int, int]

ALLOWED_COLORS = (
    "a name (white), hex digits (#ff8800), red,green,blue (255,136,0), gradient:white-#ddd, radial:, checker:, "
    "stripes: or dots: likewise, blur, or the path of a picture"
)


def parse_color(text: str) -> Color:
    """Read a colour as people write it.

    Args:
        text: A CSS name (``white``), hex digits (``#f80``, ``#ff8800``, with or without #) or ``255,136,0``.

    Returns:
        Red, green and blue in 0–255.

    Raises:
        OptionError: The text is no colour.

    >>> parse_color("white"), parse_color("ff8800"), parse_color("1, 2, 3")
    ((255, 255, 255), (255, 136, 0), (1, 2, 3))
    """
    plain = text.strip()
    if re.fullmatch(r"\d+\s*,\s*\d+\s*,\s*\d+", plain):
        red, green, blue = (int(part) for part in plain.split(","))
        if max(red, green, blue) <= 255:
            return red, green, blue
    elif re.fullmatch(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", plain):
        return ImageColor.getrgb("#" + plain.lstrip("#"))[:3]
    elif plain.lower() in ImageColor.colormap:
        return ImageColor.getrgb(plain)[:3]
    raise OptionError(
        got=f"the background {text!r} is neither a colour nor a picture that exists",
        allowed=ALLOWED_COLORS,
        fix="correct the colour or the path",
    )
