"""Shadows and outlines are soft, have room, and leave the subject as it is; gradients and patterns are painted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cutray.config import InputLimits, PictureSettings, RemoverSettings, parse_settings
from cutray.errors import ConfigError, OptionError
from cutray.imaging.decode import from_array
from cutray.imaging.fills import Fill, paint, parse_fill
from cutray.imaging.subject_box import find_subject_box
from cutray.render import Rendered, render
from tests.pictures import photo

HEIGHT, WIDTH = 160, 160
PIXELS = photo(HEIGHT, WIDTH)
ALPHA = np.zeros((HEIGHT, WIDTH), np.float32)
ALPHA[40:120, 30:130] = 1


def _render(alpha: np.ndarray = ALPHA, **options: Any) -> Rendered:
    return render(from_array(PIXELS), alpha, PictureSettings(**options), clean_edges=False, limits=InputLimits())


@pytest.mark.parametrize("shadow", ["drop", "contact"])
@pytest.mark.parametrize("margin", ["0", "3%", "10%"])
@pytest.mark.parametrize("blur", [1.0, 3.0, 12.0])
def test_shadow_is_never_cut_off(shadow: str, margin: str, blur: float) -> None:
    """At the canvas's edge nothing of the shadow is left, whatever margin and blur, because the subject makes room."""
    rendered = _render(size="400x400", margin=margin, shadow=shadow, shadow_blur=blur, background="white")
    edge = np.concatenate([rendered.picture[i].reshape(-1) for i in ((0,), (-1,), (slice(None), 0), (slice(None), -1))])
    assert edge.min() >= 252
    assert (rendered.picture[rendered.mask == 0] < 245).any()


@pytest.mark.parametrize("shadow", ["drop", "contact"])
def test_cropped_result_has_room_for_its_shadow(shadow: str) -> None:
    """A crop leaves room for the shadow, and a transparent result carries the shadow in its alpha channel."""
    rendered = _render(crop=True, shadow=shadow)
    alpha = rendered.picture[..., 3]
    assert alpha.shape[0] > 80
    assert alpha[-1].max() <= 3
    shaded = (rendered.mask == 0) & (alpha > 0)
    assert shaded.any()
    assert (rendered.picture[shaded][:, :3] == 0).all()


def test_subject_and_mask_do_not_change() -> None:
    """The opaque subject has its own pixels above the shadow, and the mask has no shadow in it."""
    plain, shaded = _render(background="white"), _render(background="white", shadow="drop")
    assert np.array_equal(shaded.picture[ALPHA == 1], plain.picture[ALPHA == 1])
    assert np.array_equal(shaded.mask, plain.mask)


def test_transparent_result_on_white_is_the_result_on_white() -> None:
    """The shadow looks the same whether the background comes here or later."""
    over = _render(background="white", shadow="drop").picture.astype(float)
    cut = _render(shadow="drop").picture.astype(float)
    alpha = cut[..., 3:] / 255
    assert np.abs(cut[..., :3] * alpha + 255 * (1 - alpha) - over).max() <= 1.5


@pytest.mark.parametrize(("angle", "side"), [(0, "right"), (90, "bottom"), (180, "left"), (270, "top")])
def test_angle_is_where_the_shadow_falls(angle: int, side: str) -> None:
    """0° is to the right, and so on clockwise."""
    darkness = 255.0 - _render(background="white", shadow="drop", shadow_angle=angle).picture[..., 0]
    darkness[ALPHA == 1] = 0
    sides = {
        "top": darkness[:40].sum(),
        "bottom": darkness[120:].sum(),
        "left": darkness[:, :30].sum(),
        "right": darkness[:, 130:].sum(),
    }
    assert max(sides, key=lambda name: sides[name]) == side


def test_strength_is_the_darkest_value() -> None:
    """The shadow is nowhere darker than its strength; at 0 there is none."""
    for strength in (0.0, 0.5):
        picture = _render(background="white", shadow="contact", shadow_strength=strength).picture
        darkest = picture[ALPHA == 0].min()
        assert darkest >= 255 * (1 - strength) - 1
        assert (darkest == 255) == (strength == 0)


