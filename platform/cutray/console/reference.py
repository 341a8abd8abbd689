"""Generates docs/settings.md, the reference of all settings, from the settings classes.

python -m cutray.console.reference docs/settings.md            write it
python -m cutray.console.reference docs/settings.md --check    exit 1 if the file is not up to date
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types
import click
from pydantic.fields import FieldInfo

from cutray.config import (
    BatchSettings,
    CanvasSettings,
    DriftSettings,
    EngineSettings,
    HintSettings,
    InputLimits,
    JobSettings,
    MattingSettings,
    OutputSettings,
    ReadingSettings,
    RefinerSettings,
    RolloutRules,
    Settings,
    SweepSettings,
    TrainSettings,
    setting_of,
    walk_fields,
)
from cutray.console.options import default_text, has_option, option_names
from cutray.console.run import run

_REMOVER = "`BackgroundRemover(...)`; `cutray remove`, `batch`"
_PHOTO = f"{_REMOVER}; fields of an HTTP request"
# Settings classes, and where each is used.
_PARTS: tuple[tuple[type[Settings], str], ...] = (
    (OutputSettings, _PHOTO),
    (CanvasSettings, _PHOTO),
    (MattingSettings, f"{_PHOTO}; `cutray evaluate`"),
    (HintSettings, _PHOTO),
    (EngineSettings, f"{_REMOVER}, `evaluate`, `serve`, `doctor`"),
    (ReadingSettings, f"{_PHOTO}; `cutray evaluate`"),
    (InputLimits, f"{_REMOVER}, `evaluate`"),
    (BatchSettings, "`cutray batch`"),
    (JobSettings, "`args.jobs` of the YAML of `cutray serve`"),
    (DriftSettings, "`args.drift` of the YAML of `cutray serve`"),
    (RolloutRules, "`cutray rollout start --rules FILE`"),
    (TrainSettings, "`cutray train`: presets, `--config FILE`, `--set PATH=VALUE`, and the options named here"),
    (SweepSettings, "`cutray tune FILE`, and the options named here"),
    (RefinerSettings, "`python -m pipelines.train_refiner --set NAME=VALUE`"),
)
_PREAMBLE = """# Settings

Every setting with its default and what is allowed. This page is generated from `platform/cutray/config/` by
`python -m cutray.console.reference docs/settings.md`; the tests check that it is up to date.

Precedence: command line, then preset or file, then default. Unknown settings are errors. The column *result* says
whether another value can change a result: a batch or a training run continues only with the same values of these,
while all others may differ.
"""


@click.command()
@click.argument("page", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the page is not up to date.")
def reference(page: Path, check: bool) -> int:
    """Write the reference of all settings.

    \b
    python -m cutray.console.reference docs/settings.md
    python -m cutray.console.reference docs/settings.md --check
    """
    text = settings_page()
    if check:
        current = page.is_file() and page.read_text(encoding="utf-8") == text
        click.echo(f"{page} is {'up to date' if current else 'not up to date; run this without --check'}", err=True)
        return 0 if current else 1
    page.write_text(text, encoding="utf-8")
    return 0


def settings_page() -> str:
    """Return the page as Markdown."""
    return _PREAMBLE + "".join(f"\n{section}" for cls, where in _PARTS for section in _sections(cls, where))


def _sections(cls: type[Settings], where: str) -> Iterator[str]:
    """Write a table for a class, and one for each class nested in it."""
    rows: dict[type[Settings], list[str]] = {}
    for path, field, owner in walk_fields(cls):
        rows.setdefault(owner, []).append(_row(path, field, owner))
    for owner, lines in rows.items():
        level = "##" if owner is cls else "###"
        intro = f"{(owner.__doc__ or '').splitlines()[0]}\n" + (f"\nIn: {where}.\n" if owner is cls else "")
        head = "| setting | option | default | allowed | result | meaning |\n|---|---|---|---|---|---|\n"
        yield f"{level} {owner.title}\n\n{intro}\n{head}" + "".join(lines)


def _row(path: str, field: FieldInfo, owner: type[Settings]) -> str:
    """Write a field as a row of a table."""
    option = " ".join(f"`{name}`" for name in option_names(path, field)) if has_option(field, owner) else ""
    default = "required" if field.is_required() else default_text(field)
    result = "yes" if setting_of(field).affects_result else "no"
    cells = (f"`{path}`", option, default, _allowed(field), result, str(field.description))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _allowed(field: FieldInfo) -> str:
    """Say what a field takes: its choices, range, or type."""
    if words := setting_of(field).allowed:
        return words
    kind = field.annotation
    if isinstance(kind, types.UnionType):
        kind = typing.cast(Any, next(part for part in typing.get_args(kind) if part is not types.NoneType))
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    if kind is bool:
        return "on, off"
    if typing.get_origin(kind) is tuple:
        return "list"
    if typing.get_origin(kind) is dict:
        return "table"
    noun = {int: "whole number", float: "number", str: "text"}[typing.cast(type, kind)]
    return ", ".join([noun, *_bounds(field)])


def _bounds(field: FieldInfo) -> Iterator[str]:
    """Say the bounds of a number in words."""
    for mark in field.metadata:
        if isinstance(mark, annotated_types.Ge):
            yield f"≥ {mark.ge:,}"
        elif isinstance(mark, annotated_types.Gt):
            yield f"> {mark.gt:,}"
        elif isinstance(mark, annotated_types.Le):
            yield f"≤ {mark.le:,}"
        elif isinstance(mark, annotated_types.Lt):
            yield f"< {mark.lt:,}"
        elif isinstance(mark, annotated_types.MultipleOf):
            yield f"a multiple of {mark.multiple_of}"


if __name__ == "__main__":
    sys.exit(run(reference))
