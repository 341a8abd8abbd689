"""Each output format keeps what it can keep, refuses what it cannot, and leaks no metadata."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from cutray.errors import OptionError, ShapeMismatchError
from cutray.imaging.decode import decode_image
from cutray.imaging.encode import FORMATS, encode_image, parse_format
from cutray.imaging.provenance import SOFTWARE
from tests.pictures import photo, wide_profile, with_alpha

CUTOUT = with_alpha(photo(60, 80))


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats_are_told_by_suffix(suffix: str) -> None:
    """A suffix, a file name and an upper-case path give the same format."""
    assert (
        parse_format(suffix) == parse_format(f"a.b/c{suffix}") == parse_format(f"C{suffix.upper()}") == FORMATS[suffix]
    )


@pytest.mark.parametrize("name", ["x.gif", "x", ".psd", "", "png.exe"])
def test_other_suffixes_are_refused(name: str) -> None:
    """Any other ending is an option error that lists what is allowed."""
    with pytest.raises(OptionError, match=r"\.png.*\.avif"):
        parse_format(name)


@pytest.mark.parametrize("format", sorted(set(FORMATS.values())))
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_survive(format: str, channels: int) -> None:
    """Grey, RGB and RGBA come back the same, or nearly so from lossy formats; WebP keeps alpha exactly."""
    pixels: Any = {1: CUTOUT[..., 0], 3: CUTOUT[..., :3], 4: CUTOUT}[channels]
    if format == "JPEG" and channels == 4:
        with pytest.raises(OptionError, match="background"):
            encode_image(pixels, format)
        return
    decoded = decode_image(encode_image(pixels, format, quality=95))
    colours = pixels[..., None].repeat(3, axis=2) if channels == 1 else pixels[..., :3]
    difference = np.abs(decoded.pixels.astype(int) - colours)[CUTOUT[..., 3] > 0].mean()
    assert difference == 0 if format in ("PNG", "TIFF") else difference < 6
    if channels == 4:
        assert decoded.alpha is not None
        assert np.abs(decoded.alpha.astype(int) - pixels[..., 3]).max() <= (12 if format == "AVIF" else 0)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (700, 900)])
def test_tiff_is_exact_for_other_readers(shape: tuple[int, int], channels: int) -> None:
    """Pillow reads 8 bits and OpenCV reads 16 bits exactly."""
    rng = np.random.default_rng(channels)
    eight = np.squeeze(rng.integers(0, 256, (*shape, channels), dtype=np.uint8), axis=2 if channels == 1 else ())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_image(eight, "TIFF")))), eight)
    values = eight.astype(np.uint16) * 250 + 7
    read = cv2.imdecode(np.frombuffer(encode_image(values, "TIFF"), np.uint8), cv2.IMREAD_UNCHANGED)
    assert read is not None
    order = {1: None, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[channels]
    assert np.array_equal(read if order is None else cv2.cvtColor(read, order), values)


@pytest.mark.parametrize("format", sorted(set(FORMATS.values())))
def test_only_profile_and_resolution_are_written(format: str) -> None:
    """A profile, Cutray's mark and, where the format has a place for it, the resolution are stored, nothing else."""
    data = encode_image(CUTOUT[..., :3], format, icc_profile=wide_profile(), dpi=(300, 300))
    decoded = decode_image(data, keep_profile=True)
    assert decoded.icc_profile == wide_profile()
    if format in ("PNG", "JPEG", "TIFF"):
        assert decoded.dpi == pytest.approx((300, 300), rel=0.01)
    image = Image.open(io.BytesIO(data))
    assert not {"xmp", "comment", "photoshop"} & set(image.info)
    if format == "PNG":
        assert image.info["Software"] == SOFTWARE
    elif format == "TIFF":
        assert image.tag_v2[ExifTags.Base.Software] == SOFTWARE
    else:
        assert dict(image.getexif()) == {ExifTags.Base.Software: SOFTWARE}
    assert b"http://ns.adobe" not in data


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "JPEG"])
def test_quality_changes_the_size(format: str) -> None:
    """Lower quality gives a smaller file."""
    small, large = (len(encode_image(CUTOUT[..., :3], format, quality=quality)) for quality in (30, 95))
    assert small < 0.7 * large


@pytest.mark.parametrize(
    ("pixels", "format", "options", "error"),
    [
        (CUTOUT.astype(np.uint16), "WEBP", {}, OptionError),
        (CUTOUT[..., :3].astype(np.uint16), "JPEG", {}, OptionError),
        (CUTOUT.astype(np.float32), "PNG", {}, OptionError),
        (CUTOUT, "GIF", {}, OptionError),
        (CUTOUT, "WEBP", {"quality": 0}, OptionError),
        (CUTOUT, "WEBP", {"quality": 101}, OptionError),
        (CUTOUT, "PNG", {"dpi": (0, 300)}, OptionError),
        (CUTOUT, "PNG", {"dpi": (float("nan"), 300)}, OptionError),
        (np.zeros((20_000, 1), np.uint8), "WEBP", {}, OptionError),
        (CUTOUT[..., :2], "PNG", {}, ShapeMismatchError),
        (CUTOUT[:0], "PNG", {}, ShapeMismatchError),
        (CUTOUT[None], "PNG", {}, ShapeMismatchError),
    ],
)
def test_impossible_requests_are_refused(pixels: Any, format: str, options: Any, error: type[Exception]) -> None:
    """Depths, sizes, shapes and values that a format cannot hold are typed errors."""
    with pytest.raises(error):
        encode_image(pixels, format, **options)
