"""The PromQL of dashboards and alerts: its expressions, and the names in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "cluster" / "observability"
DASHBOARDS = sorted(FOLDER.glob("dashboards/*.json"))


def alerts() -> list[dict[str, Any]]:
    """Return all alert rules."""
    return [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def expressions(path: Path) -> list[str]:
    """Return the expressions of a dashboard, or of the alerts, with Grafana's own intervals filled in."""
    if path.suffix == ".yml":
        return [rule["expr"] for rule in alerts()]
    panels = json.loads(path.read_text())["panels"]
    return [t["expr"].replace("$__rate_interval", "1m") for panel in panels for t in panel["targets"]]


def names(text: str) -> set[str]:
    """Return the names of metrics in an expression; raises ValueError where it is not PromQL."""
    import promql_parser

    promql_parser.parse(text)
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\bby\s*\([^)]*\)", "", text)
    return set(re.findall(r"\b(?:ray_\w+|up)\b", bare))
