"""Pictures come out upright, whatever way their format stores the orientation."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutray.errors import DecodeError
from cutray.imaging.decode import decode_image, from_pil
from cutray.imaging.encode import encode_image
from tests.pictures import (
    blocks,
    exif_with,
    photo,
    saved,
    stored_for,
    with_tiff_tag,
)

LOSSY = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}, "AVIF": {"quality": 95, "speed": 10}}
CENTRES = np.s_[8::16, 8::16]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_orientation_is_applied_once(format: str, orientation: int) -> None:
    """Whatever way a picture is stored, it comes out as it is meant to be seen."""
    data = saved(stored_for(blocks(), orientation), format, exif=exif_with(orientation), **LOSSY.get(format, {}))
    pixels = decode_image(data).pixels
    assert pixels.shape == blocks().shape
    assert np.abs(pixels[CENTRES].astype(int) - blocks()[CENTRES]).max() <= (12 if format in LOSSY else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_tiff_orientation_is_applied_once(depth: type, orientation: int) -> None:
    """A TIFF's orientation tag is applied at both depths."""
    stored: Any = stored_for(blocks(), orientation).astype(depth)
    stored *= depth(257 if depth is np.uint16 else 1)
    decoded = decode_image(with_tiff_tag(encode_image(stored, "TIFF"), 274, orientation), keep_uint16=True)
    assert np.array_equal(decoded.pixels, blocks())
    assert (decoded.pixels_uint16 is not None) == (depth is np.uint16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_orientation_is_applied_once(orientation: int) -> None:
    """A HEIC that is turned by its container is not turned again by its EXIF."""
    heif = pytest.importorskip("pillow_heif")
    picture = heif.from_pillow(Image.fromarray(stored_for(blocks(), orientation)))
    sink = io.BytesIO()
    try:
        picture.save(sink, quality=95, exif=exif_with(orientation))
    except (RuntimeError, ValueError, OSError):
        pytest.skip("this build of pillow_heif cannot write")
    pixels = decode_image(sink.getvalue()).pixels
    assert pixels.shape == blocks().shape
    assert np.abs(pixels[CENTRES].astype(int) - blocks()[CENTRES]).max() <= 12


@pytest.mark.parametrize(
    "exif", [exif_with(0), exif_with(9), exif_with(b"6", 2), b"Exif\x00\x00II*\x00\xff\xff\xff\xff"]
)
def test_meaningless_orientations_are_ignored(exif: bytes) -> None:
    """Orientation 0, 9, text and damaged EXIF leave the picture as it is stored."""
    assert np.array_equal(decode_image(saved(blocks(), "PNG", exif=exif)).pixels, blocks())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP"])
def test_resolution_is_read_and_turned(format: str) -> None:
    """Dots per inch are returned, and exchanged when the picture is turned by a quarter."""
    dpi = decode_image(saved(photo(10, 12), format, dpi=(300, 150))).dpi
    assert dpi == pytest.approx((300, 150), rel=0.01)
    if format == "PNG":
        turned = decode_image(saved(photo(10, 12), format, dpi=(300, 150), exif=exif_with(6))).dpi
        assert turned == pytest.approx((150, 300), rel=0.01)


def test_pil_orientation_is_applied_without_touching_the_image() -> None:
    """A lazily opened Pillow image is turned upright in the result only."""
    image = Image.open(io.BytesIO(saved(stored_for(blocks(), 6), "PNG", exif=exif_with(6))))
    assert np.array_equal(from_pil(image).pixels, blocks())
    assert image.size == (32, 48)
    cut = Image.open(io.BytesIO(saved(photo(50, 50), "JPEG")[:900]))
    with pytest.raises(DecodeError):
        from_pil(cut)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_pillow_images_have_the_resolution_of_their_files(format: str) -> None:
    """Also where a file has none: Pillow makes one up for TIFF."""
    data = saved(photo(10, 12), format)
    with Image.open(io.BytesIO(data)) as image:
        assert from_pil(image).dpi == decode_image(data).dpi
