"""What a person says about one photo: where the subject is, and what belongs to it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from cutray.config.base import Settings
from cutray.config.metadata import Setting

_NUMBER = r"\s*\d{1,6}(\.\d{1,6})?%?\s*"
_POINT = f"{_NUMBER},{_NUMBER}"
_BOX_WORDS = "left,top,right,bottom in pixels of the upright photo (40,60,800,900), or with % (5%,10%,60%,95%)"
_POINT_WORDS = "x,y; x,y; … in pixels of the upright photo (120,340; 500,80), or with % (12%,40%)"


class HintSettings(Settings):
    """Where the subject is, and what belongs to it."""

    title: ClassVar[str] = "Hints"
    every_field_is_option: ClassVar[bool] = True

    box: Annotated[str | None, Setting(allowed=_BOX_WORDS)] = Field(
        None,
        pattern=f"^{_POINT},{_POINT}$",
        description="Look for the subject in this box; what lies outside is background, unless it is marked by `keep`.",
    )
    keep: Annotated[str | None, Setting(allowed=_POINT_WORDS)] = Field(
        None,
        pattern=f"^{_POINT}(;{_POINT})*;?\\s*$",
        description="Points of the subject: what looks like them and adjoins them is kept.",
    )
    drop: Annotated[str | None, Setting(allowed=_POINT_WORDS)] = Field(
        None,
        pattern=f"^{_POINT}(;{_POINT})*;?\\s*$",
        description="Points of the background: what looks like them and adjoins them is removed.",
    )
    strokes: str | None = Field(
        None,
        description="Picture of the photo's size, or of its shape, with strokes: green marks the subject, red the "
        "background, all other colours and transparent pixels say nothing.",
    )

    @property
    def hinted(self) -> bool:
        """Whether anything was said about where the subject is."""
        return any(value is not None for value in (self.box, self.keep, self.drop, self.strokes))
