"""The options of ``cutray serve`` for samples, and how they are laid over the YAML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cutray.config import DriftSettings, parse_settings
from cutray.config.paths import absolute_path
from serve_apps.config_file import application_args
from serve_apps.drift.samples import check_folder

Command = TypeVar("Command", bound=Callable[..., Any])
_FIELDS = ("samples", "samples_max", "samples_days")


def sample_options(command: Command) -> Command:
    """Add the options to a command."""
    options = (
        click.option("--samples", type=click.Path(file_okay=False), help="Folder that keeps the least sure photos."),
        click.option("--samples-max", type=click.IntRange(1), help="Most photos there; 200 by default."),
        click.option("--samples-days", type=float, help="Days after which one is deleted; 30 by default."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def take_sample_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take what was given of them out of all options of a command."""
    taken = {name: options.pop(name) for name in _FIELDS}
    return {name: value for name, value in taken.items() if value is not None}


def lay_over(config: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Lay options over a configuration, make its paths absolute, and make sure that the folder can be used.

    Args:
        config: From ``load_config``; changed in place.
        given: From ``take_sample_options``.

    Returns:
        The configuration.

    Raises:
        ConfigError: A value is not allowed.
        CutrayError: The folder cannot be written.
    """
    args = application_args(config)
    settings = parse_settings(DriftSettings, {**(args.get("drift") or {}), **given})
    paths = {name: absolute_path(value) for name in ("reference", "samples") if (value := getattr(settings, name))}
    if settings.samples:
        check_folder(paths["samples"])
    if settings != DriftSettings():
        args["drift"] = settings.model_dump() | paths
    return config
