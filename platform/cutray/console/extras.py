"""Verbs that need an optional package: their help works without it, and running them says how to install it."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any

from cutray.errors import MissingExtraError


def requires_extra(extra: str, *modules: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that checks for packages before a command does anything.

    The module of the command must not import them when it is loaded, so that ``--help`` works without them.

    Args:
        extra: Extra of the package that brings the modules, or several, with commas.
        modules: Top-level modules that the command needs.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def checked(*args: Any, **kwargs: Any) -> Any:
            missing = missing_modules(modules)
            if missing:
                verb = "is" if len(missing) == 1 else "are"
                raise MissingExtraError(
                    got=f"{', '.join(missing)} {verb} not installed", fix=f"run `pip install 'cutray[{extra}]'`"
                )
            return command(*args, **kwargs)

        return checked

    return decorate


def missing_modules(modules: Iterable[str]) -> list[str]:
    """Return those of the modules that are not installed, without importing any."""
    return [module for module in modules if not _is_installed(module)]


def _is_installed(module: str) -> bool:
    """Look a top-level module up."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: loaded by hand, without a spec
        return False
