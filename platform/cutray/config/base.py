"""The base of all settings, and how settings are built from plain values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cutray.errors import ConfigError


class Settings(BaseModel):
    """Base of all settings: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
            got="; ".join(problems),
            allowed=f"see the fields of {cls.__name__}",
            fix="correct the values named above",
        ) from error


def _describe(cls: type[Settings], problem: Any) -> str:
    """Say in one clause what is wrong with one value."""
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{path} = {problem['input']!r}: {problem['msg']}"
    known = list(_level_of(cls, problem["loc"][:-1]).model_fields)
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else f", known are {', '.join(known)}"
    return f"unknown setting {path!r}{hint}"


def _level_of(cls: type[Settings], way: tuple[Any, ...]) -> type[Settings]:
    """Return the class of the settings below a path."""
    for name in way:
        below = cls.model_fields[name].annotation if name in cls.model_fields else None
        if isinstance(below, type) and issubclass(below, Settings):
            cls = below
    return cls
