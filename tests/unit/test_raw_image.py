"""Every mode and depth has a stated 8-bit value, and 16-bit samples are exact."""

from __future__ import annotations

import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from cutray.errors import DecodeError, InputError, ShapeMismatchError
from cutray.imaging.decode import DecodedImage, decode_image, from_array, from_pil
from cutray.imaging.encode import encode_image
from cutray.imaging.raw_image import to_uint8
from tests.pictures import (
    grey_profile,
    photo,
    png_chunk,
    png_with,
    wide_profile,
    with_alpha,
    with_tiff_tag,
)


def solid(mode: str, value: Any) -> Image.Image:
    """Return a Pillow image of 2 x 3 equal pixels."""
    return Image.new(mode, (3, 2), value)


@pytest.mark.parametrize(
    ("image", "colour", "alpha"),
    [
        (solid("1", 1), (255, 255, 255), None),
        (solid("L", 77), (77, 77, 77), None),
        (solid("LA", (10, 20)), (10, 10, 10), 20),
        (solid("La", (10, 20)), (127, 127, 127), 20),
        (solid("P", 0), (0, 0, 0), None),
        (solid("RGB", (1, 2, 3)), (1, 2, 3), None),
        (solid("RGBA", (1, 2, 3, 4)), (1, 2, 3), 4),
        (solid("RGBA", (1, 2, 3, 255)), (1, 2, 3), None),
        (solid("RGBa", (1, 2, 3, 4)), (63, 127, 191), 4),
        (solid("RGBX", (1, 2, 3, 9)), (1, 2, 3), None),
        (solid("RGBA", (1, 2, 3, 4)).quantize(2).convert("PA"), (1, 2, 3), 4),
        (solid("CMYK", (0, 0, 0, 255)), (0, 0, 0), None),
        (solid("CMYK", (255, 0, 0, 0)), (0, 255, 255), None),
        (solid("YCbCr", (100, 128, 128)), (100, 100, 100), None),
        (solid("HSV", (0, 255, 200)), (200, 0, 0), None),
        (solid("LAB", (255, 128, 128)), (255, 255, 255), None),
        (solid("I;16", 20_000), (78, 78, 78), None),
        (solid("I;16", 65_535), (255, 255, 255), None),
        (solid("I", 200), (200, 200, 200), None),
        (solid("I", 51_400), (200, 200, 200), None),
        (solid("F", 0.2), (51, 51, 51), None),
        (solid("F", 200.0), (200, 200, 200), None),
        (solid("F", 51_400.0), (200, 200, 200), None),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_modes_have_stated_values(image: Image.Image, colour: tuple[int, int, int], alpha: int | None) -> None:
    """Each Pillow mode is converted to the stated RGB and alpha, and the image itself stays as it is."""
    before = (image.mode, image.size, image.tobytes())
    decoded = from_pil(image)
    step = 1 if image.mode == "LAB" else 0  # the colour engine rounds
    assert np.abs(decoded.pixels.astype(int) - np.full((2, 3, 3), colour)).max() <= step
    assert (decoded.alpha is None) == (alpha is None)
    if decoded.alpha is not None:
        assert np.array_equal(decoded.alpha, np.full((2, 3), alpha))
    assert (image.mode, image.size, image.tobytes()) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9, -0.5])
def test_numbers_without_meaning_are_refused(value: float) -> None:
    """Float samples that are not finite, negative or above 65535 are decode errors."""
    with pytest.raises(DecodeError, match="range"):
        from_pil(solid("F", value))
    with pytest.raises(DecodeError):
        from_pil(solid("I", -1))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    """A 16-bit gradient comes out as an 8-bit gradient, each value rounded to nearest."""
    ramp = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(np.arange(65_536) / 257).reshape(256, 256)
    assert np.array_equal(to_uint8(ramp), expected)
    for format in ("PNG", "TIFF"):
        decoded = decode_image(encode_image(ramp, format))
        assert np.array_equal(decoded.pixels[..., 1], expected)
        assert decoded.notes == ("16-bit reduced to 8",)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_pixels_are_exact(format: str, channels: int) -> None:
    """With ``uint16`` 16-bit samples come back unchanged, in RGB order, next to their 8-bit version."""
    values = np.random.default_rng(3).integers(0, 65_536, (9, 7, channels), dtype=np.uint16)
    decoded = decode_image(encode_image(values[..., 0] if channels == 1 else values, format), keep_uint16=True)
    colours = np.repeat(values, 3, axis=2) if channels == 1 else values[..., :3]
    assert decoded.pixels_uint16 is not None
    assert np.array_equal(decoded.pixels_uint16, colours)
    assert np.array_equal(decoded.pixels, to_uint8(colours))
    if channels == 4:
        assert decoded.alpha is not None
        assert np.array_equal(decoded.alpha, to_uint8(values[..., 3]))


