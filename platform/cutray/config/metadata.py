"""What is known of a setting beside its type, range and description, and what is derived from that.

``Annotated[int, Setting(affects_result=False)]`` marks a field; a field without a mark has the defaults below.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from cutray.config.base import Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """Facts about one setting.

    Attributes:
        affects_result: Whether another value can give another result. Speed, limits, reports and places do not.
        option: Whether the command line has an option for it; None follows ``Settings.every_field_is_option``.
        flag: The option's spelling where it is not the field's name, such as ``--data``.
        short: The option's short form, such as ``-m``.
        allowed: What a text may be, in words, where the type alone does not say it.
        words: Texts that stand for a number, such as auto.
    """

    affects_result: bool = True
    option: bool | None = None
    flag: str = ""
    short: str = ""
    allowed: str = ""
    words: tuple[str, ...] = ()


def setting_of(field: FieldInfo) -> Setting:
    """Return the facts about a field."""
    return next((mark for mark in field.metadata if isinstance(mark, Setting)), Setting())


def nested_class(field: FieldInfo) -> type[Settings] | None:
    """Return the class of a field that holds further settings, or None."""
    kind = field.annotation
    return cast("type[Settings]", kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def walk_fields(cls: type[Settings], prefix: str = "") -> Iterator[tuple[str, FieldInfo, type[Settings]]]:
    """List all fields with their dotted paths, level by level downwards.

    Args:
        cls: The settings class.
        prefix: Path of the class within another one, with a dot at its end.

    Yields:
        Dotted path, field, and the class that the field is in.
    """
    for name, field in cls.model_fields.items():
        below = nested_class(field)
        if below is None:
            yield prefix + name, field, cls
        else:
            yield from walk_fields(below, f"{prefix}{name}.")


def result_values(settings: Settings, *, exclude: Sequence[str] = ()) -> dict[str, Any]:
    """Return the values that can change a result, by dotted path.

    Args:
        settings: The settings.
        exclude: Paths that are left out, because the caller identifies them in another way.
    """
    values = {}
    for path, field, _ in walk_fields(type(settings)):
        if setting_of(field).affects_result and path not in exclude:
            values[path] = _value_at(settings, path)
    return values


def fingerprint(values: Mapping[str, Any]) -> str:
    """Hash values such as those of ``result_values``.

    Args:
        values: Anything that JSON can hold.

    Returns:
        16 hexadecimal digits; equal values give equal ones, whatever their order.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def describe_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name what differs between two tables of values, such as ``looks: 2 before, 4 now``.

    Args:
        old: Values of an earlier run, as JSON gave them back.
        new: Values of this run.
    """
    before, now = (json.loads(json.dumps(values)) for values in (old, new))
    return [
        f"{path}: {before.get(path)!r} before, {now.get(path)!r} now"
        for path in sorted({*before, *now})
        if before.get(path) != now.get(path)
    ]


def _value_at(settings: Settings, path: str) -> Any:
    """Return the value under a dotted path."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value
