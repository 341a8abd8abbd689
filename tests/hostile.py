"""Makes hostile files: bombs, floods, damaged pictures and other things with a picture's name."""

from __future__ import annotations

import functools
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pictures import grey_profile, photo, png_chunk, png_file, png_with, saved

MIB = 1 << 20


def strip_png() -> bytes:
    """A PNG of 1 x 60,000,000 pixels."""
    return png_file(1, 60_000_000, 8, 0, bytes(2 * 60_000_000))


def deep_png() -> bytes:
    """A PNG of 88 million pixels with 64 bits each; its rows repeat one compressed block."""
    return png_file(11_000, 8_000, 16, 6, bytes(32 * MIB))


def hollow_png() -> bytes:
    """A PNG that announces 90 million pixels and holds a few rows."""
    return png_file(10_000, 9_000, 8, 6, bytes(1000))


def overfull_png(bits: int) -> bytes:
    """A PNG of 4 x 4 pixels whose pixel data inflates to 128 MiB."""
    return png_file(4, 4, bits, 2, bytes(128 * MIB))


def profile_bomb() -> bytes:
    """A PNG whose colour profile inflates to 128 MiB."""
    bomb = b"bomb\x00\x00" + zlib.compress(bytes(128 * MIB), 9)
    return png_with(saved(photo(16, 16), "PNG"), png_chunk(b"iCCP", bomb))


def text_bomb() -> bytes:
    """A PNG with ten text chunks that inflate to 64 MiB each."""
    bomb = png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(64 * MIB), 9))
    return png_with(saved(photo(16, 16), "PNG"), *[bomb] * 10)


def chunk_flood() -> bytes:
    """A PNG with a million empty private chunks."""
    return png_with(saved(photo(16, 16), "PNG"), png_chunk(b"prVt", b"") * 1_000_000)


def pixel_chunk_flood() -> bytes:
    """A PNG with a million empty pixel chunks."""
    return png_with(saved(photo(16, 16), "PNG"), png_chunk(b"IDAT", b"") * 1_000_000)


def _progressive(side: int) -> tuple[bytes, bytes]:
    """Split a progressive JPEG into what stands before its last scan, and that scan."""
    data = saved(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last], data[last:-2]


def scan_bomb() -> bytes:
    """A progressive JPEG of 16 million pixels whose last scan comes 5,000 times."""
    head, scan = _progressive(4000)
    return head + scan * 5000 + b"\xff\xd9"


def hidden_scan_bomb() -> bytes:
    """The same, behind a comment that contains an end marker."""
    head, scan = _progressive(4000)
    return head + b"\xff\xfe\x00\x06\xff\xd9\xff\xd9" + scan * 5000 + b"\xff\xd9"


def app1_flood() -> bytes:
    """A JPEG with 32 MiB of application segments."""
    data = saved(photo(64, 64), "JPEG")
    segment = b"\xff\xe1\xff\xff" + b"http://ns.adobe.com/xap/1.0/\x00".ljust(65_533, b" ")
    return data[:2] + segment * 512 + data[2:]


def segment_flood() -> bytes:
    """A JPEG with three million empty comments."""
    data = saved(photo(64, 64), "JPEG")
    return data[:2] + b"\xff\xfe\x00\x02" * 3_000_000 + data[2:]


def fill_flood() -> bytes:
    """A JPEG with ten million fill bytes in front of a marker."""
    data = saved(photo(64, 64), "JPEG")
    return data[:2] + b"\xff" * 10_000_000 + data[2:]


def huge_gif_canvas() -> bytes:
    """A GIF with a canvas of 65,535 x 65,535 and a frame of one pixel."""
    data = bytearray(saved(Image.new("P", (1, 1)), "GIF"))
    data[6:10] = struct.pack("<HH", 65_535, 65_535)
    return bytes(data)


def long_gif() -> bytes:
    """A GIF with 20,000 frames."""
    data = saved(Image.new("P", (8, 8)), "GIF")
    start = data.index(b"\x2c")
    frame = b"\x21\xf9\x04\x00\x00\x00\x00\x00" + data[start:-1]
    return data[:start] + frame * 20_000 + b"\x3b"


def long_apng() -> bytes:
    """An animated PNG with 5,000 frames."""
    data = saved(photo(16, 16), "PNG")
    pixels_at = data.index(b"IDAT") - 4
    size = int.from_bytes(data[pixels_at : pixels_at + 4], "big")
    pixels, end = data[pixels_at + 8 : pixels_at + 8 + size], data[pixels_at + 12 + size :]
    control = struct.pack(">IIIIHHBB", 16, 16, 0, 0, 1, 10, 0, 0)
    frames = [png_chunk(b"fcTL", struct.pack(">I", 0) + control), data[pixels_at : pixels_at + 12 + size]]
    for index in range(4999):
        frames.append(png_chunk(b"fcTL", struct.pack(">I", 2 * index + 1) + control))
        frames.append(png_chunk(b"fdAT", struct.pack(">I", 2 * index + 2) + pixels))
    animation = png_chunk(b"acTL", struct.pack(">II", 5000, 0))
    return data[:33] + animation + data[33:pixels_at] + b"".join(frames) + end


