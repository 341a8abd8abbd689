"""Continue a GIF whose first frame ends too early."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_EXTENSION, _FRAME = 0x21, 0x2C
_MOST_CODE_BITS = 12
_INTERLACED = 0x40
# First row and step of the passes of an interlaced frame.
_PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))


@dataclass(frozen=True, slots=True)
class OpenGif:
    """A GIF whose first frame has no end.

    Attributes:
        data: The file, its last block of pixels made as long as what is there, without an end.
        width: Pixels per row of the frame.
        interlaced: Whether the rows of the frame come in four passes.
    """

    data: bytes
    width: int
    interlaced: bool

    def close(self, rows: int) -> bytes:
        """Continue the frame with its first colour and end it.

        Args:
            rows: For how many rows the continuation lasts at least; 0 only ends the frame.
        """
        blocks = -(-rows * self.width * _MOST_CODE_BITS // (8 * 255))
        return self.data + (b"\xff" + bytes(255)) * blocks + b"\x00\x3b"


def open_gif(data: bytes) -> OpenGif | None:
    """Find the first frame of a GIF that ends too early.

    Source: GIF89a, sections 15 (data sub-blocks), 18 to 22 (screen, frame and their colour tables).

    Args:
        data: The file.

    Returns:
        The file up to its end, or None when the first frame has not begun or has its end.
    """
    at = 13 + _table_bytes(data[10:11])
    while data[at : at + 1] == bytes((_EXTENSION,)):
        end = _end_of_blocks(data, at + 2)
        if end is None:
            return None
        at = end
    if data[at : at + 1] != bytes((_FRAME,)) or at + 10 >= len(data):
        return None
    start = at + 10 + _table_bytes(data[at + 9 : at + 10]) + 1
    if start >= len(data) or _end_of_blocks(data, start) is not None:
        return None
    while start + 1 + data[start] < len(data):
        start += 1 + data[start]
    there = data[start + 1 :]
    closed = data[:start] + (bytes((len(there),)) + there if there else b"")
    return OpenGif(closed, int.from_bytes(data[at + 5 : at + 7], "little"), bool(data[at + 9] & _INTERLACED))


def find_unwritten_rows(indices: npt.NDArray[np.uint8], *, interlaced: bool) -> npt.NDArray[np.bool_]:
    """Find the rows that may have been written by a continuation with the first colour.

    Args:
        indices: (H, W) palette indices of a continued frame.
        interlaced: Whether the rows came in four passes.

    Returns:
        (H,) bool: all rows behind the last pixel of another colour, and the row of that pixel.
    """
    height = len(indices)
    order = np.concatenate([np.arange(first, height, step) for first, step in _PASSES if first < height])
    order = order if interlaced else np.arange(height)
    written = np.flatnonzero(indices[order].any(axis=1))
    missing = np.zeros(height, np.bool_)
    missing[order[int(written[-1]) if written.size else 0 :]] = True
    return missing


def _table_bytes(flags: bytes) -> int:
    """Return the size of the colour table that some flags announce."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _end_of_blocks(data: bytes, at: int) -> int | None:
    """Return the position behind a chain of sub-blocks, or None when the file ends inside it."""
    while at < len(data):
        if data[at] == 0:
            return at + 1
        at += 1 + data[at]
    return None
