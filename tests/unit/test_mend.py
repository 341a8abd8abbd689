"""Files that lack their end, or hold bytes that belong to nothing, give all the pixels that are there, and a note."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutray.commands.remove.explain import write_explanation
from cutray.config import RemoverSettings
from cutray.errors import DecodeError, UnknownModelError
from cutray.imaging.decode import decode_image
from cutray.imaging.mend import count_few_rows
from cutray.remover import BackgroundRemover
from tests.pictures import U8, photo, png_chunk, png_file, png_with, saved, with_alpha

HEIGHT, WIDTH = 192, 160
PIXELS = photo(HEIGHT, WIDTH)


def _file(kind: str) -> bytes:
    """Encode the picture in one of many ways."""
    picture = Image.fromarray(PIXELS)
    kinds: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "jpeg": (picture, "JPEG", {"quality": 90}),
        "grey.jpeg": (picture.convert("L"), "JPEG", {}),
        "cmyk.jpeg": (picture.convert("CMYK"), "JPEG", {}),
        "progressive.jpeg": (picture, "JPEG", {"progressive": True}),
        "restarts.jpeg": (picture, "JPEG", {"restart_marker_rows": 1}),
        "png": (picture, "PNG", {}),
        "alpha.png": (Image.fromarray(with_alpha(PIXELS)), "PNG", {}),
        "palette.png": (picture.quantize(64), "PNG", {}),
        "deep.png": (PIXELS[..., 0].astype(np.uint16) * 257, "PNG", {}),
        "webp": (picture, "WEBP", {"quality": 97}),
        "lossless.webp": (picture, "WEBP", {"lossless": True}),
        "alpha.webp": (Image.fromarray(with_alpha(PIXELS)), "WEBP", {"quality": 97}),
        "bmp": (picture, "BMP", {}),
        "tiff": (picture, "TIFF", {}),
        "gif": (picture.quantize(64), "GIF", {}),
        "interlaced.gif": (picture.quantize(64), "GIF", {"interlace": True}),
    }
    pixels, format, options = kinds[kind]
    return saved(pixels, format, **options)


KINDS = (
    "jpeg", "grey.jpeg", "cmyk.jpeg", "progressive.jpeg", "restarts.jpeg", "png", "alpha.png", "palette.png",
    "deep.png", "webp", "lossless.webp", "alpha.webp", "bmp", "tiff", "gif", "interlaced.gif",
)  # fmt: skip


def _wrong_rows(pixels: U8, whole: U8) -> int:
    return int((pixels != whole).any(axis=(1, 2)).sum())


@pytest.mark.parametrize("cut", [1, 3, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_missing_bytes_cost_a_few_rows(kind: str, cut: int) -> None:
    """A file without its last bytes is opened; no more than a few rows differ, and a note says that they do."""
    data = _file(kind)
    whole, image = decode_image(data), decode_image(data[:-cut])
    wrong = _wrong_rows(image.pixels, whole.pixels)
    assert wrong <= count_few_rows(HEIGHT)
    assert len(image.notes) > len(whole.notes) or wrong == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_third_is_refused_unless_allowed(kind: str) -> None:
    """Without a third of its pixels a file is refused; when that is allowed, what is missing becomes transparent."""
    data = _file(kind)
    cut = data[: len(data) * 2 // 3]
    with pytest.raises(DecodeError, match=r"damaged|cannot be decoded"):
        decode_image(cut)
    if kind in ("interlaced.gif", "progressive.jpeg") or "alpha" in kind:
        return
    image, whole = decode_image(cut, allow_damaged=True), decode_image(data)
    assert image.alpha is not None
    seen = image.alpha.max(axis=1) > 0
    assert 0.25 * HEIGHT < (~seen).sum() < HEIGHT
    assert np.abs(image.pixels[seen].astype(int) - whole.pixels[seen]).mean() < 1
    assert any("missing" in note for note in image.notes)


def test_jpeg_without_end_marker_is_whole() -> None:
    """A JPEG without its last two bytes gives the very same pixels."""
    data = _file("jpeg")
    image = decode_image(data[:-2])
    assert np.array_equal(image.pixels, decode_image(data).pixels)
    assert image.notes == ("the end marker is missing; all pixels are there",)
    zeroed = decode_image(data[:-2] + bytes(3000))
    assert np.array_equal(zeroed.pixels, image.pixels)


@pytest.mark.parametrize("junk", [b"\x00\x00", b"\xff\xff\xff", b"\r\n", bytes(4096)])
def test_junk_between_segments_is_skipped(junk: bytes) -> None:
    """Bytes between segments, in front of the end and behind it change no pixel."""
    data = _file("jpeg")
    whole = decode_image(data).pixels
    for marker in (b"\xff\xdb", b"\xff\xc0", b"\xff\xc4", b"\xff\xda"):
        at = data.index(marker)
        image = decode_image(data[:at] + junk + data[at:])
        assert np.array_equal(image.pixels, whole)
        assert image.notes == (() if junk == b"\xff\xff\xff" else (f"{len(junk)} bytes between segments skipped",))
    if len(junk) < 1000:  # more of them in front of all segments would look like some other file
        assert np.array_equal(decode_image(data[:2] + junk + data[2:]).pixels, whole)
    assert np.array_equal(decode_image(data[:-2] + junk + data[-2:]).pixels, whole)
    assert np.array_equal(decode_image(data + junk + b"\xff\xda").pixels, whole)


def test_pixels_with_a_wrong_sum_of_their_own() -> None:
    """A PNG that is complete but for the sum behind its pixels is taken, and the note does not speak of its end."""
    data = saved(PIXELS, "PNG")
    at = data.index(b"IDAT")
    payload = data[at + 4 : data.index(b"IEND") - 8]
    wrong = png_with(data[: at - 4] + data[-12:], png_chunk(b"IDAT", payload[:-1] + bytes((payload[-1] ^ 1,))))
    image = decode_image(wrong)
    assert np.array_equal(image.pixels, PIXELS)
    assert image.notes == ("a checksum is wrong; all pixels are there",)


def test_an_early_end_marker_is_found() -> None:
    """A JPEG that was cut in the middle and given an end marker is no whole picture; a grey one is."""
    data = _file("jpeg")
    with pytest.raises(DecodeError, match="rows are missing"):
        decode_image(data[: len(data) // 2].rstrip(b"\xff") + b"\xff\xd9")
    grey = decode_image(saved(np.full((40, 40, 3), 128, np.uint8), "JPEG"))
    assert grey.notes == ()
    assert (grey.pixels == 128).all()


def test_missing_scans_are_found() -> None:
    """A progressive JPEG without its last scans has less detail: refused, or taken with a note."""
    data = _file("progressive.jpeg")
    cut = data[: data.rindex(b"\xff\xda")]
    with pytest.raises(DecodeError, match="scans are missing"):
        decode_image(cut)
    assert "less detail" in decode_image(cut, allow_damaged=True).notes[0]


def test_png_without_last_chunk_is_whole() -> None:
    """A PNG without its last chunk, with junk in its place, or with the checksum missing gives all pixels."""
    data = saved(PIXELS, "PNG")
    for damaged in (data[:-12], data[:-5], data[:-16], data[:-12] + b"\x00\x00\x00\x04junk" + bytes(50)):
        image = decode_image(damaged)
        assert np.array_equal(image.pixels, PIXELS)
        assert image.notes == ("the last chunk is missing; all pixels are there",)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("color", [0, 2, 3, 4, 6])
def test_interlaced_pngs_are_mended(color: int, bits: int) -> None:
    """Of an interlaced PNG the last pass may lack a few rows."""
    if color == 3 and bits == 16:
        return
    height, width, channels = 64, 40, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    rng = np.random.default_rng(color)
    raw = b""
    for left, top, across, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):  # fmt: skip  # noqa: E501
        columns = -(-(width - left) // across)
        for _ in range(-(-(height - top) // down)):
            raw += b"\x00" + rng.bytes(columns * channels * bits // 8)
    palette = (png_chunk(b"PLTE", rng.bytes(768)),) if color == 3 else ()

    def build(rows: bytes) -> bytes:
        data = bytearray(png_file(width, height, bits, color, rows, *palette))
        data[28] = 1  # interlaced
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        return bytes(data)

    whole = decode_image(build(raw))
    row_bytes = width * channels * bits // 8 + 1
    for cut in (1, row_bytes, 3 * row_bytes):
        image = decode_image(build(raw[:-cut]))
        assert 0 < _wrong_rows(image.pixels, whole.pixels) <= 3
        assert "missing" in image.notes[0]
    with pytest.raises(DecodeError):
        decode_image(build(raw[: len(raw) // 2]))


def test_wrong_checksums_cost_nothing_when_the_pixels_are_right() -> None:
    """A wrong checksum over right pixels is noted; over wrong ones the file is refused."""
    data = bytearray(saved(PIXELS, "PNG"))
    at = data.index(b"IDAT")
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    data[end] ^= 1
    image = decode_image(bytes(data))
    assert np.array_equal(image.pixels, PIXELS)
    assert image.notes == ("a checksum is wrong; all pixels are there",)
    data[end - 2000] ^= 1
    with pytest.raises(DecodeError, match="checksum of a IDAT"):
        decode_image(bytes(data))
    header = bytearray(saved(PIXELS, "PNG"))
    header[29] ^= 1
    assert np.array_equal(decode_image(bytes(header)).pixels, PIXELS)


@pytest.mark.parametrize("kind", [b"tEXt", b"gAMA", b"pHYs", b"tIME", b"PLTE", b"tRNS"])
def test_damaged_ancillary_chunks_are_ignored(kind: bytes) -> None:
    """A chunk that the pixels do not need may have a wrong checksum."""
    chunk = bytearray(png_chunk(kind, bytes(6)))
    chunk[-1] ^= 1
    image = decode_image(png_with(saved(PIXELS, "PNG"), bytes(chunk)))
    assert np.array_equal(image.pixels, PIXELS)
    assert image.alpha is None
    assert image.notes == (("damaged transparency ignored",) if kind == b"tRNS" else ())


def test_bmp_reserved_fields_may_hold_anything() -> None:
    """The two reserved fields of a BMP's header are of no interest."""
    data = bytearray(saved(PIXELS, "BMP"))
    data[6:10] = b"\x01\x02\x03\x04"
    assert np.array_equal(decode_image(bytes(data)).pixels, PIXELS)


