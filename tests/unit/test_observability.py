"""Scrape configuration, alert rules and dashboards, checked without Prometheus and Grafana."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

pytest.importorskip("promql_parser", reason="expressions are checked with promql-parser")
from tests.promql import DASHBOARDS, FOLDER, alerts, expressions, names


@pytest.mark.parametrize("path", [*DASHBOARDS, FOLDER / "alerts.yml"], ids=lambda path: path.stem)
def test_every_expression_is_promql(path: Path) -> None:
    """Each expression parses and asks for at least one metric."""
    assert all(names(text) for text in expressions(path))


@pytest.mark.parametrize("wrong", ["sum(rate(ray_x[5m])", "rate(ray_x)", "sum by route (ray_x)", "ray_x{a=b}"])
def test_a_typo_is_found(wrong: str) -> None:
    """An expression with a bracket, a range, or quotes missing is refused."""
    with pytest.raises(ValueError):
        names(wrong)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_the_right_shape(path: Path) -> None:
    """Panels have ids of their own, do not overlap, and take the datasource that the viewer chose."""
    board = json.loads(path.read_text())
    panels = board["panels"]
    assert board["uid"] == f"cutray-{path.stem}"
    assert [entry["name"] for entry in board["templating"]["list"]] == ["datasource"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 8
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] and panel["targets"], panel["title"]


def test_alerts_say_what_to_do() -> None:
    """Each rule has only known keys, a severity, one sentence, and a heading of the operations page that exists."""
    page = (FOLDER.parents[1] / "docs" / "guides" / "operations.md").read_text()
    headings = {line[3:].lower().replace(" ", "-") for line in page.splitlines() if line.startswith("## ")}
    assert len({rule["alert"] for rule in alerts()}) == len(alerts()) >= 8
    for rule in alerts():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["runbook"].split("#")[1] in headings, rule["alert"]


def test_scrape_configuration_has_known_keys() -> None:
    """Prometheus reads the rules and Ray's nodes, and no key is misspelt."""
    plan = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert set(plan) == {"global", "rule_files", "scrape_configs"}
    assert set(plan["global"]) == {"scrape_interval", "evaluation_interval"}
    assert [set(job) for job in plan["scrape_configs"]] == [{"job_name", "dns_sd_configs"}]
    assert set(plan["scrape_configs"][0]["dns_sd_configs"][0]) == {"names", "type", "port", "refresh_interval"}
    assert plan["scrape_configs"][0]["job_name"] == "ray"  # alerts select it


def promtool(tmp_path: Path, config: str, rules: str) -> subprocess.CompletedProcess[str]:
    """Let Prometheus' own tool check a configuration together with its rules."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    (tmp_path / "alerts.yml").write_text(rules)
    path = tmp_path / "prometheus.yml"
    path.write_text(config.replace("/etc/prometheus/alerts.yml", str(tmp_path / "alerts.yml")))
    return subprocess.run([program, "check", "config", path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", ""),
        ("scrape_interval:", "scrape_intervall:"),
        ("dns_sd_configs:", "dns_configs:"),
        ("type: A,", "type: AB,"),
        ("expr: up{", "expr: up}"),
        ("annotations:", "anotations:"),
    ],
)
def test_prometheus_itself_takes_the_files(tmp_path: Path, right: str, wrong: str) -> None:
    """Its tool accepts scrape configuration and rules as they are, and refuses each with a typo."""
    texts = [(FOLDER / name).read_text() for name in ("prometheus.yml", "alerts.yml")]
    assert any(right in text for text in texts)
    done = promtool(tmp_path, *(text.replace(right, wrong) if right else text for text in texts))
    assert (done.returncode == 0) == (right == wrong), done.stdout + done.stderr
    if right == wrong:
        assert f"{len(alerts())} rules found" in done.stdout