def huge_webp_canvas() -> bytes:
    """A WebP that announces a canvas of 16,384 x 16,384 around a small picture."""
    data = bytearray(saved(photo(16, 16), "WEBP", exif=b"Exif\x00\x00", icc_profile=grey_profile()))
    data[24:30] = (16_383).to_bytes(3, "little") * 2
    return bytes(data)


def huge_tiff() -> bytes:
    """A TIFF whose directory announces 100,000 x 100,000 pixels."""
    data = bytearray(saved(photo(8, 8), "TIFF"))
    at = int.from_bytes(data[4:8], "little")
    for entry in range(int.from_bytes(data[at : at + 2], "little")):
        place = at + 2 + 12 * entry
        if int.from_bytes(data[place : place + 2], "little") in (256, 257):
            data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 100_000)
    return bytes(data)


def looping_tiff() -> bytes:
    """A TIFF whose only directory names itself as the next one."""
    data = bytearray(saved(photo(8, 8), "TIFF"))
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    data[at + 2 + 12 * count : at + 6 + 12 * count] = data[4:8]
    return bytes(data)


def huge_bmp() -> bytes:
    """A BMP that announces 60,000 x 60,000 pixels."""
    data = bytearray(saved(photo(8, 8), "BMP"))
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    return bytes(data)


BOMBS: Mapping[str, Callable[[], bytes]] = {
    "strip.png": strip_png,
    "deep.png": deep_png,
    "hollow.png": hollow_png,
    "overfull-8.png": functools.partial(overfull_png, 8),
    "overfull-16.png": functools.partial(overfull_png, 16),
    "profile.png": profile_bomb,
    "text.png": text_bomb,
    "chunks.png": chunk_flood,
    "pixel-chunks.png": pixel_chunk_flood,
    "scans.jpg": scan_bomb,
    "hidden-scans.jpg": hidden_scan_bomb,
    "app1.jpg": app1_flood,
    "segments.jpg": segment_flood,
    "fill.jpg": fill_flood,
    "canvas.gif": huge_gif_canvas,
    "frames.gif": long_gif,
    "frames.png": long_apng,
    "canvas.webp": huge_webp_canvas,
    "huge.tiff": huge_tiff,
    "loop.tiff": looping_tiff,
    "huge.bmp": huge_bmp,
}


class _Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def canary_pickle(path: Path, protocol: int = 4) -> bytes:
    """Return a pickle that creates a folder when it is loaded."""
    return pickle.dumps(_Canary(path), protocol)


def impostors() -> dict[str, bytes]:
    """Return files of other types, all of which get a picture's name."""
    return {
        "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "PDF": b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n%%EOF",
        "zip": b"PK\x03\x04" + bytes(60),
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        "Photoshop": b"8BPS\x00\x01" + bytes(60),
        "pickle": canary_pickle(Path("unused")),
        "MVG": b"push graphic-context\nimage over 0,0 0,0 'https://example.com/x'\n",
        "playlist": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
        "web page": b"<!DOCTYPE html><html></html>",
        "gzip": b"\x1f\x8b\x08" + bytes(20),
        "video": b"\x00\x00\x00\x18ftypisom" + bytes(40),
        "icon": b"\x00\x00\x01\x00\x01\x00" + bytes(40),
        "NumPy": b"\x93NUMPY\x01\x00" + bytes(60),
        "raw": b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(60),
    }


def small_samples() -> dict[str, bytes]:
    """Return a small intact picture of every format, and of the less usual kinds, by name."""
    pixels = photo(40, 56)
    rng = np.random.default_rng(5)
    deep = rng.integers(0, 65_536, (20, 28), dtype=np.uint16)
    return {
        "plain.jpg": saved(pixels, "JPEG", quality=85, exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00"),
        "progressive.jpg": saved(pixels, "JPEG", progressive=True),
        "cmyk.jpg": saved(Image.fromarray(pixels).convert("CMYK"), "JPEG"),
        "plain.png": saved(pixels, "PNG"),
        "palette.png": saved(Image.fromarray(pixels).quantize(16), "PNG", transparency=3),
        "deep.png": saved(deep, "PNG"),
        "plain.webp": saved(pixels, "WEBP"),
        "lossless.webp": saved(pixels, "WEBP", lossless=True),
        "plain.avif": saved(pixels, "AVIF", speed=10),
        "plain.tiff": saved(pixels, "TIFF"),
        "deflate.tiff": saved(pixels, "TIFF", compression="tiff_adobe_deflate"),
        "plain.bmp": saved(pixels, "BMP"),
        "plain.gif": saved(Image.fromarray(pixels).quantize(16), "GIF"),
    }
