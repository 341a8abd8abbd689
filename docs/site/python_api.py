"""Writes the page of the Python names from their signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import cutray
from cutray import compat
from cutray.matting import detect

_PREAMBLE = """# Python

Everything that is public. `BackgroundRemover(...)` takes [settings](../settings.md) as keywords. What is raised is in
[Errors](errors.md). `import cutray` itself loads nothing heavy.
"""
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Source|Example|Note):\s*(.*)$")


def _described(text: str) -> str:
    """Turn a docstring's sections into Markdown: a bold title, and a list of names."""
    lines, inside = [], ""
    for line in inspect.cleandoc(text).splitlines():
        if start := _SECTION.match(line):
            inside = start[1]
            lines += ["", f"**{'Arguments' if inside == 'Args' else inside}**", "", start[2]]
        elif inside and (entry := re.match(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)", line)):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif line.startswith(">>>"):
            lines.append("    " + line.removesuffix("  # doctest: +SKIP"))
        else:
            lines.append(f"  {line.strip()}" if inside and line.startswith("        ") else line.strip())
    return "\n".join(lines).replace("``", "`").strip() + "\n"


def _signature(name: str, thing: Any) -> str:
    """Return how a thing is called, one parameter a line if it is long."""
    shown = str(inspect.signature(thing)).replace("'", "")
    shown = re.sub(r"\b(?:[a-z_]+\.)+([A-Z]\w+)", r"\1", shown)
    if len(shown) > 90:
        shown = re.sub(r"(?<=[(,]) ?(?=[\w*]+(?::|=|,|\)))", "\n    ", shown)
    return f"```text\n{name}{shown}\n```\n"


def _entry(name: str, thing: Any, level: int = 2) -> list[str]:
    """Describe a function, or a class with its public methods and properties."""
    parts = [f"{'#' * level} {name}\n", _signature(name.split(".")[-1], thing), _described(thing.__doc__ or "")]
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if member.startswith("_") or not getattr(value, "__doc__", None):
                continue
            if isinstance(value, property):
                parts.append(f"{'#' * (level + 1)} {name}.{member}\n\n{_described(value.__doc__ or '')}")
            elif callable(value) or isinstance(value, classmethod):
                parts += _entry(f"{name}.{member}", getattr(thing, member), level + 1)
    return parts


def page() -> str:
    """Return the page as Markdown."""
    parts = [_PREAMBLE]
    for name in cutray.__all__:
        if callable(getattr(cutray, name)):
            parts += _entry(name, getattr(cutray, name))
    parts.append("## cutray.compat\n\n" + _described(compat.__doc__ or ""))
    for name in ("remove", "new_session"):
        parts += _entry(f"compat.{name}", getattr(compat, name), 3)
    parts.append("## cutray.matting.detect\n\n" + _described(detect.__doc__ or ""))
    for name in ("detect_edge_cases",):
        parts += _entry(f"detect.{name}", getattr(detect, name), 3)
    return "\n".join(parts)
