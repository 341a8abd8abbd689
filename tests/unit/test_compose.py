"""Colours, blends, backgrounds and crops come out exactly as arithmetic says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutray.errors import OptionError, ShapeMismatchError
from cutray.imaging.color_names import parse_color
from cutray.imaging.compose import blur_background, compose, cover_fit
from tests.alphas import soft_disc
from tests.pictures import photo


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("white", (255, 255, 255)), ("White", (255, 255, 255)), (" rebeccapurple ", (102, 51, 153)),
        ("#f80", (255, 136, 0)), ("f80", (255, 136, 0)), ("#FF8800", (255, 136, 0)), ("ff8800", (255, 136, 0)),
        ("255,136,0", (255, 136, 0)), (" 0 , 1 , 2 ", (0, 1, 2)), ("000", (0, 0, 0)),
    ],
)  # fmt: skip
def test_colors_people_write(text: str, color: tuple[int, int, int]) -> None:
    """Names, hex digits with and without #, and numbers are colours."""
    assert parse_color(text) == color


@pytest.mark.parametrize("text", ["", "whitish", "#ff", "#ff88001", "256,0,0", "1,2", "1,2,3,4", "-1,0,0", "x" * 5000])
def test_other_texts_are_no_colors(text: str) -> None:
    """Anything else is an error that says what is allowed."""
    with pytest.raises(OptionError, match=r"#ff8800.*255,136,0.*blur"):
        parse_color(text)


def test_blend_is_exact() -> None:
    """The blend is alpha F + (1 - alpha) B, rounded to the nearest value."""
    foreground = np.full((1, 5, 3), (200, 100, 0), np.uint8)
    alpha = np.float32([[0, 0.25, 0.5, 0.75, 1]])
    blended = compose(foreground, alpha, (0, 50, 255))
    assert blended[0].tolist() == [[0, 50, 255], [50, 63, 191], [100, 75, 128], [150, 88, 64], [200, 100, 0]]


def test_blend_of_16_bits_is_exact() -> None:
    """A 16-bit foreground stays 16 bits deep, over a colour that is scaled by 257."""
    foreground = np.full((1, 3, 3), (60_001, 1, 30_000), np.uint16)
    blended = compose(foreground, np.float32([[0, 0.5, 1]]), (255, 0, 128))
    assert blended.dtype == np.uint16
    assert blended[0].tolist() == [[65_535, 0, 32_896], [62_768, 1, 31_448], [60_001, 1, 30_000]]


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_blend_lies_between(foreground: int, background: int, alpha: int) -> None:
    """No blend leaves the range between its two colours, and none is off by more than half a step."""
    blended = compose(np.full((1, 1, 3), foreground, np.uint8), np.float32([[alpha / 255]]), (background,) * 3)
    exact = (alpha * foreground + (255 - alpha) * background) / 255
    assert abs(int(blended[0, 0, 0]) - exact) <= 0.5 + 1e-4


def test_blend_over_a_picture_reaches_every_strip() -> None:
    """A picture of more rows than one strip holds is blended down to its last row."""
    height = 777
    alpha = np.zeros((height, 4), np.float32)
    alpha[1::2] = 1
    blended = compose(np.full((height, 4, 3), 9, np.uint8), alpha, photo(height, 4))
    assert np.array_equal(blended[::2], photo(height, 4)[::2])
    assert (blended[1::2] == 9).all()


def test_background_of_another_size_is_refused() -> None:
    """A background picture must fit."""
    with pytest.raises(ShapeMismatchError, match="cover_fit"):
        compose(photo(40, 50), np.ones((40, 50), np.float32), photo(50, 40))


@pytest.mark.parametrize("size", [(1, 1), (30, 90), (90, 30), (333, 57), (200, 200)])
@pytest.mark.parametrize("source", [(60, 80), (1, 1), (500, 20), (20, 500)])
def test_cover_fit_gives_the_size_asked_for(source: tuple[int, int], size: tuple[int, int]) -> None:
    """Any picture covers any size."""
    assert cover_fit(photo(*source), *size).shape == (*size, 3)


def test_cover_fit_keeps_the_middle_and_the_proportions() -> None:
    """Of a wide picture with three thirds, a square shows the middle one, undistorted."""
    thirds = np.zeros((60, 180, 3), np.uint8)
    thirds[:, 60:120] = 255
    fitted = cover_fit(thirds, 30, 30)
    assert fitted[:, 2:-2].min() == 255
    assert fitted[:, 0].mean() > 200


def test_cover_fit_shows_no_colour_from_below_transparency() -> None:
    """Scaling a picture with transparency does not mix in the colours that cannot be seen."""
    picture = np.zeros((60, 60, 4), np.uint8)
    picture[..., 1] = 255  # green, and transparent on the left
    picture[:, 30:] = (255, 0, 0, 255)
    fitted = cover_fit(picture, 25, 25)
    assert (fitted[..., 1][fitted[..., 3] > 0] <= 2).all()


def test_blend_over_transparency_is_exact() -> None:
    """Over a half transparent background both opacities count, and colours are weighted by them."""
    foreground = np.full((1, 4, 3), (200, 100, 0), np.uint8)
    alpha = np.float32([[0, 0, 0.5, 1]])
    blended = compose(foreground, alpha, (0, 50, 255), np.uint8([[0, 51, 51, 0]]))
    assert blended[0].tolist() == [[0, 0, 0, 0], [0, 50, 255, 51], [167, 92, 43, 153], [200, 100, 0, 255]]
    sixteen = compose(foreground.astype(np.uint16) * 257, alpha, (0, 50, 255), np.uint8([[0, 51, 51, 0]]))
    assert np.abs(sixteen[0].astype(int) - blended[0].astype(int) * 257).max() <= 257


def test_blur_does_not_let_the_subject_bleed() -> None:
    """Around a red subject on green the blurred surroundings stay green, right up to the outline."""
    alpha = (soft_disc(300, 400, 80, 1.0) > 0.5).astype(np.float32)
    scene = np.where(alpha[..., None] > 0, np.uint8([255, 0, 0]), np.uint8([0, 160, 0])).astype(np.uint8)
    blurred = blur_background(scene, alpha)
    assert blurred[alpha == 0][:, 0].max() <= 12
    assert blurred[alpha == 0][:, 1].min() >= 150


def test_blur_takes_detail_away() -> None:
    """Noise in the background is gone and its mean is kept."""
    scene = np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    blurred = blur_background(scene, np.zeros((200, 300), np.float32))
    assert blurred.std() < scene.std() / 5
    assert abs(float(blurred.mean()) - float(scene.mean())) < 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2000, 2)])
def test_blur_takes_any_shape(shape: tuple[int, int]) -> None:
    """Pictures of one pixel, one row or almost one column are blurred too, even if all is subject."""
    assert blur_background(photo(*shape), np.ones(shape, np.float32)).shape == (*shape, 3)
