"""Writes the page of errors: each class with its code and every fix that the code names, and the codes of HTTP."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from cutray import errors
from serve_apps.remover.errors import CODES

ROOT = Path(__file__).resolve().parents[2]
_PREAMBLE = """# Errors

Every error says what was got, what is allowed and what to do. In Python all of them are subclasses of
`cutray.errors.CutrayError`, with the attributes `code`, `got`, `allowed` and `fix`, and they can be pickled. The
command line prints the sentence and ends with 1, or with 2 if the command itself was wrong.

## In Python and on the command line

Names in braces are filled in when the error is raised.
"""
_HTTP = """
## Over HTTP

The body is `{"code": …, "message": …, "request_id": …}`, and the header `X-Error-Code` repeats the code.

| code | status | meaning |
|---|--:|---|
"""


def _classes(base: type[errors.CutrayError]) -> Iterator[type[errors.CutrayError]]:
    """Yield a class and those below it, in the order of their definition."""
    yield base
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _classes(child)


def _text(node: ast.expr) -> str:
    """Return a string of the source as it reads; what is filled in stands in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{" + ast.unparse(part.value) + "}"
            for part in node.values
            if isinstance(part, ast.Constant | ast.FormattedValue)
        )
    return ""


def fixes() -> dict[str, list[str]]:
    """Return for each class of errors the fixes that are written in the code, without repetition."""
    found: dict[str, list[str]] = defaultdict(list)
    for folder in ("platform", "pipelines", "serve_apps"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                for keyword in node.keywords:
                    if keyword.arg == "fix" and (text := _text(keyword.value)) and text not in found[node.func.id]:
                        found[node.func.id].append(text)
    return found


def page() -> str:
    """Return the page as Markdown."""
    known = fixes()
    parts = [_PREAMBLE]
    for kind in _classes(errors.CutrayError):
        doc = (kind.__doc__ or "").split("\n\n")[0].strip()
        parts.append(f"### {kind.__name__}\n\nCode `{kind.code}`. {' '.join(doc.split())}\n")
        if known.get(kind.__name__):
            parts.append("\n".join(f"- {' '.join(fix.split())}" for fix in known[kind.__name__]) + "\n")
    rows = "\n".join(f"| `{code}` | {status} | {meaning} |" for code, (status, meaning) in CODES.items())
    return "\n".join(parts) + _HTTP + rows + "\n"
