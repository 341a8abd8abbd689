"""Sizes, margins and positions as people write them: pixels, percent, millimetres."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_MM = {"mm": 1.0, "cm": 10.0, "in": 25.4}
PRINT_DPI = 300.0  # of a size in millimetres where no resolution is given

Unit = Literal["px", "%"]


@dataclass(frozen=True, slots=True)
class Length:
    """A number of pixels, or a percentage of something."""

    value: float
    unit: Unit = "px"

    def pixels(self, whole: float) -> float:
        """Return it in pixels.

        Args:
            whole: What 100 % are, in pixels.
        """
        return self.value * whole / 100 if self.unit == "%" else self.value


@dataclass(frozen=True, slots=True)
class Sides:
    """A length for each side of a box."""

    top: Length
    right: Length
    bottom: Length
    left: Length

    @property
    def any(self) -> bool:
        """Whether there is a margin on any side."""
        return any(side.value for side in (self.top, self.right, self.bottom, self.left))

    def pixels(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom in pixels.

        Args:
            width: What 100 % are for left and right, in pixels.
            height: What 100 % are for top and bottom, in pixels.
        """
        return self.left.pixels(width), self.top.pixels(height), self.right.pixels(width), self.bottom.pixels(height)


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels, or how many pixels there may be.

    Attributes:
        width: In pixels; 0 where only the number of pixels is limited.
        height: In pixels; 0 likewise.
        most_px: Most pixels; 0 where width and height are given.
    """

    width: int = 0
    height: int = 0
    most_px: float = 0.0


def parse_length(text: str) -> Length:
    """Read a length such as ``20px``, ``20`` or ``5%``.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(_NUMBER + r"(px|%)?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is neither pixels (20px) nor percent (5%)")
    return Length(float(match[1]), "%" if match[2] == "%" else "px")


def parse_sides(text: str) -> Sides:
    """Read one length for all sides, two (top and bottom, left and right) or four (top, right, bottom, left).

    Raises:
        ValueError: It is something else.

    >>> parse_sides("5% 20px").left
    Length(value=20.0, unit='px')
    """
    lengths = [parse_length(part) for part in _split(text)]
    if len(lengths) not in (1, 2, 4):
        raise ValueError(f"{text!r} has {len(lengths)} values; one, two or four are allowed")
    top = lengths[0]
    right = lengths[1 % len(lengths)]
    bottom = lengths[2 % len(lengths)]
    left = lengths[3 % len(lengths)]
    return Sides(top, right, bottom, left)


def parse_size(text: str, dpi: float | None = None) -> Size:
    """Read a size such as ``2000x1500``, ``35x45mm`` or ``0.25MP``.

    Args:
        text: Width and height in pixels, mm, cm or in; or the most millions of pixels.
        dpi: Dots per inch for sizes that are not in pixels; 300 by default.

    Raises:
        ValueError: It is none, or has a side of less than a pixel.

    >>> parse_size("35x45mm")
    Size(width=413, height=531, most_px=0.0)
    """
    plain = text.strip().lower().replace("×", "x")
    if match := re.fullmatch(_NUMBER + r"\s?mp", plain):
        if float(match[1]) * 1e6 < 1:
            raise ValueError(f"{text!r} has no pixels; at least 0.000001MP")
        return Size(most_px=float(match[1]) * 1e6)
    match = re.fullmatch(rf"{_NUMBER}\s?x\s?{_NUMBER}\s?(px|mm|cm|in)?", plain)
    if match is None:
        raise ValueError(f"{text!r} is no size")
    unit = _MM.get(match[3] or "px")
    factor = 1.0 if unit is None else unit / 25.4 * (dpi or PRINT_DPI)
    width, height = (round(float(part) * factor) for part in match.group(1, 2))
    if min(width, height) < 1:
        raise ValueError(f"{text!r} has a side of less than one pixel; at least 1x1")
    return Size(width, height)


def is_physical(text: str) -> bool:
    """Whether a size is in mm, cm or in, so that a resolution belongs to it."""
    return text.strip().lower().endswith(tuple(_MM))


def parse_position(text: str) -> tuple[float, float] | None:
    """Read where the subject goes.

    Args:
        text: ``center``, ``original``, one percentage for both directions, or two (from the left, from the top).

    Returns:
        Shares of the free room on the left and above, in [0, 1]; None for the place that it has in the photo.

    Raises:
        ValueError: It is something else.
    """
    plain = text.strip().lower()
    if plain == "original":
        return None
    if plain == "center":
        return 0.5, 0.5
    shares = [parse_length(part) for part in _split(plain)]
    if len(shares) not in (1, 2) or any(share.unit != "%" or share.value > 100 for share in shares):
        raise ValueError(f"{text!r} is neither center, original nor percentages such as 50% 100%")
    return shares[0].value / 100, shares[-1].value / 100


def parse_scale(text: str) -> float | None:
    """Read how much of the canvas the subject fills.

    Returns:
        A share in (0, 1]; None for ``original``.

    Raises:
        ValueError: It is something else.
    """
    if text.strip().lower() == "original":
        return None
    share = parse_length(text)
    if share.unit != "%" or not 1 <= share.value <= 100:
        raise ValueError(f"{text!r} is neither original nor 1% to 100%")
    return share.value / 100


def room_px(size: Size, margin: Sides) -> tuple[float, float]:
    """Return how many pixels of a canvas its margins leave, in width and height; negative where they overlap."""
    left, top, right, bottom = margin.pixels(size.width, size.height)
    return size.width - left - right, size.height - top - bottom


def _split(text: str) -> list[str]:
    """Split values at spaces or commas."""
    return [part for part in re.split(r"[\s,]+", text.strip()) if part]