def _bmp_with_alpha(alpha: U8, *, top_down: bool = False) -> bytes:
    """Return a 32-bit BMP with a version 4 header, which calls the fourth byte alpha."""
    rows = np.dstack([PIXELS[..., ::-1], alpha])
    pixels = np.ascontiguousarray(rows if top_down else rows[::-1]).tobytes()
    height = -HEIGHT if top_down else HEIGHT
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII4I", 108, WIDTH, height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0, *masks)
    header += b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + pixels


def test_alpha_of_zero_everywhere_is_no_transparency() -> None:
    """Screen grabbers leave the fourth byte of a BMP at 0: the picture is opaque. Any other alpha counts."""
    image = decode_image(_bmp_with_alpha(np.zeros((HEIGHT, WIDTH), np.uint8)))
    assert np.array_equal(image.pixels, PIXELS)
    assert image.alpha is None
    assert image.notes == ("alpha is 0 everywhere and was ignored",)
    real = with_alpha(PIXELS)[..., 3]
    alpha = decode_image(_bmp_with_alpha(real)).alpha
    assert alpha is not None
    assert np.array_equal(alpha, real)
    tiff = decode_image(saved(np.dstack([PIXELS, np.zeros((HEIGHT, WIDTH), np.uint8)]), "TIFF"))
    assert tiff.alpha is None
    empty = decode_image(saved(np.dstack([PIXELS, np.zeros((HEIGHT, WIDTH), np.uint8)]), "PNG"))
    assert empty.alpha is not None  # where alpha means alpha, nothing is there