def test_deep_grey_of_another_scale_is_reduced() -> None:
    """Grey samples whose profile moves their tones come back in 8 bits, converted, and never as they are stored."""
    values = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)

    def decode(profile: bytes) -> DecodedImage:
        chunk = png_chunk(b"iCCP", b"test\0\0" + zlib.compress(profile))
        return decode_image(png_with(encode_image(values, "PNG"), chunk), keep_uint16=True)

    light = decode(grey_profile(1.0))
    assert light.pixels_uint16 is None
    assert light.notes == ("16-bit reduced to 8 by the conversion to sRGB",)
    assert light.pixels[4, 0, 0] > to_uint8(values)[4, 0] + 40
    for of_no_effect in (grey_profile(None), wide_profile()):  # the curve of sRGB, and one for other pictures
        kept = decode(of_no_effect).pixels_uint16
        assert kept is not None
        assert np.array_equal(kept[..., 1], values)


def test_premultiplied_deep_tiff_becomes_straight() -> None:
    """Associated alpha in a 16-bit TIFF is divided out."""
    stored = np.full((4, 4, 4), (10_000, 5_000, 0, 32_768), np.uint16)
    decoded = decode_image(with_tiff_tag(encode_image(stored, "TIFF"), 338, 1), keep_uint16=True)
    assert decoded.pixels_uint16 is not None
    assert np.abs(decoded.pixels_uint16[0, 0].astype(int) - (20_000, 10_000, 0)).max() <= 1


def test_float_rgb_tiff_is_read() -> None:
    """A floating-point RGB TIFF within [0, 1] is scaled to white."""
    values = np.random.default_rng(4).random((8, 6, 3)).astype(np.float32)
    done, data = cv2.imencode(".tiff", values[..., ::-1])
    assert done
    assert np.abs(decode_image(data.tobytes()).pixels - values * 255).max() < 0.51


def test_arrays_of_every_kind() -> None:
    """Arrays of allowed shapes and types give the expected pixels and alpha."""
    picture = photo(5, 6)
    assert np.array_equal(from_array(picture).pixels, picture)
    assert np.array_equal(from_array(picture[..., :1]).pixels, np.repeat(picture[..., :1], 3, axis=2))
    assert np.array_equal(from_array(picture[::-1, ::-1]).pixels, picture[::-1, ::-1])
    assert np.array_equal(from_array(picture.astype(">u2") * 257).pixels, picture)
    assert np.array_equal(from_array(picture / 255).pixels, picture)
    assert np.array_equal(from_array((picture / np.float32(255)).astype(np.float32)).pixels, picture)
    assert from_array(np.array([[True, False]])).pixels[0, :, 0].tolist() == [255, 0]
    cut = with_alpha(photo(20, 20))
    alpha = from_array(cut).alpha
    assert alpha is not None
    assert np.array_equal(alpha, cut[..., 3])
    values = from_array(picture.astype(np.uint16) * 257, keep_uint16=True).pixels_uint16
    assert values is not None
    assert np.array_equal(values, picture.astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros((2, 2, 2), np.uint8), ShapeMismatchError),
        (np.zeros((2,), np.uint8), ShapeMismatchError),
        (np.zeros((0, 3, 3), np.uint8), ShapeMismatchError),
        (np.zeros((1, 2, 2, 3), np.uint8), ShapeMismatchError),
        (np.zeros((2, 2, 3), np.int64), DecodeError),
        (np.full((2, 2), np.nan), DecodeError),
        (np.full((2, 2), 1.5), DecodeError),
        (np.full((2, 2), -0.1), DecodeError),
        (np.array([["a", "b"]]), DecodeError),
        (np.zeros((2, 2), np.complex64), DecodeError),
        ([[1, 2], [3]], DecodeError),
        (None, InputError),
    ],
)
def test_arrays_without_meaning_are_refused(array: Any, error: type[InputError]) -> None:
    """Any other shape, type or range is a typed error."""
    with pytest.raises(error):
        from_array(array)
