"""Read the text chunks of a PNG that carry metadata: XMP, and the raw profiles of ImageMagick."""

from __future__ import annotations

import re
import zlib

_MAX_TEXT_BYTES = 4 << 20
_XMP = b"XML:com.adobe.xmp"
_RAW_PROFILE = b"Raw profile type "
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\x00"
_KINDS = {b"exif": "exif", b"app1": "exif", b"xmp": "xmp", b"iptc": "iptc", b"8bim": "iptc"}


def read_metadata_text(chunk: bytes, payload: bytes) -> tuple[str, bytes] | None:
    """Read a block of metadata from a text chunk.

    Source: PNG (Third Edition), section 11.3.3 (tEXt, zTXt, iTXt); XMP specification part 3, section 1.1.5; the raw
    profiles are ImageMagick's and ExifTool's: a name, the number of bytes, and the bytes in hexadecimal digits.

    Args:
        chunk: tEXt, zTXt or iTXt.
        payload: Its content.

    Returns:
        Which block it is (exif, xmp or iptc) and its bytes; None for any other text, which is not even unpacked.
    """
    keyword, _, rest = payload.partition(b"\x00")
    if keyword == _XMP and chunk == b"iTXt":
        text = _read_international(rest)
        return ("xmp", text) if text else None
    if not keyword.startswith(_RAW_PROFILE):
        return None
    name = keyword.removeprefix(_RAW_PROFILE).strip().lower()
    if chunk == b"iTXt":
        text = _read_international(rest)
    else:
        text = _inflate(rest[1:]) if chunk == b"zTXt" else rest
    return unpack_raw_profile(name, text) if text and name in _KINDS else None


def unpack_raw_profile(name: bytes, text: bytes) -> tuple[str, bytes] | None:
    """Unpack the hexadecimal digits of a raw profile.

    Args:
        name: exif, APP1, xmp, iptc or 8bim.
        text: The text of the chunk.

    Returns:
        Which block it is and its bytes, or None when the text is damaged.
    """
    found = re.match(rb"\s*\w+\s+\d+\s+([0-9a-fA-F\s]+)", text[:_MAX_TEXT_BYTES])
    if not found:
        return None
    digits = re.sub(rb"\s+", b"", found[1])
    block = bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
    if block.startswith(_XMP_PREFIX):  # an APP1 segment holds EXIF or XMP
        return "xmp", block.removeprefix(_XMP_PREFIX)
    return _KINDS[name.lower()], block


def pack_raw_profile(name: str, block: bytes) -> bytes:
    """Write a block as the text of a raw profile."""
    digits = block.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return f"\n{name}\n{len(block):8d}\n".encode() + "\n".join(lines).encode() + b"\n"


def _read_international(rest: bytes) -> bytes | None:
    """Return the text of an iTXt chunk, which comes behind flag, method, language and translated keyword."""
    parts = rest[2:].split(b"\x00", 2)
    if len(parts) != 3:
        return None
    return _inflate(parts[2]) if rest[:1] == b"\x01" else parts[2]


def _inflate(packed: bytes) -> bytes | None:
    """Inflate a text, but never more than metadata can be."""
    try:
        return zlib.decompressobj().decompress(packed, _MAX_TEXT_BYTES)
    except zlib.error:
        return None
