"""Writes the page of metrics from the calls that register them."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_KINDS = ("Counter", "Gauge", "Histogram")
_PREAMBLE = """# Metrics

What Cutray counts itself, under the names that Prometheus sees. Ray adds many of its own; those that matter are in
[Serve over HTTP](../guides/serving.md) and on the dashboards. A histogram has the series `_bucket`, `_sum`, `_count`.

| name | kind | labels | meaning |
|---|---|---|---|
"""


def metrics() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return name, kind, labels and meaning of every metric in the code, by name."""
    found = []
    for folder in ("platform", "pipelines", "serve_apps"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _KINDS):
                    continue
                values = [ast.literal_eval(value) for value in node.args if isinstance(value, ast.Constant | ast.Tuple)]
                if values and str(values[0]).startswith("cutray_"):
                    name, meaning, *labels = values
                    found.append((f"ray_{name}", node.func.id.lower(), labels[-1] if labels else (), meaning))
    return sorted(found)


def page() -> str:
    """Return the page as Markdown."""
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {meaning} |"
        for name, kind, labels, meaning in metrics()
    ]
    return _PREAMBLE + "\n".join(rows) + "\n"
