"""Settings refuse what they do not know, and say everything that is wrong at once."""

from __future__ import annotations

from typing import Any

import pytest

from cutray.config import (
    BatchSettings,
    CanvasSettings,
    EngineSettings,
    HintSettings,
    InputLimits,
    MattingSettings,
    OutputSettings,
    ReadingSettings,
    RemoverSettings,
    Settings,
    TrainSettings,
    parse_settings,
)
from cutray.errors import ConfigError

PARTS = (InputLimits, ReadingSettings, EngineSettings, HintSettings, MattingSettings, OutputSettings, CanvasSettings)


def test_defaults_are_valid() -> None:
    """Settings without any value are the documented defaults, which are valid themselves."""
    settings = parse_settings(RemoverSettings, {})
    assert parse_settings(RemoverSettings, settings.model_dump()) == settings


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("treshold", "threshold"), ("modle", "model"), ("clean_edge", "clean_edges"), ("bitdepth", "bit_depth")],
)
def test_unknown_key_is_refused_with_a_suggestion(typo: str, meant: str) -> None:
    """A misspelled key is an error that names the right one."""
    with pytest.raises(ConfigError, match=f"unknown setting '{typo}', did you mean '{meant}'"):
        parse_settings(RemoverSettings, {typo: 1})


def test_unknown_key_like_no_other_lists_all() -> None:
    """A key that resembles none is an error that lists what is known."""
    with pytest.raises(ConfigError, match="known are max_bytes, max_side_px"):
        parse_settings(InputLimits, {"zzz": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", 0), ("threshold", 1), ("encode_quality", 0), ("encode_quality", 101), ("threads", -1),
        ("batch_size", 0),
        ("max_bytes", 0), ("max_megapixels", 0), ("bit_depth", 12), ("format", "gif"), ("engine", "tflite"),
        ("device", "tpu"), ("precision", "fp8"), ("crop_margin", "5 em"), ("crop_margin", "-3"), ("crop_margin", ""),
        ("sure_background", 0.5), ("sure_foreground", 0.5), ("min_confidence", 1.1), ("only_mask", "perhaps"),
        ("max_side_px", "wide"), ("sure_background", float("nan")), ("model", None),
    ],
)  # fmt: skip
def test_values_outside_their_range_are_refused(key: str, value: Any) -> None:
    """Every value outside its range or list is an error that names key and value."""
    with pytest.raises(ConfigError, match=rf"{key} = {value!r}:"):
        parse_settings(RemoverSettings, {key: value})


@pytest.mark.parametrize("margin", ["0", "20", "20px", "5%", "2.5%", "5% 10px", "1 2 3 4"])
def test_margins_people_write_are_accepted(margin: str) -> None:
    """Margins are pixels with or without unit, or percent."""
    assert parse_settings(OutputSettings, {"crop": True, "crop_margin": margin}).crop_margin == margin


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (
            OutputSettings,
            {"crop": True, "crop_margin": "5 em"},
            r"crop_margin = '5 em': allowed is pixels \(20px\) or percent",
        ),
        (BatchSettings, {"max_failures": "some"}, "allowed is a number of photos"),
        (TrainSettings, {"name": "a/b"}, "allowed is letters, digits"),
    ],
)
def test_a_text_of_the_wrong_form_is_answered_in_words(cls: type[Settings], values: dict[str, Any], words: str) -> None:
    """The error says in words what a text may be, and shows no regular expression."""
    with pytest.raises(ConfigError, match=words) as caught:
        parse_settings(cls, values)
    assert "pattern" not in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    """One error names every wrong key and value."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(RemoverSettings, {"encode_qualty": 3, "encode_quality": 300, "engine": "x", "threads": -1})
    for part in (
        "'encode_qualty', did you mean 'encode_quality'",
        "encode_quality = 300",
        "engine = 'x'",
        "threads = -1",
    ):
        assert part in caught.value.got


def test_settings_cannot_be_changed() -> None:
    """Settings are immutable, so that a loaded remover keeps what it was told."""
    settings = RemoverSettings()
    with pytest.raises(ValueError, match="frozen"):
        settings.encode_quality = 1


def test_parts_share_no_key() -> None:
    """The parts of the remover's settings have different keys, so that flat names are unambiguous."""
    names = [name for part in PARTS for name in part.model_fields]
    assert sorted(names) == sorted(RemoverSettings.model_fields)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_setting_is_described(part: type[Settings]) -> None:
    """Every setting has a description in a sentence, because help and reference are made from it."""
    for name, field in part.model_fields.items():
        assert field.description and field.description.endswith("."), name


def test_margin_without_crop_is_refused() -> None:
    """A margin that would be ignored is an error that says what to add; no margin at all is fine."""
    with pytest.raises(ConfigError, match="crop_margin = '5%' without crop: set crop too"):
        parse_settings(RemoverSettings, {"crop_margin": "5%"})
    assert parse_settings(RemoverSettings, {"crop_margin": "0px"}).crop is False
