"""Write TIFF files of 8 or 16 bits, which Pillow cannot do for 16 bits."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from cutray.imaging.exif import Field, encode_directory
from cutray.imaging.metadata import Metadata
from cutray.imaging.provenance import SOFTWARE

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 2, 3, 4, 5, 7
_DEFLATE, _HORIZONTAL = 8, 2
_STRIP_BYTES = 1 << 20
_NOTHING = Metadata()
# Cutray's mark is repeated in front of the pixels: behind them a long profile may keep it far from the file's end.
_MARK = (SOFTWARE.encode() + b"\x00").ljust(len(SOFTWARE) + 2 - len(SOFTWARE) % 2, b"\x00")


def write_tiff(
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    icc_profile: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    metadata: Metadata = _NOTHING,
) -> bytes:
    """Encode an array as TIFF, without loss, with deflate and horizontal differencing.

    Source: TIFF 6.0, sections 2 (structure), 8 (baseline fields), 14 (predictor) and 18 (extra samples); Adobe
    Photoshop TIFF technical notes (deflate); ICC.1:2022 annex B.3 (profiles).

    Args:
        pixels: (H, W) grey, (H, W, 3) RGB or (H, W, 4) straight RGBA; uint8 or uint16.
        icc_profile: Profile of the pixels, or None.
        dpi: Horizontal and vertical dots per inch, or None.
        metadata: What is written besides.

    Returns:
        The file, little-endian.
    """
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, width, -1)
    channels = samples.shape[2]
    rows = max(1, _STRIP_BYTES // max(1, samples[0].nbytes))
    strips = [_strip(samples[top : top + rows]) for top in range(0, height, rows)]
    offsets, at = [], 8 + len(_MARK)
    for strip in strips:
        offsets.append(at)
        at += len(strip) + len(strip) % 2
    fields: dict[int, Field] = {
        256: _longs([width]),
        257: _longs([height]),
        258: _shorts([8 * pixels.dtype.itemsize] * channels),
        259: _shorts([_DEFLATE]),
        262: _shorts([1 if channels == 1 else 2]),
        273: _longs(offsets),
        277: _shorts([channels]),
        278: _longs([rows]),
        279: _longs([len(strip) for strip in strips]),
        284: _shorts([1]),
        317: _shorts([_HORIZONTAL]),
    }
    if dpi:
        fields[282], fields[283] = ((_RATIONAL, struct.pack("<II", round(value * 1000), 1000)) for value in dpi)
        fields[296] = _shorts([2])
    if channels == 4:
        fields[338] = _shorts([2])  # unassociated alpha
    if icc_profile:
        fields[34675] = (_UNDEFINED, icc_profile)
    if metadata.xmp:
        fields[700] = (_BYTE, metadata.xmp)
    if metadata.iptc:
        fields[33723] = (_UNDEFINED, metadata.iptc)
    behind = b""
    if metadata.exif:
        fields |= metadata.exif.image
        behind = encode_directory(metadata.exif.photo, at)
        fields[34665] = _longs([at])
    fields[305] = (_ASCII, SOFTWARE.encode() + b"\x00")
    body = b"".join(strip + b"\x00" * (len(strip) % 2) for strip in strips)
    directory_at = at + len(behind)
    head = struct.pack("<2sHI", b"II", 42, directory_at)
    return b"".join((head, _MARK, body, behind, encode_directory(fields, directory_at)))


def _shorts(values: list[int]) -> Field:
    """Pack numbers of 16 bits."""
    return _SHORT, struct.pack(f"<{len(values)}H", *values)


def _longs(values: list[int]) -> Field:
    """Pack numbers of 32 bits."""
    return _LONG, struct.pack(f"<{len(values)}I", *values)


def _strip(samples: npt.NDArray[Any]) -> bytes:
    """Take differences along the rows and compress them."""
    little = samples.astype(samples.dtype.newbyteorder("<"))
    little[:, 1:] -= samples[:, :-1]
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compress(little.data, 1)
    return bytes(isal_zlib.compress(little.data, 1))
