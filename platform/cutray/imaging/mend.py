"""Accept pictures whose file ends too early, as long as only a few rows are missing.

What is missing is found by decoding the file twice, with two different continuations: a row that is in the file looks
the same both times. That holds for every format and needs no knowledge of its coding.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cutray.errors import DecodeError
from cutray.imaging.image import StoredFrame
from cutray.imaging.jpeg_header import JpegHeader
from cutray.imaging.raw_image import RawImage
from cutray.imaging.tiff_header import find_strips

_RESTART_0, _RESTARTS = 0xD0, 8
_PAD_BYTES = 4096
_WEBP_ROOM = 1 << 16
_MOST_REAL_ZEROS = 64
# Noise without a byte that could begin a marker; always the same, so that a file always gives the same picture.
_NOISE = tuple(
    bytes(np.random.default_rng(seed).integers(low, high, _PAD_BYTES, dtype=np.uint8))
    for seed, (low, high) in enumerate(((1, 0x7F), (0x80, 0xFE), (1, 0xFE)))
)
# What a file is continued with; not every decoder accepts each of them.
_CONTINUATIONS = (bytes(_PAD_BYTES), *_NOISE, b"\x55" * _PAD_BYTES, b"\xff" * _PAD_BYTES)

Decode = Callable[[bytes], StoredFrame]
Rows = npt.NDArray[np.bool_]


def count_few_rows(height_px: int) -> int:
    """Return how many rows may be missing: about one row of a JPEG's blocks, more in large pictures."""
    return min(height_px // 8, max(20, height_px // 32))


def mend_jpeg(header: JpegHeader, decode: Decode, *, allow_damaged: bool) -> StoredFrame:
    """Decode a JPEG whose scans may end too early.

    Args:
        header: The file's markers; ``stream`` may lack its end.
        decode: Decodes a stream.
        allow_damaged: Accept more than a few missing rows.

    Returns:
        The frame, with a note when something is missing.

    Raises:
        DecodeError: More than a few rows are missing.
    """
    stream = header.stream.removesuffix(b"\xff\xd9")
    if not header.complete:
        # Many zeros in place of the end come from a copy that was cut short; they would be decoded as pixels.
        bare = stream.rstrip(b"\x00")
        stream = (bare if len(stream) - len(bare) >= _MOST_REAL_ZEROS else stream).removesuffix(b"\xff")
    frame = decode(stream + b"\xff\xd9")
    if not header.all_coefficients:
        if not allow_damaged:
            raise lacks_rows("JPEG", "some of its scans are missing")
        frame.notes.append("some scans are missing: the picture has less detail")
        return frame
    missing = np.zeros(header.height, np.bool_)
    for noise in _NOISE[:2]:
        other = decode(stream + _continue_scan(header, stream, noise) + b"\xff\xd9")
        missing |= find_missing_rows(frame.raw, other.raw)
    fill_missing_rows(frame, missing, "JPEG", allow_damaged=allow_damaged)
    if not header.complete and not missing.any():
        frame.notes.append("the end marker is missing; all pixels are there")
    return frame


def mend_by_padding(data: bytes, name: str, decode: Decode, *, allow_damaged: bool) -> StoredFrame | None:
    """Decode a file that is shorter than its own header says.

    Args:
        data: The file.
        name: WEBP, BMP, TIFF or AVIF.
        decode: Decodes a whole file of this format.
        allow_damaged: Accept more than a few missing rows.

    Returns:
        The frame with a note, or None when the file is not too short or no decoder can go on with it.

    Raises:
        DecodeError: More than a few rows are missing.
    """
    missing_bytes = _DECLARED_BYTES[name](data) - len(data)
    if not 0 < missing_bytes <= len(data):
        return None
    lacks_bytes = missing_bytes
    if name == "WEBP":
        data, missing_bytes = _enlarge_webp(data), missing_bytes + _WEBP_ROOM
    frames: list[StoredFrame] = []
    for continuation in _CONTINUATIONS:
        with contextlib.suppress(Exception):  # a decoder raises whatever it likes on what is no picture to it
            frames.append(decode(data + (continuation * (missing_bytes // _PAD_BYTES + 1))[:missing_bytes]))
        if len(frames) == 2:
            break
    else:
        return None
    frame, other = frames
    missing = find_missing_rows(frame.raw, other.raw, from_below=name == "BMP" and _stores_last_row_first(data))
    fill_missing_rows(frame, missing, name, allow_damaged=allow_damaged)
    if not missing.any():
        frame.notes.append(f"the last {lacks_bytes} bytes are missing; all pixels are there")
    return frame


def find_missing_rows(first: RawImage, second: RawImage, *, from_below: bool = False) -> Rows:
    """Find the rows that depend on how a file goes on behind its end.

    Args:
        first: The picture with one continuation.
        second: The picture with another one.
        from_below: Whether the file stores the last row first.

    Returns:
        (H,) bool. Everything behind the first such row is missing too.
    """
    height = first.samples.shape[0]
    if first.samples.shape != second.samples.shape:
        return np.ones(height, np.bool_)
    differ: Rows = (first.samples != second.samples).reshape(height, -1).any(axis=1)
    if first.alpha is not None and second.alpha is not None:
        differ |= (first.alpha != second.alpha).any(axis=1)
    hit = np.flatnonzero(differ)
    if hit.size:
        differ[slice(None, hit[-1]) if from_below else slice(hit[0], None)] = True
    return differ


def fill_missing_rows(frame: StoredFrame, missing: Rows, name: str, *, allow_damaged: bool) -> None:
    """Repeat the nearest row where a few are missing; make them transparent where many are.

    Args:
        frame: The frame; its samples are changed in place, and a note is added.
        missing: (H,) bool.
        name: The format, for the message.
        allow_damaged: Accept more than a few missing rows.

    Raises:
        DecodeError: More than a few rows are missing.
    """
    height, count = len(missing), int(missing.sum())
    if not count:
        return
    few = count <= count_few_rows(height)
    if not few and not allow_damaged:
        raise lacks_rows(name, f"{count} of its {height} rows are missing")
    raw = frame.raw
    if few:
        present = np.flatnonzero(~missing)
        nearest = present[np.abs(np.flatnonzero(missing)[:, None] - present[None]).argmin(axis=1)]
        for plane in (raw.samples, raw.alpha, raw.uint16):
            if plane is not None:
                plane[missing] = plane[nearest]
        frame.notes.append(f"{count} of {height} rows are missing and repeat the row beside them")
        return
    raw.alpha = np.full(raw.samples.shape[:2], 255, np.uint8) if raw.alpha is None else raw.alpha
    raw.alpha[missing] = 0
    frame.notes.append(f"{count} of {height} rows are missing and transparent")


def lacks_rows(name: str, what: str) -> DecodeError:
    """Build the error for a picture of which too much is missing."""
    return DecodeError(
        f"the {name} is damaged: {what}",
        "a picture that lacks no more than a few rows",
        "get the original file again, or allow damaged photos (--allow-damaged)",
    )


def _continue_scan(header: JpegHeader, stream: bytes, noise: bytes) -> bytes:
    """Make up data for the rest of a scan, with restart markers where the scan has them."""
    if not header.restarts:
        return noise
    last = max(range(_RESTARTS), key=lambda number: stream.rfind(bytes((0xFF, _RESTART_0 + number))))
    begun = stream.rfind(bytes((0xFF, _RESTART_0 + last))) >= 0
    numbers = range(last + 1 if begun else 0, last + 65)
    return noise[:64] + b"".join(bytes((0xFF, _RESTART_0 + number % _RESTARTS)) + noise[:64] for number in numbers)


def _enlarge_webp(data: bytes) -> bytes:
    """Announce more bytes of pixels, because WebP's decoder gives up when made-up pixels take more than real ones."""
    larger, at = bytearray(data), 12
    larger[4:8] = struct.pack("<I", int.from_bytes(data[4:8], "little") + _WEBP_ROOM)
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > len(data):
            larger[at + 4 : at + 8] = struct.pack("<I", size + _WEBP_ROOM)
        at += 8 + size + size % 2
    return bytes(larger)


def _declared_riff_bytes(data: bytes) -> int:
    """Return the size that a RIFF file announces."""
    return 8 + int.from_bytes(data[4:8], "little")


def _declared_bmp_bytes(data: bytes) -> int:
    """Return the size of an uncompressed BMP by its header."""
    offset, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        coding = 0
    else:
        width, height, _, bits, coding = struct.unpack_from("<iiHHI", data, 18)
    packed = coding not in (0, 3)  # neither plain nor with bit masks
    return 0 if packed else offset + (width * bits + 31) // 32 * 4 * abs(height)


def _stores_last_row_first(data: bytes) -> bool:
    """Whether a BMP has its last row first; a negative height says that it has not."""
    return data[14] == 12 or int.from_bytes(data[22:26], "little", signed=True) > 0


def _declared_box_bytes(data: bytes) -> int:
    """Return where the last box of an ISO media file ends by its own size."""
    at = 0
    for _ in range(1000):
        if at + 16 > len(data):
            break
        size = int.from_bytes(data[at : at + 4], "big")
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size
        if size < 8:
            break
        at += size
    return at


def _declared_tiff_bytes(data: bytes) -> int:
    """Return where the last strip or tile of the first page of a TIFF ends."""
    return max((offset + size for offset, size in find_strips(data)), default=0)


_DECLARED_BYTES: dict[str, Callable[[bytes], int]] = {
    "WEBP": _declared_riff_bytes,
    "BMP": _declared_bmp_bytes,
    "TIFF": _declared_tiff_bytes,
    "AVIF": _declared_box_bytes,
}
