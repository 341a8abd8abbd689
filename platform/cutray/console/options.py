"""Command-line options made from the settings, so that defaults, ranges and help exist once."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection
from typing import Any

import click
from pydantic.fields import FieldInfo

from cutray.config import Settings, setting_of, walk_fields

_LEVEL = "__"  # stands for the dot of a nested setting in the name of an option's parameter

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class GroupedCommand(click.Command):
    """A command whose help lists its options under the headings of the settings that they come from."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, then one section for each class of settings."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class SettingOption(click.Option):
    """An option that stands for a setting."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        """Keep the heading that the option is listed under."""
        super().__init__(*args, **kwargs)
        self.section = section


def settings_options(*classes: type[Settings], exclude: Collection[str] = ()) -> Decorator:
    """Return a decorator that adds an option for each setting that has one.

    Unset options are left out of the call's keyword arguments by ``given``; the settings' own defaults apply.

    Args:
        classes: Settings classes; which of their fields are options is in the fields' metadata.
        exclude: Dotted paths of settings that the command fixes itself.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        found = [
            (path, field, owner)
            for cls in classes
            for path, field, owner in walk_fields(cls)
            if path not in exclude and has_option(field, owner)
        ]
        for path, field, owner in reversed(found):
            command = _option(path, field, owner.title or classes[0].title)(command)
        return command

    return decorate


def has_option(field: FieldInfo, owner: type[Settings]) -> bool:
    """Whether a field of a settings class has an option."""
    option = setting_of(field).option
    return owner.every_field_is_option if option is None else option


def option_names(path: str, field: FieldInfo) -> list[str]:
    """Return the spellings of a setting's option, short form first.

    Args:
        path: Dotted path of the setting; the last part names the option.
        field: Its field.
    """
    setting = setting_of(field)
    name = path.rpartition(".")[2].replace("_", "-")
    flag = setting.flag or f"--{name}"
    if _plain_type(field.annotation) is bool and field.default:
        flag = f"{flag}/--no-{name}"
    return [setting.short, flag] if setting.short else [flag]


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Keep only the options that were given on the command line, under the dotted paths of their settings."""
    return {name.replace(_LEVEL, "."): value for name, value in values.items() if value is not None and value != ()}


def default_text(field: FieldInfo) -> str:
    """Return a setting's default in words."""
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _option(path: str, field: FieldInfo, section: str) -> Decorator:
    """Translate one field into an option."""
    names = option_names(path, field)
    kind = _plain_type(field.annotation)
    facts: dict[str, Any] = {"default": None, "help": f"{field.description}  [default: {default_text(field)}]"}
    if kind is bool:
        facts["is_flag"] = True
    elif typing.get_origin(kind) is tuple:
        facts |= {"multiple": True, "type": str, "help": f"{field.description} May be given several times."}
    elif words := setting_of(field).words:
        facts["type"] = _NumberOrWord(words)
    else:
        facts["type"] = _click_type(kind)
    return click.option(*names, path.replace(".", _LEVEL), cls=SettingOption, section=section, **facts)


class _Number(click.Choice):
    """One of a few whole numbers."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn the chosen text into its number."""
        return int(super().convert(str(value), param, ctx))


class _NumberOrWord(click.ParamType):
    """A whole number, or a word that stands for one."""

    name = "integer"

    def __init__(self, words: Collection[str]) -> None:
        """Remember the words; what they mean is the settings' business."""
        self._words = words
        self.name = "|".join(["integer", *words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Pass words on, and read numbers."""
        return value if value in self._words else click.INT.convert(value, param, ctx)


def _plain_type(annotation: Any) -> Any:
    """Take None out of a union."""
    if isinstance(annotation, types.UnionType):
        return next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    return annotation


def _click_type(kind: Any) -> Any:
    """Translate a type; ranges are checked by the settings themselves."""
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        names = [str(choice) for choice in choices]
        return _Number(names) if all(isinstance(choice, int) for choice in choices) else click.Choice(names)
    return kind
