"""Encode arrays as PNG, WebP, AVIF, JPEG or TIFF, with Cutray's mark and no other metadata than was asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cutray.errors import OptionError, OutputError, ShapeMismatchError
from cutray.imaging.exif import EXIF_PREFIX, ExifFields, encode_exif
from cutray.imaging.files import is_stream
from cutray.imaging.iptc import PHOTOSHOP_PREFIX, wrap_iptc
from cutray.imaging.metadata import Metadata
from cutray.imaging.png_writer import write_png
from cutray.imaging.tiff_writer import write_tiff

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".png": "PNG",
        ".webp": "WEBP",
        ".avif": "AVIF",
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".tif": "TIFF",
        ".tiff": "TIFF",
    }
)
_UINT16_FORMATS = frozenset({"PNG", "TIFF"})
_MAX_SIDE_PX = {"WEBP": 16_383, "JPEG": 65_535, "AVIF": 65_536}
_WEBP_METHOD = 2  # 4, the usual default, saves about 5 % of the bytes and takes a quarter longer
_AVIF_SPEED = 9  # 7 saves about 3 % of the bytes and takes several times as long
_FULL_CHROMA_QUALITY = 90
_MAX_SEGMENT_BYTES = 65_533
_XMP_PREFIX_BYTES = 29


def parse_format(path_or_suffix: str | os.PathLike[str]) -> str:
    """Name the output format that a path or suffix stands for.

    Args:
        path_or_suffix: Path, file name, suffix with or without its dot, or format name.

    Returns:
        One of the values of ``FORMATS``.

    Raises:
        OptionError: The suffix stands for none of them.
    """
    text = os.fspath(path_or_suffix)
    suffix = os.path.splitext(text)[1] or text
    name = FORMATS.get("." + suffix.lower().lstrip("."))
    if name is None:
        raise OptionError(f"the output {text!r} names no format", ", ".join(FORMATS), "use one of these endings")
    return name


def format_of_output(path: str | os.PathLike[str]) -> str:
    """Name the format of an output file; a pipe or a device without an ending gets PNG.

    Args:
        path: Where the result goes.

    Returns:
        One of the values of ``FORMATS``.

    Raises:
        OptionError: It is a file whose ending stands for none of them.
    """
    if is_stream(path) and os.path.splitext(os.fspath(path))[1].lower() not in FORMATS:
        return "PNG"
    return parse_format(path)


def encode_image(
    pixels: npt.NDArray[Any],
    format: str,
    *,
    quality: int = 90,
    icc_profile: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    metadata: Metadata | None = None,
) -> bytes:
    """Encode an array.

    Args:
        pixels: (H, W) grey, (H, W, 3) RGB or (H, W, 4) straight RGBA, sRGB unless a profile is given; uint8, or
            uint16 for PNG and TIFF.
        format: PNG, WEBP, AVIF, JPEG or TIFF.
        quality: 1 to 100, for WEBP, AVIF and JPEG; PNG and TIFF lose nothing. The alpha channel of WEBP is
            always kept exactly.
        icc_profile: Profile of the pixels, or None for sRGB.
        dpi: Horizontal and vertical dots per inch, or None. WEBP and AVIF have no place for it but the EXIF.
        metadata: What is written besides, or None. WEBP and AVIF have no place for IPTC, and JPEG has
            none for a block of more than 64 KiB.

    Returns:
        The file.

    Raises:
        OptionError: The format cannot hold these pixels, or a value is not allowed.
        ShapeMismatchError: The array has another shape.
        OutputError: The encoder failed.
    """
    name = _check(pixels, format, quality, dpi)
    metadata = metadata or Metadata()
    if name == "PNG":
        return write_png(pixels, icc_profile, dpi, metadata)
    if name == "TIFF":
        return write_tiff(pixels, icc_profile, dpi, metadata)
    options: dict[str, Any] = {"quality": quality, **_blocks_for_pillow(name, metadata, dpi)}
    if icc_profile:
        options["icc_profile"] = icc_profile
    if name == "JPEG":
        options["subsampling"] = "4:4:4" if quality >= _FULL_CHROMA_QUALITY else "4:2:0"
        if dpi:
            options["dpi"] = (round(dpi[0]), round(dpi[1]))
    elif name == "WEBP":
        options |= {"method": _WEBP_METHOD, "alpha_quality": 100}
    else:
        options |= {"speed": _AVIF_SPEED}
    sink = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(sink, format=name, **options)
    except (OSError, ValueError, MemoryError) as error:
        raise OutputError(f"the {name} encoder failed: {error}", "", "write PNG instead") from error
    return sink.getvalue()


def _blocks_for_pillow(name: str, metadata: Metadata, dpi: tuple[float, float] | None) -> dict[str, bytes]:
    """Return metadata in the form that Pillow's encoders take; what is too long for a JPEG's segment is left out."""
    most_bytes = _MAX_SEGMENT_BYTES if name == "JPEG" else 1 << 31
    exif = EXIF_PREFIX + encode_exif(metadata.exif, dpi) if metadata.exif else b""
    blocks = {"exif": exif if exif and len(exif) <= most_bytes else EXIF_PREFIX + encode_exif(ExifFields())}
    if metadata.xmp and len(metadata.xmp) + _XMP_PREFIX_BYTES <= most_bytes:
        blocks["xmp"] = metadata.xmp
    if metadata.iptc and name == "JPEG":
        block = PHOTOSHOP_PREFIX + wrap_iptc(metadata.iptc)
        if len(block) <= most_bytes:
            blocks["extra"] = b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block
    return blocks


def _check(pixels: npt.NDArray[Any], format: str, quality: int, dpi: tuple[float, float] | None) -> str:
    """Return the format's name after refusing what it cannot hold."""
    name = format.upper()
    name = name if name in FORMATS.values() else parse_format(format)
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ShapeMismatchError(f"an array of shape {pixels.shape}", "(H, W), (H, W, 3) or (H, W, 4)", "reshape it")
    if pixels.dtype == np.uint16 and name not in _UINT16_FORMATS:
        raise OptionError(f"16-bit pixels for {name}", "8 bits", "write PNG or TIFF, or reduce them to 8 bits")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise OptionError(f"pixels of {pixels.dtype}", "uint8 or uint16", "convert them")
    if name == "JPEG" and pixels.ndim == 3 and pixels.shape[2] == 4:
        raise OptionError(
            "JPEG cannot hold transparency", "PNG, WebP, AVIF or TIFF", "choose one of these, or give a background"
        )
    if not 1 <= quality <= 100:
        raise OptionError(f"quality {quality}", "1 to 100", "choose a value in this range")
    if dpi is not None and not all(0 < value < 1e6 for value in dpi):
        raise OptionError(f"a resolution of {dpi} dpi", "two positive numbers", "leave it out or correct it")
    side = max(pixels.shape[:2])
    if side > _MAX_SIDE_PX.get(name, side):
        raise OptionError(
            f"a side of {side} pixels for {name}", f"at most {_MAX_SIDE_PX[name]}", "write PNG or TIFF, or scale it"
        )
    return name
