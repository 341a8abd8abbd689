"""Profiles, CMYK and Lab lead to the sRGB colours that they describe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from cutray.imaging.decode import decode_image
from cutray.imaging.encode import encode_image
from tests.pictures import (
    grey_profile,
    ink_profile,
    photo,
    saved,
    wide_profile,
    with_tiff_tag,
)


def srgb_from_d50(xyz: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return sRGB in 0..255 of a colour under D50, adapted to D65 by Bradford."""
    to_rgb = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])
    light = to_rgb @ xyz
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)
    return np.asarray(255 * curve)


def test_lab_tiff_matches_the_formula() -> None:
    """A CIE Lab TIFF is converted as Lab under D50 with Bradford adaptation to sRGB."""
    stored = np.full((4, 4, 3), (128, 30, 236), np.uint8)  # a* = 30, b* = -20 as signed bytes
    pixels = decode_image(with_tiff_tag(encode_image(stored, "TIFF"), 262, 8)).pixels
    y = (128 / 2.55 + 16) / 116
    cubes = np.array([y + 30 / 500, y, y + 20 / 200])
    xyz = np.where(cubes > 6 / 29, cubes**3, 3 * (6 / 29) ** 2 * (cubes - 4 / 29)) * (0.9642, 1, 0.8249)
    assert np.abs(pixels[0, 0] - srgb_from_d50(xyz)).max() <= 1.5


def test_cmyk_jpeg_is_not_inverted() -> None:
    """White paper in a CMYK JPEG (Adobe, inverted) stays white, and cyan ink is cyan."""
    for ink, colour in (((0, 0, 0, 0), (255, 255, 255)), ((255, 0, 0, 0), (0, 255, 255))):
        pixels = decode_image(saved(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)).pixels
        assert np.abs(pixels.astype(int) - colour).max() <= 3


def test_profiles_are_applied_in_their_own_space() -> None:
    """CMYK, grey and RGB profiles lead to the colours that they describe."""
    ink = decode_image(saved(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG", icc_profile=ink_profile()))
    assert np.abs(ink.pixels.astype(int) - 119).max() <= 1  # lightness 50
    light = decode_image(saved(Image.new("L", (3, 2), 128), "PNG", icc_profile=grey_profile(1.0)))
    assert np.abs(light.pixels.astype(int) - 188).max() <= 1  # half the light
    wide = decode_image(saved(Image.new("RGB", (3, 2), (100, 150, 120)), "PNG", icc_profile=wide_profile()))
    primaries = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    expected = srgb_from_d50(primaries @ (np.array([100, 150, 120]) / 255) ** 2.199)
    assert np.abs(wide.pixels[0, 0] - expected).max() <= 1.5
    assert (ink.icc_profile, light.icc_profile, wide.icc_profile) == (None, None, None)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_profile_can_be_kept(format: str) -> None:
    """With ``keep_profile`` the pixels stay in their space and the profile is returned; sRGB gives none."""
    pixels = photo(20, 30)
    kept = decode_image(saved(pixels, format, icc_profile=wide_profile()), keep_profile=True)
    plain = decode_image(saved(pixels, format), keep_profile=True)
    assert kept.icc_profile == wide_profile()
    assert np.array_equal(kept.pixels, plain.pixels)
    assert not np.array_equal(decode_image(saved(pixels, format, icc_profile=wide_profile())).pixels, plain.pixels)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = decode_image(saved(pixels, format, icc_profile=srgb), keep_profile=True)
    assert tagged.icc_profile is None
    assert np.array_equal(tagged.pixels, plain.pixels)


def test_broken_profiles_are_ignored_with_a_note() -> None:
    """A damaged profile, or one of another colour space, changes nothing but the notes."""
    pixels = photo(20, 30)
    broken = decode_image(saved(pixels, "PNG", icc_profile=wide_profile()[:200]))
    other = decode_image(saved(pixels, "PNG", icc_profile=grey_profile()))
    assert np.array_equal(broken.pixels, pixels)
    assert np.array_equal(other.pixels, pixels)
    assert broken.notes == ("broken ICC profile ignored",)
    assert "ignored" in other.notes[0]


def test_one_profile_serves_many_threads() -> None:
    """Threads that share a colour conversion get the same pixels as one alone."""
    data = saved(photo(300, 400), "PNG", icc_profile=wide_profile())
    alone = decode_image(data).pixels
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(alone, image.pixels) for image in pool.map(decode_image, [data] * 12))