def test_subject_that_the_photo_cuts_off_stays_at_the_edge() -> None:
    """No room is made for a shadow on a side where the photo ends: a portrait stays on the canvas's lower edge."""
    alpha = ALPHA.copy()
    alpha[40:] = alpha[60]
    rendered = _render(alpha, size="300x300", position="50% 100%", margin="10% 10% 0 10%", shadow="drop")
    assert find_subject_box(rendered.mask / np.float32(255))[3] == 300


def test_outline_surrounds_the_subject() -> None:
    """A border of the colour and width that was asked for, and nothing of the subject beyond it."""
    faint = ALPHA.copy()
    faint[100, 130:160] = 0.2
    rendered = _render(faint, outline="#ff0000", outline_width=5, size="160x160", fit="none", position="original")
    alpha = rendered.picture[..., 3]
    assert (rendered.picture[60, 25:29] == (255, 0, 0, 255)).all()
    assert alpha[60, 22] == 0 and alpha[100, 140] == 0
    assert (rendered.picture[60, 30:130, :3] == PIXELS[60, 30:130]).all()


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_empty_scene_has_no_shadow(bit_depth: int) -> None:
    """Where there is no subject there is no shadow and no outline."""
    for options in ({"shadow": "drop"}, {"shadow": "contact"}, {"outline": "white"}):
        assert _render(np.zeros_like(ALPHA), bit_depth=bit_depth, **options).picture.max() == 0


@pytest.mark.parametrize(
    ("text", "corner", "opposite"),
    [
        ("gradient:black-white", (0, 0), (255, 255)),
        ("gradient:black-white:0", (0, 255), (0, 255)),
        ("radial:black-white", (255, 255), (255, 255)),
        ("checker:#fff-#000", (255, 255), (255, 255)),
    ],
)
def test_fills_are_painted(text: str, corner: tuple[int, int], opposite: tuple[int, int]) -> None:
    """Gradients go from the first colour to the second; the corners tell the direction."""
    fill = parse_fill(text)
    assert isinstance(fill, Fill)
    picture = paint(fill, 200, 300).astype(int)
    if text.startswith(("gradient", "radial")):
        found = (picture[0, 0, 0], picture[0, -1, 0], picture[-1, 0, 0], picture[-1, -1, 0])
        assert np.abs(np.subtract(found, (*corner, *opposite))).max() <= 2
    assert picture.min() <= 2 and picture.max() >= 253


@pytest.mark.parametrize("kind", ["stripes", "dots", "checker"])
def test_patterns_have_both_colours_and_a_background_takes_them(kind: str) -> None:
    """Patterns hold both colours, and lie under the subject at the canvas's size."""
    picture = _render(size="200x100", background=f"{kind}:#102030-#f0e0d0").picture
    assert picture.shape == (100, 200, 3)
    for color in ((16, 32, 48), (240, 224, 208)):
        assert (picture == color).all(axis=2).any()


def test_gradient_shows_no_bands() -> None:
    """Neighbouring rows of a faint gradient are mixed: no row has one value alone in the middle of a step."""
    picture = paint(Fill("gradient", (255, 255, 255), (240, 240, 240)), 1000, 64)[..., 0]
    mixed = (picture.min(axis=1) != picture.max(axis=1)).mean()
    assert mixed > 0.5


@pytest.mark.parametrize(
    "text", ["gradient:", "gradient:white", "gradient:white-pupple", "stripes:#fff-#000:720", "dots:1-2-3"]
)
def test_bad_fills_are_refused(text: str) -> None:
    """The error says what a background may be."""
    with pytest.raises(OptionError, match="gradient:white-#ddd"):
        parse_fill(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shadow_blur": 5}, "shadow_blur without shadow"),
        ({"outline_width": 5}, "outline_width without outline"),
        ({"shadow": "drop", "shadow_strength": 2}, "shadow_strength = 2"),
        ({"shadow": "drop", "shadow_angle": 400}, "shadow_angle = 400"),
        ({"shadow": "3D"}, "shadow = '3D'"),
    ],
)
def test_bad_shadows_are_refused(options: dict[str, Any], words: str) -> None:
    """What would be ignored or is out of range is refused by name."""
    with pytest.raises(ConfigError, match=words):
        parse_settings(RemoverSettings, options)
