"""Every format and kind of file is opened, or refused when something is missing from it."""

from __future__ import annotations

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from cutray.errors import DecodeError, MissingExtraError
from cutray.imaging.decode import decode_image
from tests.pictures import (
    photo,
    png_chunk,
    png_file,
    png_with,
    saved,
    with_alpha,
)


def test_missing_heic_package_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the optional package the error names the install command."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r'pip install "cutray\[heic\]"'):
        decode_image(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100))


def test_transparent_colours_of_png() -> None:
    """A transparency chunk hides its colour in palette, grey, RGB and 16-bit pictures."""
    hide = png_chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    cases = {
        "RGB": png_file(2, 1, 8, 2, b"\x00\x09\x09\x09\x01\x02\x03", hide),
        "grey": png_file(2, 1, 8, 0, b"\x00\x09\x01", png_chunk(b"tRNS", b"\x00\x01")),
        "RGB16": png_file(2, 1, 16, 2, b"\x00" + struct.pack(">6H", 9, 9, 9, 1, 2, 3), hide),
        "grey16": png_file(2, 1, 16, 0, b"\x00" + struct.pack(">2H", 9, 1), png_chunk(b"tRNS", b"\x00\x01")),
        "palette": png_file(2, 1, 8, 3, b"\x00\x00\x01", png_chunk(b"PLTE", bytes(6)), png_chunk(b"tRNS", b"\xff\x00")),
    }
    for name, data in cases.items():
        alpha = decode_image(data).alpha
        assert alpha is not None, name
        assert alpha.tolist() == [[255, 0]], name


@pytest.mark.parametrize("colour", [0, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("hide", [False, True])
def test_packed_pngs_equal_pillow(colour: int, bits: int, hide: bool) -> None:
    """Grey and palette pictures of 1 to 8 bits, with and without transparency, are read as Pillow reads them."""
    rng = np.random.default_rng(bits)
    raw = b"".join(b"\x00" + rng.bytes((33 * bits + 7) // 8) for _ in range(20))
    palette = png_chunk(b"PLTE", rng.bytes(3 << bits)) if colour == 3 else b""
    hidden = png_chunk(b"tRNS", b"\x80\x00" if colour == 3 else b"\x00\x01") if hide else b""
    data = png_file(33, 20, bits, colour, raw, palette, hidden)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    decoded = decode_image(data)
    assert np.array_equal(decoded.pixels, expected[..., :3])
    alpha = np.full((20, 33), 255) if decoded.alpha is None else decoded.alpha
    if colour == 0 and hide:  # by the format's rule; Pillow compares samples of 2 and 4 bits after scaling them
        assert np.array_equal(alpha == 0, expected[..., 0] == 255 // ((1 << bits) - 1))
    else:
        assert np.array_equal(alpha, expected[..., 3])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_pngs_equal_pillow(mode: str) -> None:
    """Ordinary pictures of every mode are read as Pillow reads them."""
    data = saved(Image.fromarray(with_alpha(photo(50, 70))).convert(mode), "PNG")
    decoded = decode_image(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert np.array_equal(decoded.pixels, expected[..., :3])
    assert (decoded.alpha is None) == bool((expected[..., 3] == 255).all())
    if decoded.alpha is not None:
        assert np.array_equal(decoded.alpha, expected[..., 3])


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_fast_jpegs_equal_pillow(subsampling: str, progressive: bool, grey: bool) -> None:
    """The fast JPEG path gives the pixels that Pillow gives."""
    picture = photo(77, 131)[..., 0] if grey else photo(77, 131)
    data = saved(picture, "JPEG", quality=88, subsampling=subsampling, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode_image(data).pixels, expected)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
def test_webps_equal_pillow(lossless: bool, transparent: bool) -> None:
    """Still WebP pictures are read as Pillow reads them."""
    data = saved(with_alpha(photo(61, 83))[..., : 4 if transparent else 3], "WEBP", lossless=lossless, exact=True)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    decoded = decode_image(data)
    assert np.array_equal(decoded.pixels, expected[..., :3])
    assert (decoded.alpha is not None) == transparent
    if decoded.alpha is not None:
        assert np.array_equal(decoded.alpha, expected[..., 3])


def test_first_frame_is_taken_and_noted() -> None:
    """Animations give their first frame and a note that says so."""
    frames = [Image.fromarray(photo(24, 24, seed)) for seed in range(3)]
    for format, note in (
        ("GIF", "first of several frames"),
        ("PNG", "first of 3 frames"),
        ("WEBP", "first of 3 frames"),
        ("AVIF", "first of 3 frames"),
        ("TIFF", "first of several pages"),
    ):
        decoded = decode_image(saved(frames[0], format, save_all=True, append_images=frames[1:]))
        assert decoded.notes == (note,), format
        assert np.abs(decoded.pixels.astype(int) - photo(24, 24, 0)).mean() < 20


def test_checksum_errors_are_found() -> None:
    """A PNG whose pixel chunk does not match its checksum is refused; a damaged comment is not."""
    data = bytearray(saved(photo(16, 16), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 1
    with pytest.raises(DecodeError, match="checksum of a IDAT"):
        decode_image(bytes(data))
    comment = bytearray(png_chunk(b"tEXt", b"Comment\x00hello"))
    comment[-1] ^= 1
    assert decode_image(png_with(saved(photo(16, 16), "PNG"), bytes(comment))).pixels.shape == (16, 16, 3)


@pytest.mark.parametrize("bits", [8, 16])
def test_missing_rows_are_found(bits: int) -> None:
    """A well-formed PNG with fewer rows than it announces is refused at both depths."""
    with pytest.raises(DecodeError):
        decode_image(png_file(20, 40, bits, 2, bytes(20 * (1 + 60 * bits // 8))))
