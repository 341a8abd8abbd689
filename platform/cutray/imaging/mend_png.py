"""Rebuild a PNG that lacks its last chunk, the end of its pixels, or a right checksum."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from cutray.imaging.mend import lacks_rows
from cutray.imaging.png_header import SIGNATURE, PngHeader

_UP = 2  # this filter with nothing but zeros repeats the row above
_BLOCK_BYTES = 1 << 16
# First column and row, and the steps between columns and rows, of each pass of an interlaced picture.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def rebuild_png(header: PngHeader, *, allow_damaged: bool) -> tuple[bytes, npt.NDArray[np.bool_], list[str]]:
    """Build a whole PNG from what is there.

    Source: PNG (Third Edition), sections 7.2 (scanlines), 8 (interlacing), 9.2 (filter type Up), 10.2 (zlib).

    Args:
        header: The file's chunks.
        allow_damaged: Accept more than a few missing rows.

    Returns:
        The PNG, (H,) bool of the rows that had to be made up, and notes.

    Raises:
        DecodeError: What is missing cannot be told apart from what is there.
    """
    layout = _row_layout(header)
    expected = sum(rows * row_bytes for rows, row_bytes in layout)
    packed = b"".join(payload for kind, payload in header.chunks if kind == b"IDAT")
    raw, verified = _inflate(packed, expected)
    if header.bad_checksums - {b"tRNS"} and not (verified and len(raw) == expected) and not allow_damaged:
        wrong = ", ".join(sorted(kind.decode("latin-1") for kind in header.bad_checksums))
        raise lacks_rows("PNG", f"the checksum of a {wrong} chunk is wrong")
    missing = _cut_to_whole_rows(raw, layout, header)
    notes = []
    if not missing.any():
        # A complete file without a wrong chunk is here because the sum behind its pixels is wrong.
        wrong_sum = bool(header.bad_checksums) or header.complete
        what = "a checksum is wrong" if wrong_sum else "the last chunk is missing"
        notes = [f"{what}; all pixels are there"]
    kept = [(kind, bytes(payload)) for kind, payload in header.chunks if kind not in (b"IDAT", b"IEND")]
    chunks = [*kept, (b"IDAT", zlib.compress(raw, 1)), (b"IEND", b"")]
    return SIGNATURE + b"".join(_frame(kind, payload) for kind, payload in chunks), missing, notes


def _row_layout(header: PngHeader) -> list[tuple[int, int]]:
    """Return rows and bytes a row, with the filter's byte, of each pass."""
    passes = _PASSES if header.interlaced else ((0, 0, 1, 1),)
    layout = []
    for left, top, across, down in passes:
        columns, rows = -(-(header.width - left) // across), -(-(header.height - top) // down)
        if columns > 0 and rows > 0:
            layout.append((rows, (columns * header.bits * header.channels + 7) // 8 + 1))
    return layout


def _inflate(packed: bytes, expected: int) -> tuple[bytearray, bool]:
    """Inflate as much as there is, and tell whether the stream's own checksum is right."""
    inflater, raw = zlib.decompressobj(-15), bytearray()
    try:
        for at in range(2, len(packed), _BLOCK_BYTES):  # behind the two bytes of the zlib header
            raw += inflater.decompress(packed[at : at + _BLOCK_BYTES], expected + 1 - len(raw))
            if inflater.eof or len(raw) > expected:
                break
    except zlib.error:
        return raw, False
    check = int.from_bytes(inflater.unused_data[:4], "big")
    return raw, inflater.eof and len(inflater.unused_data) >= 4 and check == zlib.adler32(raw)


def _cut_to_whole_rows(
    raw: bytearray, layout: list[tuple[int, int]], header: PngHeader
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Drop half a row at the end, repeat the last whole row to the end, and return which rows were made up."""
    missing = np.zeros(header.height, np.bool_)
    del raw[sum(rows * row_bytes for rows, row_bytes in layout) :]
    end = 0
    for number, (rows, row_bytes) in enumerate(layout):
        there = min(rows, (len(raw) - end) // row_bytes)
        end += there * row_bytes
        if there == rows:
            continue
        if number < len(layout) - 1 or there == 0:
            raise lacks_rows("PNG", "most of its rows are missing")
        step = 2 if header.interlaced and header.height > 1 else 1
        missing[step * there + step - 1 :: step] = True
        del raw[end:]
        raw += (bytes((_UP,)) + bytes(row_bytes - 1)) * (rows - there)
    return missing


def _frame(kind: bytes, payload: bytes) -> bytes:
    """Frame a payload as a chunk."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
