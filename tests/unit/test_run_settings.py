"""Presets, files and dotted paths make the settings of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutray.config import TrainSettings, parse_settings
from cutray.errors import ConfigError
from pipelines.run_settings import PRESETS, as_yaml, assign, assign_changes, load_settings, merged


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset: str) -> None:
    """Every preset fits the settings and differs from the defaults in all that it says."""
    values = load_settings(preset, None)
    settings = parse_settings(TrainSettings, values)
    assert settings != TrainSettings()


def test_file_overrides_preset_level_by_level(tmp_path: Path) -> None:
    """A file changes single values of a table and leaves its neighbours."""
    (tmp_path / "mine.yaml").write_text("optim: {lr: 0.5}\n")
    values = load_settings("finetune", tmp_path / "mine.yaml")
    assert values["optim"]["lr"] == 0.5
    assert values["optim"]["batch_size"] == load_settings("finetune", None)["optim"]["batch_size"]
    assert merged({"a": {"b": 1}}, {"a": 2}) == {"a": 2}


def test_printed_settings_are_read_again(tmp_path: Path) -> None:
    """What is printed gives the same settings, but for the name, which each run has for itself."""
    settings = parse_settings(TrainSettings, {**load_settings("distil", None), "name": "first", "save_dir": "/runs"})
    (tmp_path / "run.yaml").write_text(as_yaml(settings))
    again = parse_settings(TrainSettings, load_settings(None, tmp_path / "run.yaml"))
    assert again == settings.model_copy(update={"name": ""})


def test_dotted_paths() -> None:
    """A path makes the tables on its way; nothing leaves everything; a value on the way is an error."""
    values: dict[str, object] = {"seed": 1}
    assign(values, "optim.lr", 0.1)
    assign(values, "optim.epochs", None)
    assert values == {"seed": 1, "optim": {"lr": 0.1}}
    with pytest.raises(ConfigError, match="seed is a value"):
        assign(values, "seed.x", 1)


@pytest.mark.parametrize("change", ["optim.lr=[", "seed=@", "seed: 1", "name='"])
def test_values_that_are_no_yaml(change: str) -> None:
    """What --set cannot read is told in one line, with what was written."""
    with pytest.raises(ConfigError) as caught:
        assign_changes({}, (change,))
    assert change in caught.value.got
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", ""])
def test_files_that_are_no_table(tmp_path: Path, text: str) -> None:
    """A list or broken YAML is refused; an empty file says nothing."""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    if text:
        with pytest.raises(ConfigError, match=r"x\.yaml"):
            load_settings(None, path)
    else:
        assert load_settings(None, path) == {}


def test_unknown_settings_come_with_a_suggestion() -> None:
    """A misspelt path is an error that names the near one."""
    with pytest.raises(ConfigError, match="did you mean 'optim'"):
        parse_settings(TrainSettings, {"optm": {"lr": 1}})
