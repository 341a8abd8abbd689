"""Templates: named values of output and canvas, shipped or from a file."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection
from functools import cache
from typing import Any

from cutray.errors import ConfigError
from cutray.regular_file import read_text

FILE_VARIABLE = "CUTRAY_TEMPLATES"
ABOUT = "about"
_SHIPPED = os.path.join(os.path.dirname(__file__), "templates.toml")
_ENDING = ".toml"

Template = dict[str, Any]


def list_templates() -> dict[str, Template]:
    """Return all templates that can be named: those shipped, and those of the file that CUTRAY_TEMPLATES names.

    Returns:
        Values by name, with the text ``about``; own ones go before shipped ones of the same name.

    Raises:
        ConfigError: The file cannot be read.
    """
    own = os.environ.get(FILE_VARIABLE, "").strip()
    return {**_shipped(), **(_read(os.path.expanduser(own)) if own else {})}


def is_file(name: str) -> bool:
    """Whether a template's name is the path of a file, with or without a name after it."""
    return _ENDING in name.lower()


def template_values(name: str, known: Collection[str]) -> Template:
    """Return the values that a template stands for.

    Args:
        name: A name, ``FILE.toml`` with one template in it, or ``FILE.toml:NAME``.
        known: Settings that a template may set.

    Raises:
        ConfigError: There is no such template, or it sets something else.
    """
    if is_file(name):
        end = name.lower().rindex(_ENDING) + len(_ENDING)
        path, chosen = name[:end], name[end:].removeprefix(":")
        found = _read(os.path.expanduser(path))
        if not chosen and len(found) == 1:
            chosen = next(iter(found))
    else:
        chosen, found = name.strip(), list_templates()
    if chosen not in found:
        close = difflib.get_close_matches(chosen, found, n=1)
        hint = f", did you mean {close[0]!r}?" if close else f"; there are {', '.join(found)}"
        raise ConfigError(
            got=f"template = {name!r} is unknown{hint}",
            fix="choose one that `cutray templates` lists, or FILE.toml:NAME for one of your own",
        )
    values = {key: value for key, value in found[chosen].items() if key != ABOUT}
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                got=f"the template {name!r} sets {key!r}, which is no setting of output or canvas{hint}",
                fix="correct it; docs/settings.md lists these settings under Output and Canvas",
            )
    return values


@cache
def _shipped() -> dict[str, Template]:
    """Read the shipped templates once."""
    return _read(_SHIPPED)


def _read(path: str) -> dict[str, Template]:
    """Read a file of templates; paths of background pictures in it begin at its folder."""
    try:
        templates = tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:  # TOML that is none, or not UTF-8, is a ValueError
        raise ConfigError(got=f"the templates in {path!r} cannot be read: {error}", fix="check the file") from error
    if not templates or not all(isinstance(values, dict) for values in templates.values()):
        raise ConfigError(
            got=f"{path!r} holds no templates",
            allowed="tables such as [shop] with size, margin, background and so on",
            fix="correct it; `cutray templates square-white` prints an example",
        )
    for values in templates.values():
        picture = os.path.join(os.path.dirname(os.path.abspath(path)), str(values.get("background", "")))
        if os.path.isfile(picture):
            values["background"] = picture
    return templates
