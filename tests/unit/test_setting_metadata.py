"""What is derived from the settings' metadata: fingerprints, options, the reference page."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import click
import pytest

import cutray.config
from cutray.config import (
    BatchSettings,
    CanvasSettings,
    EngineSettings,
    HintSettings,
    InputLimits,
    MattingSettings,
    OutputSettings,
    PhotoSettings,
    PictureSettings,
    RemoverSettings,
    Settings,
    TrainSettings,
    describe_differences,
    fingerprint,
    parse_settings,
    result_values,
    setting_of,
    walk_fields,
)
from cutray.console.options import given, has_option, option_names, settings_options
from cutray.console.reference import reference, settings_page
from cutray.console.run import run

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
CLASSES = [
    cls
    for _, cls in inspect.getmembers(cutray.config, inspect.isclass)
    if issubclass(cls, Settings) and cls.model_fields and cls is not cutray.config.Effort
]


def _hash(settings: Settings) -> str:
    return fingerprint(result_values(settings))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"loaders": 4}},
        {"workers": 2, "cpus_per_worker": 3.0, "compile": True, "address": "auto"},
        {"name": "other", "save_dir": "elsewhere", "experiment": "e", "tracking_uri": "none"},
        {"max_minutes": 5.0, "keep_checkpoints": 9},
    ],
)
def test_a_run_goes_on_with_other_resources(changes: dict[str, Any]) -> None:
    """Where and how fast a run computes is not part of its fingerprint, on any level of the settings."""
    assert _hash(parse_settings(TrainSettings, changes)) == _hash(TrainSettings())


@pytest.mark.parametrize(
    "changes", [{"optim": {"lr": 0.5}}, {"data": {"scenes": 3}}, {"seed": 1}, {"augment": {"flip": 0.0}}]
)
def test_a_run_with_another_result_is_another_run(changes: dict[str, Any]) -> None:
    """What is computed is part of the fingerprint, on any level of the settings."""
    assert _hash(parse_settings(TrainSettings, changes)) != _hash(TrainSettings())


@pytest.mark.parametrize("name", [*InputLimits.model_fields, "threads", "streams", "batch_size", "device", "offline"])
def test_limits_and_speed_change_no_result(name: str) -> None:
    """Results stay valid when limits are raised or the network runs faster."""
    value = 200 if name in InputLimits.model_fields else {"device": "cuda", "offline": True}.get(name, 3)
    assert _hash(parse_settings(RemoverSettings, {name: value})) == _hash(RemoverSettings())


@pytest.mark.parametrize("name", [*PhotoSettings.model_fields])
def test_what_a_photo_may_be_told_changes_the_result(name: str) -> None:
    """Every option of a single photo counts, but for what is only reported, and for which photos are accepted."""
    assert setting_of(RemoverSettings.model_fields[name]).affects_result == (
        name not in ("edge_cases", "allow_damaged", "template")
    )


def test_differences_are_named() -> None:
    """Two sets of values are compared path by path, whether or not they have been through JSON."""
    old = result_values(parse_settings(TrainSettings, {"optim": {"epochs": 3}}))
    new = result_values(TrainSettings())
    assert describe_differences(old, new) == ["optim.epochs: 3 before, 20 now"]
    assert describe_differences({"data.folders": ["a"]}, {"data.folders": ("a",)}) == []


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_field_is_described_and_valid_by_default(cls: type[Settings]) -> None:
    """Every field of every class has a description that is a sentence, and a text with a pattern has words for it."""
    for path, field, _ in walk_fields(cls):
        assert field.description and field.description.endswith("."), path
        if any(getattr(mark, "pattern", None) for mark in field.metadata):
            assert setting_of(field).allowed, path


def test_options_do_not_collide() -> None:
    """Of the settings that one command takes together, no two have the same spelling."""
    for classes in (
        (OutputSettings, CanvasSettings, MattingSettings, EngineSettings, InputLimits, BatchSettings),
        (TrainSettings,),
    ):
        fields = [item for cls in classes for item in walk_fields(cls)]
        names = [
            name
            for path, field, owner in fields
            if has_option(field, owner)
            for spelling in option_names(path, field)
            for name in spelling.split("/")
        ]
        assert len(names) == len(set(names))


def test_nested_settings_have_options_under_their_paths() -> None:
    """An option of a nested setting arrives under its dotted path; what was not given does not arrive."""

    @click.command()
    @settings_options(TrainSettings)
    def command(**options: Any) -> None: ...

    context = command.make_context("x", ["--epochs", "3", "--data", "a", "--data", "b", "--workers", "2"])
    assert given(context.params) == {"optim.epochs": 3, "data.folders": ("a", "b"), "workers": 2}


def test_verbs_that_cut_out_have_the_same_options() -> None:
    """`remove` and `batch` take every setting of the remover that has an option, `evaluate` all but the output's."""
    from cutray.commands.remove import remove
    from pipelines.batch_remove import batch
    from pipelines.evaluate import evaluate

    wanted = {
        name
        for cls in (OutputSettings, CanvasSettings, HintSettings, MattingSettings, EngineSettings, InputLimits)
        for name, field in cls.model_fields.items()
        if has_option(field, cls)
    }
    for command, missing in (
        (remove, set()),
        (batch, set()),
        (evaluate, {*PictureSettings.model_fields, *HintSettings.model_fields, "model"}),
    ):
        have = {parameter.name for parameter in command.params}
        assert wanted - have == missing, command.name


def test_the_reference_page_is_up_to_date() -> None:
    """docs/settings.md is what the settings say now; `python -m cutray.console.reference` renews it."""
    assert run(reference, [str(PAGE), "--check"]) == 0


def test_an_outdated_page_is_noticed(tmp_path: Path) -> None:
    """--check fails for a page that differs or is missing, and writes nothing."""
    page = tmp_path / "settings.md"
    assert run(reference, [str(page), "--check"]) == 1
    assert not page.exists()
    page.write_text(settings_page().replace("gradient", "slope"))
    assert run(reference, [str(page), "--check"]) == 1
    assert run(reference, [str(page)]) == 0
    assert page.read_text() == settings_page()
