"""Read and write IPTC records, and the Photoshop resources that they are wrapped in."""

from __future__ import annotations

import struct
from collections.abc import Iterator

PHOTOSHOP_PREFIX = b"Photoshop 3.0\x00"
_IPTC_RESOURCE = 0x0404
_ENVELOPE, _CHARACTER_SET = 1, 90
_APPLICATION = 2
_PREVIEWS = frozenset({200, 201, 202})  # small copies of the whole photo, without the cutout


def find_iptc(block: bytes | None) -> bytes | None:
    """Find IPTC records in a block that may hold them bare, or wrapped as a Photoshop resource.

    Source: Adobe Photoshop file format specification, section "Image resource blocks".

    Args:
        block: Records, or resources with or without the prefix that JPEG has, or None.

    Returns:
        The bare records or None.
    """
    if not block:
        return None
    block = block.removeprefix(PHOTOSHOP_PREFIX)
    at = 0
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        kind = int.from_bytes(block[at + 4 : at + 6], "big")
        name_bytes = 1 + block[at + 6]
        start = at + 6 + name_bytes + name_bytes % 2
        size = int.from_bytes(block[start : start + 4], "big")
        if kind == _IPTC_RESOURCE:
            return block[start + 4 : start + 4 + size]
        at = start + 4 + size + size % 2
    return block if block[:1] == b"\x1c" else None


def select_iptc(records: bytes | None) -> bytes | None:
    """Keep the character set and the application record, without previews of the photo.

    Source: IPTC-NAA Information Interchange Model 4.2, chapters 1.5, 5 and 6.

    Args:
        records: Bare records or None.

    Returns:
        Bare records, or None when there are none.
    """
    kept = bytearray()
    for record, number, payload in _read_records(records or b""):
        if (record, number) == (_ENVELOPE, _CHARACTER_SET) or (record == _APPLICATION and number not in _PREVIEWS):
            kept += struct.pack(">BBBH", 0x1C, record, number, len(payload)) + payload
    return bytes(kept) if any(record == _APPLICATION for record, _, _ in _read_records(bytes(kept))) else None


def wrap_iptc(records: bytes) -> bytes:
    """Wrap records as a Photoshop resource, without the prefix."""
    head = struct.pack(">4sHHI", b"8BIM", _IPTC_RESOURCE, 0, len(records))
    return head + records + bytes(len(records) % 2)


def _read_records(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield record, number and payload of each data set; lengths of more than 32 KiB do not occur in those kept."""
    at = 0
    while data[at : at + 1] == b"\x1c" and at + 5 <= len(data):
        record, number, size = struct.unpack_from(">BBH", data, at + 1)
        if size & 0x8000 or at + 5 + size > len(data):
            return
        yield record, number, data[at + 5 : at + 5 + size]
        at += 5 + size
