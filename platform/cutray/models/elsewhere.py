"""Models that users of similar tools name and that Cutray does not run: what they are, and what to use instead."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from cutray.errors import UnknownModelError


@dataclass(frozen=True, slots=True)
class ElsewhereModel:
    """One model of other tools; the fields are described in ``elsewhere.toml``."""

    name: str
    license: str
    size_mb: int
    source: str
    reason: str
    instead: str


@cache
def list_elsewhere() -> tuple[ElsewhereModel, ...]:
    """Return the models of other tools, in the order of ``elsewhere.toml``."""
    text = resources.files(__package__).joinpath("elsewhere.toml").read_text(encoding="utf-8")
    return tuple(ElsewhereModel(name=name, **table) for name, table in tomllib.loads(text).items())


def unknown_model(name: str, known: Iterable[str], allowed: str) -> UnknownModelError:
    """Return the error for a name that is no model here.

    Args:
        name: What was asked for.
        known: Names of the models that run here.
        allowed: What may be given, for people.
    """
    for model in list_elsewhere():
        if model.name == name:
            size = f", about {model.size_mb} MB" if model.size_mb else ""
            published = f"it is published at {model.source} ({model.license}{size})"
            return UnknownModelError(
                got=f"{name} does not run here: {model.reason}; {published}",
                allowed=allowed,
                fix=f"use {model.instead}",
            )
    close = difflib.get_close_matches(name, known, n=1)
    return UnknownModelError(
        got=f"there is no model {name!r}",
        allowed=allowed,
        fix=f"perhaps {close[0]!r} is meant" if close else "list the names with `cutray models list`",
    )
