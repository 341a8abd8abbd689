"""Puts the settings of a run together from presets, files and dotted paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutray.config import Settings
from cutray.errors import ConfigError, MissingExtraError
from cutray.regular_file import read_text

_FOLDER = Path(__file__).with_name("presets")
PRESETS = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_settings(preset: str | None, config: Path | None) -> dict[str, Any]:
    """Return the values of a preset, overridden by those of a file.

    Raises:
        ConfigError: A file cannot be read or is not a table of settings.
    """
    values: dict[str, Any] = {}
    for path in ([_FOLDER / f"{preset}.yaml"] if preset else []) + ([config] if config else []):
        values = merged(values, read_yaml(path))
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a table of settings.

    Raises:
        ConfigError: The file cannot be read or holds something else.
        MissingExtraError: The package that reads YAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError(got="PyYAML is not installed", fix="run `pip install 'cutray[train]'`") from error
    try:
        values = yaml.safe_load(read_text(path)) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(got=f"{path} cannot be read: {error}", fix="check the path and the file") from error
    if not isinstance(values, dict):
        raise ConfigError(got=f"{path} holds {type(values).__name__}", allowed="a table of settings")
    return values


def as_yaml(settings: Settings) -> str:
    """Write settings as a file that ``load_settings`` reads; without a name, which each new run has for itself."""
    import yaml

    values = settings.model_dump(mode="json", exclude={"name"})
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first table with the values of the second put in, level by level; neither shares a table with it."""
    result = {name: merged(value, {}) if isinstance(value, Mapping) else value for name, value in first.items()}
    for name, value in second.items():
        below = result.get(name)
        table = below if isinstance(below, Mapping) else {}
        result[name] = merged(table, value) if isinstance(value, Mapping) else value
    return result


def assign_changes(values: dict[str, Any], changes: Sequence[str]) -> None:
    """Set values written as PATH=VALUE, which are read as YAML does.

    Raises:
        ConfigError: One is written otherwise, or its value is no YAML.
    """
    import yaml

    for change in changes:
        path, mark, text = change.partition("=")
        if not mark:
            raise ConfigError(got=f"--set {change}", allowed="PATH=VALUE", fix="write for example optim.lr=0.0005")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            problem = " ".join(str(error).split())
            raise ConfigError(got=f"--set {change}: {problem}", allowed="a value as YAML writes it") from error
        assign(values, path, value)


def assign(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a value under a dotted path; None leaves everything as it is.

    Raises:
        ConfigError: The path goes through something that is no table.
    """
    if value is None:
        return
    *way, last = path.split(".")
    for name in way:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(got=f"{path}: {name} is a value, not a table", fix="check the path")
    values[last] = value
