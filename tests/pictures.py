"""Makes small test pictures: photos, every EXIF orientation, colour profiles and raw PNG chunks."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from cutray.removal import Removal

U8 = npt.NDArray[np.uint8]


def photo(height: int, width: int, seed: int = 0) -> U8:
    """Return a smooth, slightly noisy colour picture, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 32), max(2, width // 32), 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    noisy: U8 = np.clip(smooth.astype(np.int16) + rng.integers(-5, 6, smooth.shape), 0, 255).astype(np.uint8)
    return noisy


def with_alpha(pixels: U8) -> U8:
    """Add a round, soft alpha channel, straight, giving (H, W, 4) uint8."""
    height, width = pixels.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    distance = np.hypot(rows - height / 2, columns - width / 2)
    alpha = np.clip((min(height, width) * 0.35 - distance) * 30 + 128, 0, 255).astype(np.uint8)
    return np.dstack([pixels, alpha])


def blocks() -> U8:
    """Return six flat, different blocks of 16 x 16, so that lossy formats keep them apart: (32, 48, 3)."""
    colours = np.array(
        [[(220, 40, 40), (40, 200, 40), (40, 40, 220)], [(230, 230, 40), (30, 30, 30), (240, 240, 240)]], np.uint8
    )
    return np.repeat(np.repeat(colours, 16, axis=0), 16, axis=1)


def stored_for(pixels: U8, orientation: int) -> U8:
    """Return what a camera stores under an orientation so that it is seen as ``pixels``."""
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(undo[orientation](pixels))


def exif_with(value: Any, kind: int = 3) -> bytes:
    """Return an EXIF block whose orientation tag holds a value (kind 3: number, 2: text)."""
    payload = struct.pack("<HH", value, 0) if kind == 3 else bytes(value).ljust(4, b"\x00")[:4]
    entry = struct.pack("<HHI", 0x0112, kind, 1) + payload
    return b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + struct.pack("<H", 1) + entry + bytes(4)


def saved(pixels: npt.NDArray[Any] | Image.Image, format: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    sink = io.BytesIO()
    image.save(sink, format=format, **options)
    return sink.getvalue()


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    """Frame a payload as a PNG chunk."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png_file(width: int, height: int, bits: int, colour: int, raw: bytes, *extra: bytes) -> bytes:
    """Return a PNG of given header, filtered rows and extra chunks in front of the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(raw, 6))
    return b"".join((b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header), *extra, pixels, png_chunk(b"IEND", b"")))


def png_with(png: bytes, *chunks: bytes) -> bytes:
    """Put chunks behind a PNG's header chunk."""
    return png[:33] + b"".join(chunks) + png[33:]


def _profile(space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Lay out an ICC version 2 profile."""
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, payload in tags.items():
        padded = payload + bytes(-len(payload) % 4)
        table += name + struct.pack(">II", at + len(body), len(payload))
        body += padded
    header = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), b"\0\0\0\0", 0x02400000, kind, space, connection)
    header = header.ljust(36, b"\0") + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + table + body


def _description(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(78)


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(value * 65_536) for value in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def _srgb_curve() -> bytes:
    tones = np.linspace(0, 1, 1024)
    light = np.where(tones <= 0.04045, tones / 12.92, ((tones + 0.055) / 1.055) ** 2.4)
    return b"curv\0\0\0\0" + struct.pack(">I", 1024) + np.rint(light * 65_535).astype(">u2").tobytes()


def wide_profile() -> bytes:
    """Return an RGB profile with the primaries of Adobe RGB (1998) under D50 and a gamma of 2.2."""
    tags = {
        b"desc": _description(b"wide test space"),
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": _xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": _xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": _xyz(0.14919, 0.06322, 0.74457),
        **{name: _gamma(2.199) for name in (b"rTRC", b"gTRC", b"bTRC")},
    }
    return _profile(b"RGB ", b"mntr", b"XYZ ", tags)


def prophoto_profile() -> bytes:
    """Return an RGB profile with the very wide primaries of ROMM RGB and a gamma of 1.8."""
    tags = {
        b"desc": _description(b"very wide test space"),
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": _xyz(0.79767, 0.28804, 0.0),
        b"gXYZ": _xyz(0.13519, 0.71187, 0.0),
        b"bXYZ": _xyz(0.03134, 0.00009, 0.8249),
        **{name: _gamma(1.8) for name in (b"rTRC", b"gTRC", b"bTRC")},
    }
    return _profile(b"RGB ", b"mntr", b"XYZ ", tags)


def camera_profile() -> bytes:
    """Return an RGB profile that colours can be converted from, but not to: a table of lightness alone."""
    ramp = bytes(range(256))
    grid = b"".join(bytes((255 * bin(index).count("1") // 3, 128, 128)) for index in range(8))
    identity = struct.pack(">9i", 65_536, 0, 0, 0, 65_536, 0, 0, 0, 65_536)
    lut = b"mft1\0\0\0\0" + bytes((3, 3, 2, 0)) + identity + ramp * 3 + grid + ramp * 3
    tags = {b"desc": _description(b"camera test"), b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"A2B0": lut}
    return _profile(b"RGB ", b"scnr", b"Lab ", tags)


def grey_profile(gamma: float | None = 1.0) -> bytes:
    """Return a grey profile of a given gamma; 1.0 means that the samples are light, None the curve of sRGB."""
    curve = _gamma(gamma) if gamma is not None else _srgb_curve()
    tags = {b"desc": _description(b"grey test"), b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"kTRC": curve}
    return _profile(b"GRAY", b"mntr", b"XYZ ", tags)


def ink_profile() -> bytes:
    """Return a CMYK profile in which only black ink darkens: lightness 100 without it, 50 under full black."""
    ramp = bytes(range(256))
    grid = b"".join(bytes((128 if index & 1 else 255, 128, 128)) for index in range(16))
    identity = struct.pack(">9i", 65_536, 0, 0, 0, 65_536, 0, 0, 0, 65_536)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + grid + ramp * 3
    tags = {b"desc": _description(b"ink test"), b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"A2B0": lut, b"A2B1": lut}
    return _profile(b"CMYK", b"prtr", b"Lab ", tags)


def with_tiff_tag(data: bytes, tag: int, value: int) -> bytes:
    """Return a little-endian TIFF whose directory has one more short tag, or another value for it."""
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    entries = [data[at + 2 + 12 * index : at + 14 + 12 * index] for index in range(count)]
    entries = [entry for entry in entries if entry[:2] != struct.pack("<H", tag)]
    entries.append(struct.pack("<HHIHH", tag, 3, 1, value, 0))
    entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
    body = data + bytes(len(data) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return body[:4] + struct.pack("<I", len(body)) + body[8:] + directory


def differ(one: Removal, two: Removal) -> bool:
    """Say whether two removals of one photo differ by more than their engine does from run to run.

    MNN and PyTorch round otherwise where they get fewer threads: after a fork, or beside other calls. A mask then
    differs by a few steps of 255, and at redrawn hair by more in a few pixels.
    """
    if one.mask.shape != two.mask.shape:
        return True
    steps = np.abs(one.mask.astype(int) - two.mask)
    rounds = one.report.engine.startswith(("mnn", "pytorch"))
    return bool(np.mean(steps > 3) > 1e-3 if rounds else steps.any())
