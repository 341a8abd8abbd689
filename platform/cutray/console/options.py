"""Command-line options made from the settings, so that defaults, ranges and help exist once."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

import click

from cutray.config import RemoverSettings, Settings

# Short spellings; where a user of rembg would expect one, it is the same.
_SHORT = {
    "model": "-m",
    "only_mask": "-om",
    "background": "-b",
    "format": "-f",
    "crop": "-c",
    "batch_size": "-n",
}


def settings_options(
    *names: str, of: type[Settings] = RemoverSettings
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds an option for each named field of the settings ``of``.

    Unset options are left out of the call's keyword arguments by ``given``; the settings' own defaults apply.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            command = _option(name, of)(command)
        return command

    return decorate


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Keep only the options that were given on the command line."""
    return {name: value for name, value in values.items() if value is not None}


def _option(name: str, of: type[Settings]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Translate one field into an option."""
    field = of.model_fields[name]
    flag = "--" + name.replace("_", "-")
    default = "none" if field.default is None else str(field.default)
    kind = _plain_type(field.annotation)
    names = [_SHORT[name], flag] if name in _SHORT else [flag]
    if kind is bool:
        spelling = f"{flag}/--no-{name.replace('_', '-')}" if field.default else flag
        names[-1] = spelling
        on = "on" if field.default else "off"
        return click.option(*names, name, default=None, is_flag=True, help=f"{field.description}  [default: {on}]")
    return click.option(
        *names, name, default=None, type=_click_type(kind), help=f"{field.description}  [default: {default}]"
    )


class _Number(click.Choice):
    """One of a few whole numbers."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn the chosen text into its number."""
        return int(super().convert(str(value), param, ctx))


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
