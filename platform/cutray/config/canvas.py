"""Settings of the canvas: how large the result is, and where and how large the subject stands on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field

from cutray.config.base import Settings
from cutray.config.lengths import parse_position, parse_scale, parse_sides, parse_size
from cutray.config.metadata import Setting

TextT = TypeVar("TextT", str, str | None)

SIDES = "pixels (20px) or percent (5%): one value, two (top and bottom, left and right) or four (top right bottom left)"


def checked(parse: Callable[[str], object]) -> AfterValidator:
    """Refuse a text that a parser refuses; an allowed one stays as it is."""

    def check(text: TextT) -> TextT:
        if text is not None:
            parse(text)
        return text

    return AfterValidator(check)


class CanvasSettings(Settings):
    """The canvas that the subject is laid out on; without any of these the result has the photo's frame."""

    title: ClassVar[str] = "Canvas"
    every_field_is_option: ClassVar[bool] = True

    template: Annotated[
        str | None,
        Setting(affects_result=False, short="-t", allowed="a name that `cutray templates` lists, or FILE.toml:NAME"),
    ] = Field(
        None,
        description="Named values of output and canvas, such as square-white (see `cutray templates`), or own ones "
        "(FILE.toml:NAME); what is given beside it goes before it.",
    )
    size: Annotated[
        str | None,
        checked(parse_size),
        Setting(
            allowed="WIDTHxHEIGHT of at least 1x1, in pixels (2000x2000), mm, cm or in (35x45mm); or 0.25MP at most"
        ),
    ] = Field(
        None,
        description="Size of the result: width and height, in which the subject is laid out; or a number of pixels, "
        "to which larger results are reduced.",
    )
    fit: Literal["contain", "cover", "none"] = Field(
        "contain",
        description="With a `size`: the subject fits into the room between the margins (contain), covers it (cover), "
        "or keeps the photo's own resolution (none).",
    )
    position: Annotated[
        str | None,
        checked(parse_position),
        Setting(allowed="center, original, or percent from the left and the top (50% 100%)"),
    ] = Field(
        None,
        description="Where the subject goes: shares of the free room on its left and above it; original keeps its "
        "place in the photo, which then fits as a whole. Without it center if `size` or `scale` is given, else "
        "original.",
    )
    scale: Annotated[
        str | None,
        checked(parse_scale),
        Setting(allowed="original, or 1% to 100%"),
    ] = Field(
        None,
        description="How much of the canvas the subject fills at most, in width and height, in place of `fit`; "
        "original does not resize it.",
    )
    margin: Annotated[str, checked(parse_sides), Setting(allowed=SIDES)] = Field(
        "0",
        description="Least room between subject and canvas, in pixels or percent of the canvas. With `crop` alone: "
        "room added around the subject, in pixels or percent of its longer side, also beyond the photo's border.",
    )
    dpi: float | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Resolution that is written into the file, in dots per inch, and that sizes in mm, cm and in "
        "are meant at. Without it 300 for such sizes, else the photo's own.",
    )
    shadow: Literal["none", "drop", "contact"] = Field(
        "none",
        description="Shadow of the subject: soft and shifted (drop), or on the ground that it stands on (contact).",
    )
    shadow_strength: float = Field(0.35, ge=0, le=1, description="Darkness of the shadow: 0 is none, 1 is black.")
    shadow_angle: float = Field(
        90.0,
        ge=0,
        le=360,
        description="Direction in which the shadow falls, in degrees clockwise from the right; 90 is straight down.",
    )
    shadow_blur: float = Field(
        3.0, ge=0.1, le=20, description="Softness of the shadow, in percent of the subject's longer side."
    )
    outline: str | None = Field(None, description="Colour of a border around the subject, as of a sticker.")
    outline_width: float = Field(
        1.5, ge=0.1, le=20, description="Width of the outline, in percent of the subject's longer side."
    )
