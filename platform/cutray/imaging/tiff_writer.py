"""Writes TIFF files of 8 or 16 bits, which Pillow cannot do for 16 bits."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from cutray.imaging.provenance import SOFTWARE

_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7
_SIZES = {_ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _UNDEFINED: 1}
_DEFLATE, _HORIZONTAL = 8, 2
_STRIP_BYTES = 1 << 20

_Field = tuple[int, int, list[int] | bytes]


def write_tiff(
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    icc_profile: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> bytes:
    """Encode an array as TIFF, without loss, with deflate and horizontal differencing.

    Source: TIFF 6.0, sections 2 (structure), 8 (baseline fields), 14 (predictor) and 18 (extra samples); Adobe
    Photoshop TIFF technical notes (deflate); ICC.1:2022 annex B.3 (profiles).

    Args:
        pixels: (H, W) grey, (H, W, 3) RGB or (H, W, 4) straight RGBA; uint8 or uint16.
        icc_profile: Profile of the pixels, or None.
        dpi: Horizontal and vertical dots per inch, or None.

    Returns:
        The file, little-endian.
    """
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, width, -1)
    channels = samples.shape[2]
    rows = max(1, _STRIP_BYTES // max(1, samples[0].nbytes))
    strips = [_strip(samples[top : top + rows]) for top in range(0, height, rows)]
    offsets, at = [], 8
    for strip in strips:
        offsets.append(at)
        at += len(strip) + len(strip) % 2
    fields: list[_Field] = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [8 * pixels.dtype.itemsize] * channels),
        (259, _SHORT, [_DEFLATE]),
        (262, _SHORT, [1 if channels == 1 else 2]),
        (273, _LONG, offsets),
        (277, _SHORT, [channels]),
        (278, _LONG, [rows]),
        (279, _LONG, [len(strip) for strip in strips]),
    ]
    if dpi:
        fields += [(282, _RATIONAL, [round(dpi[0] * 1000), 1000]), (283, _RATIONAL, [round(dpi[1] * 1000), 1000])]
    fields.append((284, _SHORT, [1]))
    if dpi:
        fields.append((296, _SHORT, [2]))
    fields.append((305, _ASCII, SOFTWARE.encode() + b"\x00"))
    fields.append((317, _SHORT, [_HORIZONTAL]))
    if channels == 4:
        fields.append((338, _SHORT, [2]))  # unassociated alpha
    if icc_profile:
        fields.append((34675, _UNDEFINED, icc_profile))
    body = b"".join(strip + b"\x00" * (len(strip) % 2) for strip in strips)
    return b"".join((struct.pack("<2sHI", b"II", 42, at), body, _directory(fields, at)))


def _strip(samples: npt.NDArray[Any]) -> bytes:
    """Take differences along the rows and compress them."""
    little = samples.astype(samples.dtype.newbyteorder("<"))
    little[:, 1:] -= samples[:, :-1]
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compress(little.data, 1)
    return bytes(isal_zlib.compress(little.data, 1))


def _directory(fields: list[_Field], at: int) -> bytes:
    """Lay out the directory at an offset, with long values behind it."""
    entries, behind = [], bytearray()
    behind_at = at + 2 + 12 * len(fields) + 4
    for tag, kind, values in fields:
        if isinstance(values, bytes):
            payload = values
        else:
            payload = struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        count = len(payload) // _SIZES[kind]
        if len(payload) <= 4:
            entries.append(struct.pack("<HHI", tag, kind, count) + payload.ljust(4, b"\x00"))
            continue
        entries.append(struct.pack("<HHII", tag, kind, count, behind_at + len(behind)))
        behind += payload + b"\x00" * (len(payload) % 2)
    return b"".join((struct.pack("<H", len(fields)), *entries, struct.pack("<I", 0), bytes(behind)))
