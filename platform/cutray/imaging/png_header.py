"""Walk a PNG's chunks without decoding it: size, checksums, profile, metadata, completeness."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from cutray.config import InputLimits
from cutray.errors import DecodeError, ImageTooLargeError
from cutray.imaging.metadata import StoredMetadata
from cutray.imaging.png_text import read_metadata_text

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_FRAMES = frozenset({b"fcTL", b"fdAT"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PALETTE = 3
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_CHUNKS = 200_000  # eight kilobytes each would be 1.6 GB; millions of empty ones would only cost time
_MAX_PROFILE_BYTES = 16 << 20
_METRES_PER_INCH = 0.0254


@dataclass(slots=True)
class PngHeader:
    """What the chunks of a PNG say.

    Attributes:
        width: Pixels per row.
        height: Rows.
        bits: Bits per sample.
        colour: Colour type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
        channels: Samples per pixel.
        frames: Frames of an animation, 1 for a still picture.
        interlaced: Whether the rows are stored in seven passes.
        metadata: EXIF, XMP and IPTC, from chunks of their own or from text chunks.
        icc: The colour profile or None.
        broken_icc: Whether there was a profile that cannot be unpacked.
        key: The transparent colour of a grey or RGB picture, in samples of ``bits`` bits, or None.
        dpi: Horizontal and vertical dots per inch, or None.
        complete: Whether the last chunk was found.
        bad_checksums: Needed chunks whose checksum is wrong.
        chunks: The needed chunks in order, kind and payload.
        stream: The same picture without metadata and animation.
    """

    width: int = 0
    height: int = 0
    bits: int = 8
    color_type: int = 0
    channels: int = 1
    frames: int = 1
    interlaced: bool = False
    icc: bytes | None = None
    broken_icc: bool = False
    key: tuple[int, ...] | None = None
    dpi: tuple[float, float] | None = None
    complete: bool = False
    bad_checksums: set[bytes] = field(default_factory=set)
    chunks: list[tuple[bytes, memoryview]] = field(default_factory=list)
    stream: bytes = b""
    _idat_bytes: int = 0
    _kept: list[memoryview] = field(default_factory=list)
    _blocks: dict[str, bytes] = field(default_factory=dict)
    _text_blocks: dict[str, bytes] = field(default_factory=dict)

    @property
    def metadata(self) -> StoredMetadata:
        """The blocks of metadata; a chunk of its own comes before a text chunk."""
        return StoredMetadata(**{**self._text_blocks, **self._blocks})


def read_png_header(data: bytes, limits: InputLimits) -> PngHeader:
    """Read a PNG's chunks up to its end, without decoding pixels.

    Source: PNG (Third Edition), sections 5 (structure) and 11 (chunks).

    Args:
        data: The whole file.
        limits: Most bytes of metadata.

    Returns:
        The header; ``stream`` is what a decoder should be given if the file is complete and its checksums are right.

    Raises:
        DecodeError: The header is missing or damaged, or there are no pixels.
        ImageTooLargeError: Too many bytes of metadata.
    """
    header, view, at, metadata_bytes = PngHeader(), memoryview(data), len(SIGNATURE), 0
    for index in range(_MAX_CHUNKS):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + size
        if (index == 0) != (kind == b"IHDR"):
            raise _damaged("its header is missing or repeated")
        if end > len(data) or not kind.isalpha():
            if kind == b"IDAT":
                _keep(header, kind, view[at : at + 8 + size], view[at + 8 : at + 8 + size])
            return _finish(header)
        needed = kind in _NEEDED and (kind != b"PLTE" or header.color_type == _PALETTE)
        if kind not in _FRAMES:
            intact = zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
            if needed and not intact:
                header.bad_checksums.add(kind)
            metadata_bytes += 0 if needed else end - at
            if metadata_bytes > limits.max_metadata_bytes:
                raise ImageTooLargeError(
                    "the PNG holds too many bytes of metadata",
                    f"at most {limits.max_metadata_bytes:,}",
                    "remove the metadata",
                )
            if intact or kind == b"IHDR":
                _read_chunk(header, kind, view[at + 8 : end - 4])
            # Other transparent colours than those of a palette are returned as key.
            if needed and (kind != b"tRNS" or (header.color_type == _PALETTE and intact)):
                _keep(header, kind, view[at:end], view[at + 8 : end - 4])
        if kind == b"IEND":
            header.complete = True
            return _finish(header)
        at = end
    raise _damaged("it has too many chunks")


def _keep(header: PngHeader, kind: bytes, chunk: memoryview, payload: memoryview) -> None:
    """Keep a chunk that the decoder needs; empty ones would only cost time."""
    if kind == b"IDAT" and not payload:
        return
    header._kept.append(chunk)
    header.chunks.append((kind, payload))
    if kind == b"IDAT":
        header._idat_bytes += len(payload)


def _read_chunk(header: PngHeader, kind: bytes, payload: memoryview) -> None:
    """Take what is needed from one chunk."""
    if kind == b"IHDR":
        if len(payload) != 13:
            raise _damaged("its header has the wrong size")
        header.width, header.height, header.bits, header.color_type = struct.unpack_from(">IIBB", payload)
        header.interlaced = payload[12] == 1
        if header.color_type not in _CHANNELS or header.bits not in (1, 2, 4, 8, 16):
            raise _damaged("its colour type does not exist")
        header.channels = _CHANNELS[header.color_type]
    elif kind == b"tRNS" and header.color_type in (0, 2) and len(payload) == 2 * header.channels:
        header.key = struct.unpack(f">{header.channels}H", payload)
    elif kind == b"eXIf":
        header._blocks.setdefault("exif", bytes(payload))
    elif kind in _TEXTS:
        found = read_metadata_text(kind, bytes(payload))
        if found:
            header._text_blocks.setdefault(*found)
    elif kind == b"iCCP" and header.icc is None:
        header.icc = _unpack_profile(bytes(payload))
        header.broken_icc = header.icc is None
    elif kind == b"acTL" and len(payload) == 8:
        header.frames = max(1, int.from_bytes(payload[:4], "big"))
    elif kind == b"pHYs" and len(payload) == 9 and payload[8] == 1:
        across, down = struct.unpack_from(">II", payload)
        if across and down:
            header.dpi = (across * _METRES_PER_INCH, down * _METRES_PER_INCH)


def _unpack_profile(payload: bytes) -> bytes | None:
    """Inflate an embedded profile, but never more than a profile can be."""
    _, found, rest = payload.partition(b"\x00")
    if not found or rest[:1] != b"\x00":
        return None
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(rest[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None


def _finish(header: PngHeader) -> PngHeader:
    """Check that pixels are there, and not hidden megabytes behind them, and build the clean stream."""
    if not header._idat_bytes:
        raise _damaged("it holds no pixels")
    row_bytes = (header.width * header.bits * header.channels + 7) // 8 + 1
    most_bytes = int(header.height * row_bytes * 1.3) + 65_536  # interlaced and badly compressed files stay below
    if header._idat_bytes > most_bytes:
        raise _damaged("it holds more data than its pixels need")
    header.stream = b"".join((SIGNATURE, *header._kept))
    header._kept.clear()
    return header


def _damaged(what: str) -> DecodeError:
    """Build the error for a PNG that cannot be read."""
    return DecodeError(f"the PNG is damaged: {what}", "a complete PNG", "get the original file again")
