"""Alpha and photo become the picture that was asked for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cutray.config import InputLimits, PictureSettings
from cutray.errors import DecodeError, ImageTooLargeError, OptionError
from cutray.imaging.compose import blur_background, compose
from cutray.imaging.decode import DecodedImage, decode_image, from_array
from cutray.matting.foreground import estimate_foreground
from cutray.render import Rendered, encode, render, shape_alpha
from tests.alphas import soft_disc
from tests.pictures import photo, saved, wide_profile

HEIGHT, WIDTH = 120, 160
PIXELS = photo(HEIGHT, WIDTH)
ALPHA = soft_disc(HEIGHT, WIDTH, 30, 8)
IMAGE = from_array(PIXELS)


def _render(image: DecodedImage = IMAGE, *, clean_edges: bool = True, **options: Any) -> Rendered:
    """Shape and render with some options."""
    settings = PictureSettings(**options)
    return render(image, shape_alpha(ALPHA, image, settings), settings, clean_edges=clean_edges, limits=InputLimits())


def test_cutout_is_straight_rgba() -> None:
    """Without options the result is RGBA: estimated colours, never multiplied, and alpha rounded."""
    rendered = _render()
    assert np.array_equal(rendered.picture[..., :3], estimate_foreground(PIXELS, ALPHA))
    assert np.array_equal(rendered.picture[..., 3], rendered.mask)
    assert np.abs(rendered.mask - ALPHA * 255.0).max() <= 0.5 + 1e-4
    assert rendered.box == (0, 0, WIDTH, HEIGHT)


def test_raw_edges_keep_the_photos_colours() -> None:
    """Without clean edges every visible pixel has the photo's bytes."""
    rendered = _render(clean_edges=False)
    seen = rendered.mask > 0
    assert np.array_equal(rendered.picture[..., :3][seen], PIXELS[seen])
    assert (rendered.picture[..., :3][~seen] == 0).all()


def test_mask_alone() -> None:
    """With only_mask the picture is the grey mask."""
    rendered = _render(only_mask=True)
    assert rendered.picture.ndim == 2
    assert np.array_equal(rendered.picture, rendered.mask)


def test_threshold_hardens() -> None:
    """A threshold leaves nothing but 0 and 255, cut where it says."""
    mask = _render(only_mask=True, threshold=0.3).mask
    assert np.array_equal(mask, np.where(np.float32(0.3) <= ALPHA, 255, 0))


def test_inverse_keeps_the_background() -> None:
    """Inverted, subject and background change places."""
    mask = _render(only_mask=True, inverse=True).mask
    assert np.abs(mask.astype(int) + _render(only_mask=True).mask - 255).max() <= 1


def test_crop_cuts_picture_and_mask_alike() -> None:
    """A crop is a window of the uncropped result, as large as the subject and its margin."""
    whole, cropped = _render(clean_edges=False), _render(clean_edges=False, crop=True, crop_margin="4px")
    left, top, right, bottom = cropped.box
    assert np.array_equal(cropped.picture, whole.picture[top:bottom, left:right])
    assert np.array_equal(cropped.mask, whole.mask[top:bottom, left:right])
    rows = np.flatnonzero((ALPHA > 0.02).any(axis=1))
    assert (top, bottom) == (rows[0] - 4, rows[-1] + 5)


