"""The canvas: how large the result is, and where and how large the subject stands on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cutray.config import InputLimits, PictureSettings, RemoverSettings, parse_settings
from cutray.errors import ConfigError, ImageTooLargeError, OptionError
from cutray.imaging.decode import from_array
from cutray.imaging.layout import plan_layout
from cutray.imaging.place import place_cutout
from cutray.imaging.subject_box import find_subject_box
from cutray.render import Rendered, encode, render
from tests.alphas import soft_disc
from tests.pictures import photo

HEIGHT, WIDTH = 100, 200
PIXELS = photo(HEIGHT, WIDTH)
ALPHA = np.zeros((HEIGHT, WIDTH), np.float32)
ALPHA[20:60, 30:110] = 1  # 80 wide, 40 high


def _render(alpha: np.ndarray = ALPHA, **options: Any) -> Rendered:
    """Render with some options, without any estimate of colours."""
    return render(from_array(PIXELS), alpha, PictureSettings(**options), clean_edges=False, limits=InputLimits())


def _box(rendered: Rendered) -> tuple[int, int, int, int]:
    """Return where the subject is in the result."""
    return find_subject_box(rendered.mask / np.float32(255))


@pytest.mark.parametrize(
    ("options", "size", "box"),
    [
        ({"size": "400x400"}, (400, 400), (0, 100, 400, 300)),
        ({"size": "400x400", "margin": "10%"}, (400, 400), (40, 120, 360, 280)),
        ({"size": "400x400", "margin": "0 100px 0 0"}, (400, 400), (0, 125, 300, 275)),
        ({"size": "400x200", "margin": "10%", "position": "50% 100%"}, (400, 200), (40, 20, 360, 180)),
        ({"size": "400x400", "margin": "10%", "position": "0% 100%"}, (400, 400), (40, 200, 360, 360)),
        ({"size": "400x400", "scale": "50%"}, (400, 400), (100, 150, 300, 250)),
        ({"size": "400x400", "scale": "original"}, (400, 400), (160, 180, 240, 220)),
        ({"size": "400x400", "fit": "none", "position": "100% 0%"}, (400, 400), (320, 0, 400, 40)),
        ({"size": "400x400", "fit": "cover"}, (400, 400), (0, 0, 400, 400)),
        ({"size": "400x400", "position": "original"}, (400, 400), (60, 140, 220, 220)),
        ({"size": "400x400", "position": "original", "fit": "cover"}, (400, 400), (0, 80, 240, 240)),
        ({"size": "0.005MP"}, (100, 50), (15, 10, 55, 30)),
        ({"size": "1MP"}, (WIDTH, HEIGHT), (30, 20, 110, 60)),
        ({"scale": "100%"}, (WIDTH, HEIGHT), (0, 0, 200, 100)),
        ({"scale": "80%", "position": "original"}, (WIDTH, HEIGHT), (0, 0, 160, 80)),
        ({"position": "center"}, (WIDTH, HEIGHT), (60, 30, 140, 70)),
        ({"crop": True, "margin": "50px"}, (180, 140), (50, 50, 130, 90)),
        ({"crop": True, "margin": "50% 0"}, (80, 120), (0, 40, 80, 80)),
        ({"crop": True, "size": "0.0008MP"}, (40, 20), (0, 0, 40, 20)),
    ],
)
def test_subject_stands_where_it_was_asked_for(
    options: dict[str, Any], size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    """Every combination of size, fit, scale, position and margin puts the subject's box where arithmetic says."""
    rendered = _render(**options)
    assert rendered.picture.shape == (size[1], size[0], 4)
    assert rendered.mask.shape == rendered.picture.shape[:2]
    blurred = 2 if rendered.notes else 0  # an enlarged edge is a ramp of several pixels
    assert np.abs(np.subtract(_box(rendered), box)).max() <= 1 + blurred, _box(rendered)


def test_unresized_pixels_are_the_photos_own() -> None:
    """Without a change of size not one value changes; around the subject nothing is."""
    rendered = _render(crop=True, margin="50px")
    inside = rendered.picture[50:90, 50:130]
    assert np.array_equal(inside[..., :3], PIXELS[20:60, 30:110])
    assert rendered.picture[..., 3].sum() == 255 * 40 * 80


@pytest.mark.parametrize("size", ["90x50", "1000x700"])
def test_resized_edges_keep_the_subjects_colour(size: str) -> None:
    """A subject of one colour has it up to its faintest edge, smaller or larger: no dark fringe."""
    alpha = soft_disc(HEIGHT, WIDTH, 30, 8)
    plain = from_array(np.full((HEIGHT, WIDTH, 3), (250, 120, 30), np.uint8))
    rendered = render(plain, alpha, PictureSettings(size=size), clean_edges=False, limits=InputLimits())
    colors = rendered.picture[rendered.picture[..., 3] > 3][:, :3].astype(int)
    assert np.abs(colors - (250, 120, 30)).max() <= 2


def test_16_bits_go_on_a_canvas() -> None:
    """At 16 bits the canvas has 16 bits too, with the same colours."""
    deep, plain = _render(size="120x90", bit_depth=16), _render(size="120x90")
    assert deep.picture.dtype == np.uint16
    seen = plain.mask > 250
    assert np.abs(deep.picture[seen][:, :3] / 257 - plain.picture[seen][:, :3]).max() <= 1


