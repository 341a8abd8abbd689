"""A decoded picture: as its file stores it, and as the rest of the program gets it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cutray.imaging.color import to_srgb
from cutray.imaging.orientation import apply_orientation, swaps_sides
from cutray.imaging.raw_image import U8, U16, RawImage


@dataclass(slots=True)
class StoredFrame:
    """A decoded first frame with what its file says about it.

    Attributes:
        raw: The samples, not yet turned or converted.
        icc: Embedded colour profile or None.
        orientation: EXIF value 1 to 8 that is still to be applied.
        dpi: Dots per inch or None.
        notes: What was left out.
    """

    raw: RawImage
    icc: bytes | None = None
    orientation: int = 1
    dpi: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture, ready to be worked on.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright, in sRGB unless ``icc_profile`` is set.
        alpha: (H, W) uint8, the picture's own straight alpha; None when it had none or is opaque everywhere.
        format: JPEG, PNG, WEBP, AVIF, HEIC, TIFF, BMP, GIF, or ARRAY.
        pixels_uint16: (H, W, 3) uint16 RGB in the same space as ``pixels``; only when asked for and there.
        icc_profile: The profile that the pixels are still in; only when asked for and not sRGB.
        dpi: Horizontal and vertical dots per inch, or None.
        notes: What was left out or changed, such as "first of 12 frames".
    """

    pixels: U8
    alpha: U8 | None
    format: str
    pixels_uint16: U16 | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def to_decoded(source: StoredFrame, name: str, keep_profile: bool) -> DecodedImage:
    """Convert the colours, turn everything upright and drop an alpha that hides nothing.

    Args:
        source: A decoded frame as it is stored.
        name: Its format.
        keep_profile: Leave RGB pixels in their own colour space and return its profile.

    Returns:
        The picture as callers get it.
    """
    raw = source.raw
    pixels, icc, notes = to_srgb(raw.samples, raw.mode, source.icc, keep_profile=keep_profile)
    notes = [*source.notes, *raw.notes, *notes]
    uint16 = raw.uint16
    if uint16 is not None and pixels is not raw.samples and raw.mode != "L":
        uint16 = None
        notes.append("16-bit reduced to 8 by the conversion to sRGB")
    alpha = raw.alpha
    if alpha is not None and int(alpha.min()) == 255:
        alpha = None
    dpi, turn = source.dpi, source.orientation
    if dpi is not None:
        across, down = float(dpi[0]), float(dpi[1])
        usable = 0 < across < 1e6 and 0 < down < 1e6
        dpi = ((down, across) if swaps_sides(turn) else (across, down)) if usable else None
    return DecodedImage(
        pixels=apply_orientation(pixels, turn),
        alpha=None if alpha is None else apply_orientation(alpha, turn),
        format=name,
        pixels_uint16=None if uint16 is None else apply_orientation(uint16, turn),
        icc_profile=icc,
        dpi=dpi,
        notes=tuple(notes),
    )
