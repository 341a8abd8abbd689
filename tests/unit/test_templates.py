"""Templates fill in what is not given; unknown ones and wrong ones are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutray.cli import cli
from cutray.config import (
    InputLimits,
    PictureSettings,
    RemoverSettings,
    fingerprint,
    overlay,
    parse_settings,
    result_values,
)
from cutray.config.templates import FILE_VARIABLE, list_templates
from cutray.console.run import run
from cutray.errors import ConfigError
from cutray.imaging.decode import from_array
from cutray.imaging.template_sheet import draw_sheet
from cutray.render import render
from tests.alphas import soft_disc
from tests.pictures import photo, saved

SHOP = """
[shop]
about = "our shop"
size = "600x400"
background = "beach.png"

[plain]
crop = true
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A file of own templates beside the picture that it names."""
    (tmp_path / "beach.png").write_bytes(saved(photo(30, 40), "PNG"))
    path = tmp_path / "shop.toml"
    path.write_text(SHOP)
    return path


def _parse(**values: Any) -> RemoverSettings:
    return parse_settings(RemoverSettings, values)


def test_command_line_goes_before_template_before_default() -> None:
    """Given values win, then the template's, then the defaults."""
    settings = _parse(template="square-white", margin="9%")
    assert (settings.size, settings.margin, settings.background, settings.fit) == (
        "2000x2000",
        "9%",
        "white",
        "contain",
    )


@pytest.mark.parametrize("name", list_templates())
def test_shipped_templates_render(name: str) -> None:
    """Every shipped template is valid, says what it is for, and gives the size that it promises."""
    assert list_templates()[name]["about"]
    settings = parse_settings(PictureSettings, {"template": name})
    alpha = soft_disc(300, 400, 90, 4)
    rendered = render(from_array(photo(300, 400)), alpha, settings, clean_edges=False, limits=InputLimits())
    sizes = {"square-white": (2000, 2000), "passport": (531, 413), "story": (1920, 1080), "sticker": (1000, 1000)}
    assert rendered.mask.shape == sizes.get(name, rendered.mask.shape)
    assert rendered.mask.max() == 255


def test_template_is_the_same_as_its_values() -> None:
    """A batch that was begun with a template goes on with the same values given one by one."""
    values = {key: value for key, value in list_templates()["story"].items() if key != "about"}
    spelled, named = _parse(**values), _parse(template="story")
    assert fingerprint(result_values(spelled)) == fingerprint(result_values(named))


def test_call_with_another_template_leaves_nothing_of_the_first() -> None:
    """What a template filled in does not count as given; what was given stays."""
    first = _parse(template="sticker", encode_quality=70)
    assert "outline" not in first.model_fields_set
    second = _parse(**{**first.model_dump(exclude_unset=True), "template": "transparent-trimmed"})
    assert (second.outline, second.size, second.crop, second.encode_quality) == (None, None, True, 70)


def test_a_templates_shadow_can_be_switched_off_for_a_call() -> None:
    """Its details go with it."""
    first = _parse(template="sticker")
    for off in ({"shadow": "none"}, {"outline": None}):
        second = _parse(**overlay(first.model_dump(exclude={"template"}), off))
        assert {key: getattr(second, key) for key in off} == off


def test_own_templates(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own files are named by their path, or once by the environment; their pictures lie beside them."""
    settings = _parse(template=f"{shop}:shop")
    assert settings.size == "600x400"
    assert settings.background == str(shop.parent / "beach.png")
    with pytest.raises(ConfigError, match="there are shop, plain"):
        _parse(template=str(shop))
    monkeypatch.setenv(FILE_VARIABLE, str(shop))
    assert _parse(template="plain").crop
    assert _parse(template="square-white").size == "2000x2000"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[shop]\nsiez = '1x1'", "sets 'siez', which is no setting of output or canvas, did you mean 'size'"),
        ("[shop]\nmodel = 'isnet'", "sets 'model'"),
        ("[shop]\nsize = '0x0'", "size = '0x0'"),
        ("size = '1x1'", "holds no templates"),
        ("", "holds no templates"),
        ("[shop", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: str | None, words: str) -> None:
    """Each mistake in an own file is named."""
    path = tmp_path / "own.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        _parse(template=str(path))


def test_unknown_template_is_answered_with_the_right_one() -> None:
    """A typo gets the closest name, anything else the list."""
    with pytest.raises(ConfigError, match="'square-wite' is unknown, did you mean 'square-white'"):
        _parse(template="square-wite")
    with pytest.raises(ConfigError, match="there are square-white, transparent-trimmed, passport, story, sticker"):
        _parse(template="zzz")


def test_verb_lists_and_prints_what_can_be_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`cutray templates NAME` prints TOML that is a template file of its own."""
    assert run(cli, ["templates"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in list_templates())
    assert run(cli, ["templates", "story"]) == 0
    path = tmp_path / "own.toml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert _parse(template=str(path)).size == "1080x1920"
    assert run(cli, ["templates", str(path)]) == 0
    assert "1080x1920" in capsys.readouterr().out
    assert run(cli, ["templates", "stroy"]) == 2
    assert "did you mean 'story'" in capsys.readouterr().err
    assert run(cli, ["templates", "--try", "photo.jpg"]) == 2


def test_sheet_shows_all() -> None:
    """Pictures of different shapes lie in a row, transparent ones on squares."""
    sheet = draw_sheet({"a": photo(100, 50), "b": np.zeros((40, 80, 4), np.uint8)}, side_px=60)
    assert sheet.shape == (60 + 26 + 32, 30 + 60 + 3 * 16, 3)
