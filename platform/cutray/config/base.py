"""The base of all settings, and how settings are built from plain values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cutray.config.metadata import nested_class, setting_of
from cutray.errors import ConfigError


class Settings(BaseModel):
    """Base of all settings: immutable, and unknown keys are errors.

    Attributes:
        title: Heading of these settings in help and reference.
        every_field_is_option: Whether each field has an option on the command line, unless it says otherwise itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: ClassVar[str] = ""
    every_field_is_option: ClassVar[bool] = False


SettingsT = TypeVar("SettingsT", bound=Settings)


def parse_settings(cls: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Build settings from plain values and report every problem at once.

    Args:
        cls: The settings class to build.
        values: Field names and values, nested mappings allowed.

    Returns:
        A validated, immutable instance of ``cls``.

    Raises:
        ConfigError: A key is unknown or a value is not allowed; unknown keys come with a suggestion.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        problems = [_describe(cls, problem) for problem in error.errors()]
        raise ConfigError(
            got="; ".join(problems), fix="correct this; docs/settings.md lists every setting with what is allowed"
        ) from error


def _describe(cls: type[Settings], problem: Any) -> str:
    """Say in one clause what is wrong with one value."""
    path = ".".join(str(part) for part in problem["loc"])
    level = _level_of(cls, problem["loc"][:-1])
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:  # settings that do not go together
        return reason
    name = str(problem["loc"][-1])
    if problem["type"] == "extra_forbidden":
        known = list(level.model_fields)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else f", known are {', '.join(known)}"
        return f"unknown setting {path!r}{hint}"
    field = level.model_fields.get(name)
    allowed = setting_of(field).allowed if field is not None else ""
    return f"{path} = {problem['input']!r}: {f'allowed is {allowed}' if allowed else reason}"


def _level_of(cls: type[Settings], way: tuple[Any, ...]) -> type[Settings]:
    """Return the class of the settings below a path."""
    for name in way:
        field = cls.model_fields.get(name)
        cls = (nested_class(field) if field is not None else None) or cls
    return cls
