"""Splits bytes that hold one picture after another, as a pipe from ``cat a.jpg b.png`` does."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

from cutray.errors import DecodeError
from cutray.imaging.detect_format import detect_format

# How many bytes tell whether a picture begins.
HEAD_BYTES = 1024
# In entropy-coded data 0xFF is followed by 0x00 (stuffing) or by a restart marker; anything else ends the scan.
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOS, _EOI, _APP2 = 0xDA, 0xD9, 0xE2
_MPF, _MPF_ENTRIES, _MPF_ENTRY_BYTES = b"MPF\x00", 0xB002, 16
_LONE_MARKERS = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})


def split_pictures(data: bytes) -> list[bytes]:
    """Cut a stream into its pictures.

    A picture ends where its format says so, and the next one begins there; what follows a picture and is none stays
    with it. A JPEG with further views of the same photo behind it (Multi-Picture Format, which most phones write) is
    one picture, up to the last view in its index. Formats that do not say where they end (TIFF) take all the rest.

    Args:
        data: One picture or several, back to back.

    Returns:
        The pictures, in order; the bytes as they are if they begin like none.
    """
    pictures = []
    while data:
        end = _end_of_first(data)
        if end is None or not _begins_like_a_picture(data[end : end + HEAD_BYTES]):
            pictures.append(data)
            break
        pictures.append(data[:end])
        data = data[end:]
    return pictures


def _begins_like_a_picture(head: bytes) -> bool:
    """Whether bytes are the start of a picture that is taken."""
    try:
        detect_format(head)
    except DecodeError:
        return False
    return True


def _end_of_first(data: bytes) -> int | None:
    """Return where the first picture ends, or None where that cannot be known."""
    try:
        find = _ENDS.get(detect_format(data))
    except DecodeError:
        return None
    end = find(data) if find else None
    return end if end is not None and 0 < end < len(data) else None


def _jpeg_end(data: bytes) -> int | None:
    """Walk the segments and scans to the end marker. Source: ITU-T T.81, annex B; CIPA DC-007 (MPF)."""
    at, views_end = 2, 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _EOI:
            return max(at + 2, views_end)
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _LONE_MARKERS:
            at += 2
        else:
            start = at + 4
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
            if marker == _APP2 and data[start : start + 4] == _MPF:
                found_end = _last_view_end(data[start + 4 : at])
                if found_end is None:
                    return None
                views_end = start + 4 + found_end
            if marker == _SOS:
                found = _SCAN_END.search(data, at)
                if found is None:
                    return None
                at = found.start()
    return max(at + 2, views_end) if data[at : at + 2] == b"\xff\xd9" else None


def _last_view_end(index: bytes) -> int | None:
    """Return where the last view ends, counted from the index, or None if the index is damaged.

    Source: CIPA DC-007, sections 5.1 and 5.2.3 (MP index, MP entry).
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(index[:4])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(order + "I", index, 4)
        (fields,) = struct.unpack_from(order + "H", index, at)
        for place in range(at + 2, at + 2 + 12 * fields, 12):
            tag, _, size, first = struct.unpack_from(order + "HHII", index, place)
            if tag == _MPF_ENTRIES:
                places = range(first, first + size - size % _MPF_ENTRY_BYTES, _MPF_ENTRY_BYTES)
                entries = [struct.unpack_from(order + "II", index, entry + 4) for entry in places]
                # The photo itself has the offset 0, and begins in front of the index.
                return max((offset + length for length, offset in entries if offset), default=0)
    except struct.error:
        return None
    return None


def _png_end(data: bytes) -> int | None:
    """Walk the chunks to IEND. Source: PNG (Third Edition), section 5.3."""
    at = 8
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4])
        if kind == b"IEND":
            return at
    return None


def _webp_end(data: bytes) -> int:
    """Read the size of the RIFF container, padded to an even number of bytes."""
    size = int.from_bytes(data[4:8], "little")
    return 8 + size + size % 2


def _bmp_end(data: bytes) -> int | None:
    """Read the size of the file, which some programs leave at 0."""
    return int.from_bytes(data[2:6], "little") or None


def _gif_end(data: bytes) -> int | None:
    """Walk the blocks to the trailer. Source: GIF89a specification, appendix B."""
    at = 13 + (3 << ((data[10] & 7) + 1) if len(data) > 10 and data[10] & 0x80 else 0)
    while at + 1 < len(data) + 1:
        kind = data[at : at + 1]
        if kind == b"\x3b":
            return at + 1
        if kind == b"\x21":
            at += 2
        elif kind == b"\x2c" and at + 10 <= len(data):
            flags = data[at + 9]
            at += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        else:
            return None
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return None


def _boxes_end(data: bytes) -> int | None:
    """Walk the top-level boxes up to the next ``ftyp``. Source: ISO/IEC 14496-12, section 4.2."""
    at = 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if at and (kind == b"ftyp" or not kind.isalnum()):
            return at
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        if size < 8:  # 0: up to the end of the file
            return None
        at += size
    return at


_ENDS: Mapping[str, Callable[[bytes], int | None]] = MappingProxyType(
    {
        "JPEG": _jpeg_end,
        "PNG": _png_end,
        "WEBP": _webp_end,
        "BMP": _bmp_end,
        "GIF": _gif_end,
        "AVIF": _boxes_end,
        "HEIC": _boxes_end,
    }
)