def test_background_and_mask_have_the_canvas_size() -> None:
    """Colours, blur and the mask alone fill the whole canvas."""
    assert (_render(size="300x300", background="#102030").picture[0, 0] == (16, 32, 48)).all()
    assert _render(size="300x320", background="blur").picture.shape == (320, 300, 3)
    mask = _render(size="300x300", only_mask=True)
    assert np.abs(mask.picture.astype(int) - _render(size="300x300").mask).max() <= 1


def test_wide_photo_covers_a_tall_canvas_without_being_enlarged_whole() -> None:
    """Only what the canvas shows is resized, however far the rest would reach."""
    alpha = np.ones((40, 2000), np.float32)
    options = PictureSettings(size="100x2000", fit="cover", position="original")
    layout = plan_layout(alpha, options, InputLimits())
    assert layout.resizes_to[0] < 4000
    colors, opacity = place_cutout(
        np.zeros((40, layout.window_size[0], 3), np.uint8), alpha[:, : layout.window_size[0]], layout
    )
    assert colors.shape == (2000, 100, 3) and (opacity == 1).all()


def test_enlargement_is_noted() -> None:
    """Whoever asks for more pixels than there are gets them, and is told."""
    assert _render(size="60x60").notes == ()
    (note,) = _render(size="400x400").notes
    assert note.startswith("enlarged 5 times")


def test_empty_scene_fills_the_canvas_with_nothing() -> None:
    """Without a subject the canvas is transparent throughout."""
    rendered = _render(np.zeros_like(ALPHA), size="50x60", margin="5%")
    assert rendered.picture.shape == (60, 50, 4) and rendered.mask.max() == 0


def test_resolution_is_written() -> None:
    """A size in millimetres means 300 dpi unless another resolution is given; the file says so."""
    import io

    from PIL import Image

    for options, size, dpi in (
        ({"size": "35x45mm"}, (413, 531), 300),
        ({"size": "35x45mm", "dpi": 600}, (827, 1063), 600),
        ({"dpi": 72}, (WIDTH, HEIGHT), 72),
    ):
        settings = PictureSettings(**options)
        image = from_array(PIXELS)
        rendered = render(image, ALPHA, settings, clean_edges=False, limits=InputLimits())
        file = Image.open(io.BytesIO(encode(rendered, image, settings, "PNG")))
        assert file.size == size
        assert file.info["dpi"][0] == pytest.approx(dpi, abs=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": "0x0"}, "size = '0x0': allowed is WIDTHxHEIGHT of at least 1x1"),
        ({"size": "40000x40000"}, "size = '40000x40000' .* at most 30000 and 100 million"),
        ({"size": "20000x20000"}, "at most 30000 and 100 million"),
        ({"size": "2000x2000", "margin": "60%"}, "margin = '60%' leaves no room on 2000 x 2000 .* less than 100%"),
        ({"size": "100x100", "margin": "50px"}, "leaves no room"),
        ({"size": "100x100", "margin": "-5%"}, "margin = '-5%': allowed is pixels"),
        ({"size": "100x100", "margin": "1 2 3"}, "margin = '1 2 3'"),
        ({"margin": "5%"}, "margin = '5%' without a canvas: set size"),
        ({"crop": True, "margin": "5%", "crop_margin": "5%"}, "margin and crop_margin together"),
        ({"fit": "cover"}, "fit = 'cover' without a canvas"),
        ({"size": "10x10", "fit": "none", "scale": "50%"}, "one of them decides"),
        ({"scale": "0%"}, "scale = '0%': allowed is original, or 1% to 100%"),
        ({"scale": "120%"}, "scale = '120%'"),
        ({"position": "left"}, "position = 'left': allowed is center, original"),
        ({"position": "50px 50px"}, "position = '50px 50px'"),
        ({"position": "120%"}, "position = '120%'"),
        ({"dpi": 0}, "dpi = 0"),
    ],
)
def test_impossible_canvases_are_refused_with_what_is_allowed(options: dict[str, Any], words: str) -> None:
    """Each is refused before any work, with the setting's name, its value and what is allowed."""
    with pytest.raises(ConfigError, match=words):
        parse_settings(RemoverSettings, options)


def test_margin_without_room_on_the_photos_own_canvas_is_refused() -> None:
    """Only the photo's size tells whether there is room."""
    for margin in ("50%", "60%", "60px"):
        with pytest.raises(OptionError, match="leaves no room"):
            _render(scale="50%", margin=margin)


@pytest.mark.parametrize("fit", ["contain", "cover"])
def test_a_subject_of_one_pixel_does_not_fill_the_memory(fit: str) -> None:
    """It is enlarged so often at most, and nothing far beyond the canvas is resized."""
    dot = np.zeros((HEIGHT, WIDTH), np.float32)
    dot[50, 50] = 1
    options = parse_settings(RemoverSettings, {"size": "7000x7000", "fit": fit})
    layout = plan_layout(dot, options, InputLimits())
    left, top, right, bottom = layout.target
    assert max(right - left, bottom - top) < 1000


def test_numbers_of_many_digits_are_refused() -> None:
    """They are no lengths, and no crash."""
    for options in ({"size": "9" * 400 + "x1"}, {"crop": True, "margin": "9" * 400}):
        with pytest.raises(ConfigError):
            parse_settings(RemoverSettings, options)


def test_margin_that_makes_a_crop_too_large_is_refused() -> None:
    """The size of a crop with a margin is known only with the photo, and has the same limits."""
    with pytest.raises(ImageTooLargeError, match="30000"):
        _render(crop=True, margin="40000px")
