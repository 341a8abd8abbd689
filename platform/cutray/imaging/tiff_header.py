"""Read a TIFF's first directory: size, bit depth, layout, profile, and whether it is a camera raw file."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import TiffImagePlugin

from cutray.config import InputLimits
from cutray.errors import DecodeError, UnsupportedFormatError
from cutray.imaging.limits import check_size

_NEW_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC = 254, 256, 257, 258, 262
_SAMPLES, _SUB_DIRECTORIES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _ICC, _DNG_VERSION = 277, 330, 338, 339, 34675, 50706
_ACROSS, _DOWN, _UNIT = 282, 283, 296
_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 273, 279, 324, 325
_XMP, _IPTC, _PHOTOSHOP = 700, 33723, 34377
_RGB, _FLOAT, _PREMULTIPLIED = 2, 3, 1
_UNITS_PER_INCH = {2: 1.0, 3: 2.54}


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """What the first directory of a TIFF says.

    Attributes:
        bits: Bits per sample.
        samples: Samples per pixel.
        rgb_uint16: Whether it is RGB of 16 bits or floating point, which Pillow cannot read in full.
        premultiplied: Whether the colours are already multiplied by alpha.
        icc: The colour profile or None.
        xmp: XMP packet or None.
        iptc: IPTC records or None.
        dpi: Horizontal and vertical dots per inch, or None.
        more_pages: Whether other pages follow.
    """

    bits: int
    samples: int
    rgb_uint16: bool
    premultiplied: bool
    icc: bytes | None
    xmp: bytes | None
    iptc: bytes | None
    dpi: tuple[float, float] | None
    more_pages: bool


def read_tiff_header(data: bytes, limits: InputLimits) -> TiffHeader:
    """Read the first directory and check the size it announces.

    Source: TIFF 6.0, sections 2 (structure), 8 (baseline fields) and 18 (associated alpha).

    Args:
        data: The whole file.
        limits: What is allowed.

    Returns:
        The header.

    Raises:
        DecodeError: There is no usable directory.
        ImageTooLargeError: The picture is above a limit.
        UnsupportedFormatError: The file is a camera's raw file in TIFF form.
    """
    tags = _read_first_directory(data)
    width, height = tags.get(_WIDTH), tags.get(_HEIGHT)
    if not isinstance(width, int) or not isinstance(height, int):
        raise DecodeError("the TIFF has no size", "a complete TIFF", "get the original file again")
    if _DNG_VERSION in tags or (_SUB_DIRECTORIES in tags and int(tags.get(_NEW_SUBFILE, 0)) & 1):
        raise UnsupportedFormatError(
            "the content is a camera raw file", "a developed picture", "export it as TIFF or JPEG"
        )
    depths = _numbers(tags.get(_BITS, 1))
    extra = _numbers(tags.get(_EXTRA_SAMPLES, ()))
    kinds = _numbers(tags.get(_SAMPLE_FORMAT, 1))
    bits, samples = max(depths), int(tags.get(_SAMPLES, 1))
    check_size(width, height, limits, max(1.0, bits * samples / 8))
    icc = tags.get(_ICC)
    return TiffHeader(
        bits=bits,
        samples=samples,
        rgb_uint16=samples in (3, 4) and tags.get(_PHOTOMETRIC) == _RGB and (bits == 16 or _FLOAT in kinds),
        premultiplied=extra[:1] == (_PREMULTIPLIED,),
        icc=bytes(icc) if isinstance(icc, bytes) else None,
        xmp=_as_bytes(tags.get(_XMP)),
        iptc=_as_bytes(tags.get(_IPTC)) or _as_bytes(tags.get(_PHOTOSHOP)),
        dpi=_resolution(tags),
        more_pages=bool(tags.next),
    )


def find_strips(data: bytes) -> list[tuple[int, int]]:
    """Return offset and size of each strip or tile of the first page."""
    tags = _read_first_directory(data)
    offsets = _numbers(tags.get(_STRIP_OFFSETS, tags.get(_TILE_OFFSETS, ())))
    sizes = _numbers(tags.get(_STRIP_BYTES, tags.get(_TILE_BYTES, ())))
    return list(zip(offsets, sizes, strict=False))


def _read_first_directory(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Read the tags of the first page."""
    stream = io.BytesIO(data)
    big = data[2:3] in (b"+", b"\x00") and data[2:4] in (b"+\x00", b"\x00+")
    tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if big else 8))
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def _as_bytes(value: object) -> bytes | None:
    """Return a tag's value as bytes; some programs store bytes as numbers of four."""
    if isinstance(value, tuple) and value and all(isinstance(part, int) for part in value):
        return b"".join(int(part).to_bytes(4, "little") for part in value)
    return value if isinstance(value, bytes) else None


def _resolution(tags: TiffImagePlugin.ImageFileDirectory_v2) -> tuple[float, float] | None:
    """Return the resolution in dots per inch when it has a unit."""
    per_inch = _UNITS_PER_INCH.get(tags.get(_UNIT, 2))
    try:
        return (float(tags[_ACROSS]) * per_inch, float(tags[_DOWN]) * per_inch) if per_inch else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _numbers(value: object) -> tuple[int, ...]:
    """Return a tag's value as a tuple, however many numbers it has."""
    return tuple(int(number) for number in value) if isinstance(value, tuple) else (int(value),)  # type: ignore[call-overload]
