"""Tell a file's type by its first bytes; names and content types are never believed."""

from __future__ import annotations

import re

from cutray.errors import DecodeError, UnsupportedFormatError

ALLOWED = "JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF"

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})

# A JPEG starts with a segment, before which a few bytes may stand that belong to none.
_JPEG_START = re.compile(rb"\xff\xd8(?:\xff|.{1,1000}?\xff[\xc0\xc2\xc4\xdb\xdd\xe0-\xef\xfe])", re.DOTALL)
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript or EPS document"),
    (b"\xc5\xd0\xd3\xc6", "an EPS document"),
    (b"8BPS", "a Photoshop document"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"#EXTM3U", "a playlist"),
    (b"push graphic-context", "an MVG drawing"),
    (b"FUJIFILMCCD-RAW", "a camera raw file"),
    (b"IIU\x00", "a camera raw file"),
    (b"IIRO", "a camera raw file"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"\x00\x00\x01\x00", "a Windows icon"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (b"RIFF", "a sound or video file"),
    (b"\x1a\x45\xdf\xa3", "a video file"),
    (b"OggS", "a sound or video file"),
    (b"ID3", "a sound file"),
)


def detect_format(data: bytes) -> str:
    """Name the format of a picture from its first bytes.

    Args:
        data: The whole file or at least its first 1024 bytes.

    Returns:
        JPEG, PNG, WEBP, AVIF, HEIC, TIFF, BMP or GIF.

    Raises:
        DecodeError: There are no bytes.
        UnsupportedFormatError: Any other type of file; the message names what it looks like.
    """
    if not data:
        raise DecodeError("the file is empty", f"a {ALLOWED} picture", "check that the file was copied completely")
    head = bytes(data[:1024])
    known = _picture_format(head)
    if known is not None:
        return known
    raise UnsupportedFormatError(
        f"the content is {_describe(head)}", f"a {ALLOWED} picture", "export the picture as PNG or JPEG and try again"
    )


def _picture_format(head: bytes) -> str | None:
    """Return the format when it is one that is opened."""
    if _JPEG_START.match(head):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")) and head[8:10] != b"CR":
        return "TIFF"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    # The reserved fields of a BMP are often not zero; the size of its second header tells it as surely.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    if head[4:8] == b"ftyp":
        return _container_format(head)
    return None


def _container_format(head: bytes) -> str | None:
    """Tell AVIF and HEIC from video by the brands of the ISO media container."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, size - 3, 4)}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIC_BRANDS:
        return "HEIC"
    return None


def _describe(head: bytes) -> str:
    """Say what a refused file looks like."""
    for magic, name in _REFUSED:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "a video or camera raw file"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle"
    if head.startswith((b"II*\x00", b"MM\x00*")):
        return "a camera raw file"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text and text.startswith(b"<"):
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith((b"<", b"{", b"[")):
        return "a text document"
    return f"of an unknown type (first bytes {head[:8].hex(' ')})"
