"""Writes the page of the HTTP addresses from the endpoint's own OpenAPI document."""

from __future__ import annotations

from typing import Any

from serve_apps.remover.api import create_api
from serve_apps.remover.schemas import AppArgs
from serve_apps.remover.service import Service

_PREAMBLE = """# HTTP

From the endpoint's OpenAPI document, which a running endpoint serves at `/openapi.json` and shows at `/docs`.
Steps and examples: [Serve over HTTP](../guides/serving.md). Codes of errors: [Errors](errors.md).
"""


def document() -> dict[str, Any]:
    """Return the OpenAPI document of an endpoint with its default settings; nothing is started."""
    described: dict[str, Any] = create_api(Service(None, {}, AppArgs())).openapi()
    return described


def _kind(schema: dict[str, Any]) -> str:
    """Say in a word or a list what a value may be."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("format") or schema.get("type", "")
    if kind == "array":
        return f"several: {_kind(schema.get('items', {}))}"
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return ", ".join([str(kind), *bounds])


def _rows(fields: dict[str, dict[str, Any]], required: list[str]) -> str:
    """Return a table of fields."""
    rows = [
        f"| `{name}` | {_kind(schema)}{', required' if name in required else ''} "
        f"| {'' if schema.get('default') is None else '`' + str(schema['default']) + '`'} "
        f"| {' '.join(str(schema.get('description', '')).split())} |"
        for name, schema in fields.items()
    ]
    return "| name | value | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows).replace(
        "`True`", "`true`"
    ).replace("`False`", "`false`")


def _address(method: str, path: str, operation: dict[str, Any]) -> str:
    """Describe one address: what it takes and what it answers."""
    text = operation.get("description") or operation.get("summary", "")
    parts = [f"## {method.upper()} {path}\n\n{' '.join(text.split())}\n"]
    body = operation.get("requestBody", {}).get("content", {})
    if raw := [kind for kind in body if "form" not in kind]:
        parts.append("Body: " + ", ".join(f"`{kind}`" for kind in raw) + ", or a form.\n")
    if form := next((content["schema"] for kind, content in body.items() if "form" in kind), None):
        parts.append("Fields of the form:\n\n" + _rows(form.get("properties", {}), form.get("required", [])) + "\n")
    elif query := {
        p["name"]: p["schema"] | {"description": p.get("description", "")} for p in operation.get("parameters", [])
    }:
        parts.append("Parameters:\n\n" + _rows(query, []) + "\n")
    answers = [f"| {status} | {answer.get('description', '')} |" for status, answer in operation["responses"].items()]
    parts.append("| status | answer |\n|--:|---|\n" + "\n".join(answers) + "\n")
    return "\n".join(parts)


def page() -> str:
    """Return the page as Markdown."""
    addresses = [
        _address(method, path, operation)
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
        if method in ("get", "post")
    ]
    return "\n".join([_PREAMBLE, *addresses])
