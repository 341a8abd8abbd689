"""Walk a JPEG's markers without decoding it: size, scans, profile, metadata, completeness."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cutray.config import InputLimits
from cutray.errors import DecodeError, ImageTooLargeError
from cutray.imaging.iptc import PHOTOSHOP_PREFIX
from cutray.imaging.metadata import StoredMetadata

# In entropy-coded data 0xFF is followed by 0x00 (stuffing) or by a restart marker; anything else ends the scan.
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_NOTHING_YET = 16
_LONE_MARKERS = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SOS, _EOI, _ADOBE, _RESTART_INTERVAL = 0xDA, 0xD9, 0xEE, 0xDD
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\x00"
_MAX_SEGMENTS = 20_000  # real files have dozens; millions of empty ones would only cost time
_MAX_SKIPPED_BYTES = 65_536  # padding to a block of a disk or of a camera's memory stays below


@dataclass(slots=True)
class JpegHeader:
    """What the markers of a JPEG say.

    Attributes:
        width: Pixels per row.
        height: Rows.
        components: 1 for grey, 3 for colour, 4 for CMYK or YCCK.
        bits: Bits per sample.
        coding: Frame marker: 0xC0 and 0xC1 sequential, 0xC2 progressive.
        metadata: EXIF with its prefix, XMP and IPTC.
        icc: The colour profile, or None.
        dpi: Horizontal and vertical dots per inch, or None.
        complete: Whether the end marker was found.
        all_coefficients: Whether the scans hold every coefficient of every component to its last bit.
        restarts: Whether the scans have restart markers.
        skipped_bytes: Bytes between segments that belong to none of them.
        stream: The same picture without metadata and without anything after its end.
    """

    width: int = 0
    height: int = 0
    components: int = 0
    bits: int = 0
    coding: int = 0
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    complete: bool = False
    all_coefficients: bool = False
    restarts: bool = False
    skipped_bytes: int = 0
    stream: bytes = b""
    _exif: bytes | None = None
    _xmp: bytes | None = None
    _iptc: bytes | None = None
    _icc_parts: dict[int, bytes] = field(default_factory=dict)
    _missing_bits: dict[int, dict[int, int]] = field(default_factory=dict)

    @property
    def metadata(self) -> StoredMetadata:
        """The blocks of metadata."""
        return StoredMetadata(self._exif, self._xmp, self._iptc)


def read_jpeg_header(data: bytes, limits: InputLimits) -> JpegHeader:
    """Read a JPEG's segments up to its end, without decoding pixels.

    Source: ITU-T T.81, annex B (markers), ICC.1:2022 annex B.4 (profiles in APP2), JFIF 1.02 (density).

    Args:
        data: The whole file.
        limits: Most bytes of metadata and most scans.

    Returns:
        The header; ``stream`` is what a decoder should be given.

    Raises:
        DecodeError: The segments are damaged, or there is no picture.
        ImageTooLargeError: Too many bytes of metadata or too many scans.
    """
    header = JpegHeader()
    kept: list[bytes] = [b"\xff\xd8"]
    at = 2
    for _ in range(_MAX_SEGMENTS):
        at = _skip_to_marker(header, data, at)
        marker, start, end = _segment(data, at)
        if end > limits.max_metadata_bytes + 65_536:
            raise ImageTooLargeError(
                f"more than {limits.max_metadata_bytes:,} bytes of metadata stand in front of the pixels",
                f"at most {limits.max_metadata_bytes:,}",
                "remove the metadata",
            )
        if marker == _SOS:
            break
        if marker in _FRAME_MARKERS:
            _read_frame(header, marker, data[start:end])
        elif marker == _RESTART_INTERVAL:
            header.restarts = any(data[start:end])
        if marker == 0xE0 or (not 0xE0 < marker <= 0xEF and marker != 0xFE):
            kept.append(data[at:end])
        elif marker == _ADOBE:
            kept.append(data[at:end])  # the Adobe segment tells how the colours are coded
        _read_metadata(header, marker, data[start:end])
        at = end
    else:
        raise _damaged("it has too many segments")
    if not header.width:
        raise _damaged("there is no frame in front of the pixels")
    stop, header.complete = _walk_scans(header, data, at, limits.max_jpeg_scans)
    header.all_coefficients = bool(header._missing_bits) and not any(
        bits for component in header._missing_bits.values() for bits in component.values()
    )
    header.stream = b"".join((*kept, data[at:stop]))
    if header._icc_parts:
        header.icc = b"".join(part for _, part in sorted(header._icc_parts.items()))
    return header


def _skip_to_marker(header: JpegHeader, data: bytes, at: int) -> int:
    """Step over bytes that belong to no segment, as every viewer does, and over fill bytes, which are allowed."""
    if _MARKER.match(data, at):
        return at
    found = _MARKER.search(data, at, at + _MAX_SKIPPED_BYTES)
    if found is None:
        raise _damaged("the file ends in front of the pixels, or too many bytes belong to no segment")
    header.skipped_bytes += len(data[at : found.start()].rstrip(b"\xff"))
    if header.skipped_bytes > _MAX_SKIPPED_BYTES:
        raise _damaged("too many bytes belong to no segment")
    return found.start()


def _segment(data: bytes, at: int) -> tuple[int, int, int]:
    """Return marker, first payload byte and end of the segment at a position."""
    marker = data[at + 1]
    if marker in _LONE_MARKERS:
        return marker, at + 2, at + 2
    if marker == _EOI:
        raise _damaged("the picture ends before it begins")
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if end < at + 4 or end > len(data):
        raise _damaged("the file ends inside a segment")
    return marker, at + 4, end


def _read_frame(header: JpegHeader, marker: int, payload: bytes) -> None:
    """Take size and depth from a frame header; a second one would be a different picture."""
    if header.width or len(payload) < 6:
        raise _damaged("the frame header is repeated or too short")
    header.coding = marker
    header.bits = payload[0]
    header.height = int.from_bytes(payload[1:3], "big")
    header.width = int.from_bytes(payload[3:5], "big")
    header.components = payload[5]
    progressive = marker in _PROGRESSIVE
    for start in range(6, min(len(payload), 6 + 3 * header.components), 3):
        # Of a sequential frame one scan holds all of a component; of a progressive one it is counted by coefficient.
        header._missing_bits[payload[start]] = dict.fromkeys(range(64) if progressive else range(1), _NOTHING_YET)
    if not header.width or not header.height:
        raise _damaged(f"the picture measures {header.width} x {header.height} pixels")


def _read_metadata(header: JpegHeader, marker: int, payload: bytes) -> None:
    """Take profile, density and other metadata from the application segments; of several blocks the first counts."""
    if marker == 0xE1 and header._exif is None and payload.startswith(b"Exif\x00"):
        header._exif = payload
    elif marker == 0xE1 and header._xmp is None and payload.startswith(_XMP_PREFIX):
        header._xmp = payload[len(_XMP_PREFIX) :]
    elif marker == 0xED and header._iptc is None and payload.startswith(PHOTOSHOP_PREFIX):
        header._iptc = payload
    elif marker == 0xE2 and payload.startswith(b"ICC_PROFILE\x00") and len(payload) > 14:
        header._icc_parts.setdefault(payload[12], payload[14:])
    elif marker == 0xE0 and payload.startswith(b"JFIF\x00") and len(payload) >= 12:
        per_inch = {1: 1.0, 2: 2.54}.get(payload[7])
        across, down = int.from_bytes(payload[8:10], "big"), int.from_bytes(payload[10:12], "big")
        if per_inch and across and down:
            header.dpi = (across * per_inch, down * per_inch)


def _walk_scans(header: JpegHeader, data: bytes, at: int, max_scans: int) -> tuple[int, bool]:
    """Step from scan to scan and return where the picture ends and whether its end marker is there."""
    scans = 0
    for _ in range(_MAX_SEGMENTS):
        found = _SCAN_END.search(data, at)
        if found is None:
            return len(data), False
        at = found.start()
        if data[at + 1] == _EOI:
            return at + 2, True
        if data[at + 1] == _SOS:
            scans += 1
            if scans > max_scans:
                raise ImageTooLargeError(
                    f"the JPEG has more than {max_scans} scans", f"at most {max_scans}", "save it as an ordinary JPEG"
                )
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if at + 2 + size > len(data):
            return at, False  # half a segment helps no decoder
        if data[at + 1] == _SOS:
            _note_scan(header, data[at + 4 : at + 2 + size])
        at += 2 + max(size, 2)
    raise _damaged("it has too many segments")


def _note_scan(header: JpegHeader, payload: bytes) -> None:
    """Note which coefficients a scan brings, and how many of their bits are still to come."""
    count = payload[0] if payload else 0
    if len(payload) < 4 + 2 * count:
        return
    first, last, bits = payload[1 + 2 * count : 4 + 2 * count]
    for start in range(1, 1 + 2 * count, 2):
        component = header._missing_bits.get(payload[start], {})
        for coefficient in component.keys() & range(first, last + 1):
            component[coefficient] = bits & 15


def _damaged(what: str) -> DecodeError:
    """Build the error for a JPEG that cannot be read."""
    return DecodeError(f"the JPEG is damaged: {what}", "a complete JPEG", "get the original file again")