def test_16_bits_keep_the_photos_samples() -> None:
    """At 16 bits opaque pixels have the photo's own samples, and alpha has more than 256 steps."""
    values = np.random.default_rng(0).integers(0, 65_536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    rendered = _render(from_array(values, keep_uint16=True), bit_depth=16)
    assert rendered.picture.dtype == np.uint16
    assert np.array_equal(rendered.picture[..., :3][ALPHA == 1], values[ALPHA == 1])
    assert np.abs(rendered.picture[..., 3] - ALPHA * 65_535.0).max() <= 0.6
    assert rendered.mask.dtype == np.uint8


def test_16_bits_of_an_8_bit_photo_are_the_same_colours() -> None:
    """Eight bits are widened by 257, so that white stays white."""
    rendered = _render(bit_depth=16)
    assert np.array_equal(rendered.picture[..., :3], _render().picture[..., :3].astype(np.uint16) * 257)
    assert _render(bit_depth=16, only_mask=True).picture.dtype == np.uint16


@pytest.mark.parametrize("depth", [8, 16])
def test_background_colour(depth: int) -> None:
    """On a colour the result is RGB: the colour where nothing is, the photo where all is subject."""
    rendered = _render(background="#ff8800", bit_depth=depth)
    scale = 1 if depth == 8 else 257
    assert rendered.picture.shape == (HEIGHT, WIDTH, 3)
    assert (rendered.picture[ALPHA == 0] == np.array([255, 136, 0]) * scale).all()
    assert np.array_equal(rendered.picture[ALPHA == 1], PIXELS[ALPHA == 1].astype(np.uint16) * scale)


def test_background_picture(tmp_path: Path) -> None:
    """A picture of another size covers the background, also behind a crop."""
    path = tmp_path / "beach.png"
    path.write_bytes(saved(np.full((50, 300, 3), (10, 20, 200), np.uint8), "PNG"))
    for options in ({}, {"crop": True}):
        rendered = _render(background=str(path), **options)
        assert (rendered.picture[rendered.mask == 0] == (10, 20, 200)).all()


def test_background_blur() -> None:
    """Blur lays the subject on its own surroundings, out of focus."""
    expected = compose(estimate_foreground(PIXELS, ALPHA), ALPHA, blur_background(PIXELS, ALPHA))
    assert np.array_equal(_render(background="blur").picture, expected)


@pytest.mark.parametrize("background", ["beach.png", "x" * 5000, "a\x00b"])
def test_unknown_background_is_refused(background: str) -> None:
    """What is neither colour nor file is an option error, however odd the text."""
    with pytest.raises(OptionError, match="neither a colour nor a picture"):
        _render(background=background)


def test_bad_background_picture_is_refused(tmp_path: Path) -> None:
    """A background that is no picture, or too large, is refused like a photo of that kind."""
    path = tmp_path / "beach.png"
    path.write_bytes(b"not a picture at all")
    with pytest.raises(DecodeError):
        _render(background=str(path))
    path.write_bytes(saved(photo(20, 30), "PNG"))
    with pytest.raises(ImageTooLargeError):
        render(
            IMAGE, ALPHA, PictureSettings(background=str(path)), clean_edges=True, limits=InputLimits(max_side_px=25)
        )


@pytest.mark.parametrize("options", [{}, {"inverse": True}, {"threshold": 0.5}])
def test_transparent_places_of_the_photo_stay_transparent(options: dict[str, Any]) -> None:
    """The result is nowhere more opaque than the photo was, whatever else is asked for."""
    own = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    image = from_array(np.dstack([PIXELS, own]))
    mask = _render(image, only_mask=True, **options).mask
    assert (mask <= own).all()
    assert np.array_equal(mask, np.minimum(_render(only_mask=True, **options).mask, own))


def test_jpeg_refuses_transparency_and_takes_a_background() -> None:
    """A cutout does not fit into a JPEG; the same on white does."""
    with pytest.raises(OptionError, match="transparen"):
        encode(_render(), IMAGE, PictureSettings(), "JPEG")
    data = encode(_render(background="white"), IMAGE, PictureSettings(), "JPEG")
    assert Image.open(io.BytesIO(data)).format == "JPEG"


def test_profile_and_resolution_survive() -> None:
    """A kept colour profile goes into the cutout, not into the mask, and the resolution into both."""
    data = saved(PIXELS, "PNG", icc_profile=wide_profile(), dpi=(300, 300))
    image = decode_image(data, keep_profile=True)
    for only_mask, profile in ((False, wide_profile()), (True, None)):
        settings = PictureSettings(only_mask=only_mask)
        rendered = render(image, ALPHA, settings, clean_edges=True, limits=InputLimits())
        written = Image.open(io.BytesIO(encode(rendered, image, settings, "PNG")))
        assert written.info.get("icc_profile") == profile
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_empty_scene_renders() -> None:
    """Nothing at all gives a picture that is black and transparent throughout, uncropped."""
    rendered = render(IMAGE, np.zeros_like(ALPHA), PictureSettings(crop=True), clean_edges=True, limits=InputLimits())
    assert rendered.picture.shape == (HEIGHT, WIDTH, 4)
    assert rendered.picture.max() == 0
