"""A decoded picture: as its file stores it, and as the rest of the program gets it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cutray.config import InputLimits
from cutray.imaging.color import to_srgb
from cutray.imaging.metadata import Metadata, StoredMetadata, select_metadata
from cutray.imaging.orientation import apply_orientation, swaps_sides
from cutray.imaging.raw_image import U8, U16, RawImage

# In these formats programs leave the fourth byte of a pixel at 0 although it is called alpha.
_ALPHA_MAY_BE_UNUSED = frozenset({"BMP", "DIB", "ICO", "TGA", "TIFF"})
# A grey profile that moves no tone by more than so many 8-bit steps is that of sRGB.
_MAX_SRGB_DIFFERENCE = 2


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a file is read.

    Attributes:
        limits: What the picture may cost.
        keep_profile: Leave RGB pixels in their own colour space and return its profile.
        keep_uint16: Return samples of more than 8 bits as well.
        keep_metadata: Return the metadata that may be published.
        allow_damaged: Accept a picture of which more than a few rows are missing.
    """

    limits: InputLimits = field(default_factory=InputLimits)
    keep_profile: bool = False
    keep_uint16: bool = False
    keep_metadata: bool = False
    allow_damaged: bool = False


@dataclass(slots=True)
class StoredFrame:
    """A decoded first frame with what its file says about it.

    Attributes:
        raw: The samples, not yet turned (unless ``upright``) or converted.
        icc: Embedded colour profile or None.
        metadata: Blocks of metadata.
        orientation: EXIF value 1 to 8 that the container states; None leaves it to the metadata.
        upright: Whether the decoder has applied the orientation.
        dpi: Dots per inch that the container states, or None.
        notes: What was left out or mended.
    """

    raw: RawImage
    icc: bytes | None = None
    metadata: StoredMetadata = field(default_factory=StoredMetadata)
    orientation: int | None = None
    upright: bool = False
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
        metadata: What may be published of the photo's metadata; only when asked for and there.
        notes: What was left out, changed or mended, such as "first of 12 frames".
    """

    pixels: U8
    alpha: U8 | None
    format: str
    pixels_uint16: U16 | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    metadata: Metadata | None = None
    notes: tuple[str, ...] = ()


def to_decoded(frame: StoredFrame, name: str, options: ReadOptions) -> DecodedImage:
    """Convert the colours, turn everything upright and drop an alpha that hides nothing.

    Orientation and resolution are taken from the container if it states them, else from EXIF, else from XMP.

    Args:
        frame: A decoded frame as it is stored.
        name: Its format.
        options: Which of profile and metadata to return.

    Returns:
        The picture as callers get it.
    """
    raw = frame.raw
    pixels, icc, notes = to_srgb(raw.samples, raw.mode, frame.icc, keep_profile=options.keep_profile)
    notes = [*frame.notes, *raw.notes, *notes]
    uint16 = raw.uint16
    if uint16 is not None and _is_converted(raw, pixels, frame.icc):
        uint16 = None
        notes.append("16-bit reduced to 8 by the conversion to sRGB")
    alpha = raw.alpha
    if alpha is not None and int(alpha.min()) == 255:
        alpha = None
    if alpha is not None and name in _ALPHA_MAY_BE_UNUSED and not alpha.any():
        alpha = None
        notes.append("alpha is 0 everywhere and was ignored")
    orientation, dpi = frame.metadata.read_view()
    orientation = frame.orientation or orientation
    turn = 1 if frame.upright else orientation
    return DecodedImage(
        pixels=apply_orientation(pixels, turn),
        alpha=None if alpha is None else apply_orientation(alpha, turn),
        format=name,
        pixels_uint16=None if uint16 is None else apply_orientation(uint16, turn),
        icc_profile=icc,
        dpi=_turn_dpi(frame.dpi or dpi, orientation),
        metadata=select_metadata(frame.metadata) if options.keep_metadata else None,
        notes=tuple(notes),
    )


def _is_converted(raw: RawImage, pixels: U8, icc: bytes | None) -> bool:
    """Tell whether RGB pixels have other tones than the samples that they were made from."""
    if raw.mode != "L":
        return pixels is not raw.samples
    ramp = np.arange(256, dtype=np.uint8)[None]
    shown = to_srgb(ramp, raw.mode, icc, keep_profile=False)[0][..., 0]
    return int(np.abs(shown.astype(np.int16) - ramp).max()) > _MAX_SRGB_DIFFERENCE


def _turn_dpi(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    """Exchange the two values when the picture is turned by a quarter; drop values without a meaning."""
    if dpi is None:
        return None
    across, down = float(dpi[0]), float(dpi[1])
    if not (0 < across < 1e6 and 0 < down < 1e6):
        return None
    return (down, across) if swaps_sides(orientation) else (across, down)