@pytest.mark.parametrize("top_down", [False, True])
def test_bmp_rows_are_missing_where_the_file_ends(top_down: bool) -> None:
    """A BMP stores its last row first, unless its height is negative: the missing rows are at that end."""
    data = _bmp_with_alpha(np.full((HEIGHT, WIDTH), 255, np.uint8), top_down=top_down)
    image = decode_image(data[: -5 * WIDTH * 4])
    wrong = np.flatnonzero((image.pixels != PIXELS).any(axis=(1, 2)))
    assert list(wrong) == list(range(HEIGHT - 5, HEIGHT) if top_down else range(5))


def test_missing_rows_repeat_their_neighbour() -> None:
    """What a few missing rows show is the nearest row that is there."""
    data = saved(PIXELS, "TIFF")
    image = decode_image(data[: -4 * WIDTH * 3])
    assert np.array_equal(image.pixels[:-5], PIXELS[:-5])
    assert (image.pixels[-4:] == image.pixels[-5]).all()


def test_explaining_takes_the_photos_that_are_allowed(tmp_path: Path) -> None:
    """What --allow-damaged takes for a cutout gets as far as the network for its explanation, too."""
    path = tmp_path / "half.jpg"
    path.write_bytes(_file("jpeg")[: len(_file("jpeg")) * 2 // 3])
    remover = BackgroundRemover.__new__(BackgroundRemover)  # as it arrives by pickle: without a network
    remover.__setstate__({"settings": RemoverSettings(model="nowhere.onnx", allow_damaged=True)})
    with pytest.raises(UnknownModelError):
        write_explanation(remover, path, tmp_path / "why.png", overwrite=False)
