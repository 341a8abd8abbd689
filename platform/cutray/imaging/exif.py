"""Read EXIF blocks, and rebuild them from the fields that are safe to publish."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from cutray.imaging.provenance import SOFTWARE

EXIF_PREFIX = b"Exif\x00\x00"

# Bytes of one value of each TIFF type, and of the numbers that it is made of.
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_NUMBER_BYTES = {**_VALUE_BYTES, 5: 4, 10: 4}
_MAX_ENTRIES = 1000
_MAX_VALUE_BYTES = 8192  # longer values are maker notes, thumbnails and the like

_ORIENTATION, _ACROSS, _DOWN, _UNIT, _SOFTWARE, _EXIF_DIRECTORY = 0x0112, 0x011A, 0x011B, 0x0128, 0x0131, 0x8769
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL = 1, 2, 3, 4, 5
_UNITS_PER_INCH = {2: 1.0, 3: 2.54}

# A list of what is kept, not of what is dropped: an unknown field can hold anything.
# Description, make, model, date, artist, copyright; title, author, keywords and subject of Windows.
_KEPT_OF_IMAGE = frozenset({0x010E, 0x010F, 0x0110, 0x0132, 0x013B, 0x8298, 0x9C9B, 0x9C9D, 0x9C9E, 0x9C9F})
# How and when the photo was taken: exposure, sensitivity, dates, flash, focal length, lens make and model.
# Left out are maker notes, comments, names of owners, serial numbers, identifiers, and sizes that no longer hold.
_KEPT_OF_PHOTO = frozenset(
    {0x829A, 0x829D, 0x8822, 0x8824, 0x8827, 0x9000, 0x9003, 0x9004, 0x9010, 0x9011, 0x9012}
    | {*range(0x8830, 0x8836), *range(0x9201, 0x920B), 0x9290, 0x9291, 0x9292}
    | {0xA20E, 0xA20F, 0xA210, 0xA217, 0xA300, 0xA301, *range(0xA401, 0xA40B), 0xA40C, 0xA432, 0xA433, 0xA434}
)

# Type and little-endian payload of a field.
Field = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class ExifFields:
    """Fields of a photo that may be written to a result.

    Attributes:
        image: Fields of the first directory by tag.
        photo: Fields of the EXIF directory by tag.
    """

    image: Mapping[int, Field] = field(default_factory=dict)
    photo: Mapping[int, Field] = field(default_factory=dict)


def read_exif_view(exif: bytes | None) -> tuple[int | None, tuple[float, float] | None]:
    """Find out how a photo is to be shown: which way up, and how large.

    Source: EXIF 2.32, section 4.6.4 (tags 0x0112, 0x011A, 0x011B, 0x0128), in the TIFF 6.0 structure of section 2.

    Args:
        exif: The block, with or without its ``Exif`` prefix, or None.

    Returns:
        The orientation, 1 to 8, or None when there is none with a meaning; horizontal and vertical dots per inch
        or None.
    """
    tiff, order = _open(exif)
    found = {}
    for tag, kind, value in _read_directory(tiff, order, 4, relative=True) if order else ():
        if tag in (_ORIENTATION, _ACROSS, _DOWN, _UNIT):
            found[tag] = _read_number(kind, value, order)
    turn, across, down = found.get(_ORIENTATION), found.get(_ACROSS), found.get(_DOWN)
    orientation = int(turn) if turn is not None and turn in range(1, 9) else None
    per_inch = _UNITS_PER_INCH.get(int(found.get(_UNIT) or 2))
    return orientation, ((across * per_inch, down * per_inch) if across and down and per_inch else None)


def select_fields(exif: bytes | None) -> ExifFields | None:
    """Select what may be published: no position, orientation, thumbnail, maker note, serial number or owner.

    Args:
        exif: The block, or a whole TIFF file, or None.

    Returns:
        The fields, or None when there are none.
    """
    tiff, order = _open(exif)
    if not order:
        return None
    image: dict[int, Field] = {}
    photo: dict[int, Field] = {}
    for tag, kind, value in _read_directory(tiff, order, 4, relative=True):
        if tag in _KEPT_OF_IMAGE:
            image.setdefault(tag, (kind, _to_little_endian(kind, value, order)))
        elif tag == _EXIF_DIRECTORY and kind == _LONG and len(value) == 4:
            at = struct.unpack(order + "I", value)[0]
            for inner, inner_kind, inner_value in _read_directory(tiff, order, at):
                if inner in _KEPT_OF_PHOTO:
                    photo.setdefault(inner, (inner_kind, _to_little_endian(inner_kind, inner_value, order)))
    return ExifFields(image, photo) if image or photo else None


def encode_exif(fields: ExifFields, dpi: tuple[float, float] | None = None) -> bytes:
    """Build an EXIF block, which always holds Cutray's mark.

    Args:
        fields: What it holds.
        dpi: Horizontal and vertical dots per inch, or None.

    Returns:
        The block in little-endian TIFF form, without the ``Exif`` prefix.
    """
    image = {**fields.image, _SOFTWARE: (_ASCII, SOFTWARE.encode() + b"\x00")}
    if dpi:
        image[_ACROSS], image[_DOWN] = (
            (_RATIONAL, struct.pack("<II", round(value * 1000), 1000)) for value in dpi
        )  # fmt: skip
        image[_UNIT] = (_SHORT, struct.pack("<H", 2))
    if fields.photo:
        image[_EXIF_DIRECTORY] = (_LONG, bytes(4))
    head = struct.pack("<2sHI", b"II", 42, 8)
    if fields.photo:
        image[_EXIF_DIRECTORY] = (_LONG, struct.pack("<I", 8 + len(encode_directory(image, 8))))
    first = encode_directory(image, 8)
    return head + first + (encode_directory(fields.photo, 8 + len(first)) if fields.photo else b"")


def encode_directory(fields: Mapping[int, Field], at: int) -> bytes:
    """Lay out a TIFF directory, with its long values behind it.

    Source: TIFF 6.0, section 2 (image file directory).

    Args:
        fields: Type and little-endian payload by tag.
        at: Offset of the directory in the file.

    Returns:
        The directory and its values, of an even number of bytes.
    """
    entries, behind = [], bytearray()
    behind_at = at + 2 + 12 * len(fields) + 4
    for tag, (kind, payload) in sorted(fields.items()):
        count = len(payload) // _VALUE_BYTES[kind]
        if len(payload) <= 4:
            entries.append(struct.pack("<HHI", tag, kind, count) + payload.ljust(4, b"\x00"))
            continue
        entries.append(struct.pack("<HHII", tag, kind, count, behind_at + len(behind)))
        behind += payload + b"\x00" * (len(payload) % 2)
    return b"".join((struct.pack("<H", len(fields)), *entries, struct.pack("<I", 0), bytes(behind)))


def _open(exif: bytes | None) -> tuple[memoryview, str]:
    """Return the TIFF structure of a block and its byte order for ``struct``; an empty order when it is none."""
    view = memoryview(exif or b"")
    for _ in range(2):  # some programs write the prefix twice
        if bytes(view[:5]).upper() == b"EXIF\x00":
            view = view[6:]
    return view, {b"II*\x00": "<", b"MM\x00*": ">"}.get(bytes(view[:4]), "")


def _read_directory(
    tiff: memoryview, order: str, at: int, *, relative: bool = False
) -> Iterator[tuple[int, int, bytes]]:
    """Yield tag, type and value of each entry; one that points outside ends or is passed over.

    A damaged tag is no reason to refuse a picture.
    """
    try:
        if relative:
            (at,) = struct.unpack_from(order + "I", tiff, at)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(min(count, _MAX_ENTRIES)):
            place = at + 2 + 12 * entry
            tag, kind, number = struct.unpack_from(order + "HHI", tiff, place)
            size = number * _VALUE_BYTES.get(kind, 0)
            if not 0 < size <= _MAX_VALUE_BYTES:
                continue
            start = place + 8 if size <= 4 else struct.unpack_from(order + "I", tiff, place + 8)[0]
            if start + size <= len(tiff):
                yield tag, kind, bytes(tiff[start : start + size])
    except struct.error:
        return


def _read_number(kind: int, value: bytes, order: str) -> float | None:
    """Return the value of a field that holds one number."""
    if len(value) != _VALUE_BYTES[kind]:
        return None
    if kind == _RATIONAL:
        above, below = struct.unpack(order + "II", value)
        return above / below if below else None
    code = {_BYTE: "B", _SHORT: "H", _LONG: "I"}.get(kind)
    return struct.unpack(order + code, value)[0] if code else None


def _to_little_endian(kind: int, value: bytes, order: str) -> bytes:
    """Bring a payload to little-endian order."""
    size = _NUMBER_BYTES[kind]
    if order == "<" or size == 1:
        return value
    return np.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes()
