"""The files of Ray's cluster launcher, checked with Ray's own validator; no machine is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

util = pytest.importorskip("ray.autoscaler._private.util")
pytest.importorskip("jsonschema", reason="Ray's validator needs it")

FOLDER = Path(__file__).resolve().parents[2] / "cluster" / "vm"


def check(text: str) -> None:
    """Raise if Ray would refuse this file."""
    util.validate_config(util.prepare_config(yaml.safe_load(text)))


@pytest.mark.parametrize("name", ["aws", "onpremise"])
def test_ray_takes_the_file(name: str) -> None:
    """Ray's validator accepts it."""
    check((FOLDER / f"{name}.yaml").read_text())


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("aws", "max_workers: 16", "max_wrokers: 16"),
        ("aws", "head_node_type: head", "head_node_type: haed"),
        ("aws", "resources: {CPU: 8}", "resuorces: {CPU: 8}"),
        ("aws", "resources: {CPU: 8, GPU: 1}", "resources: {CPU: 8, GPU: one}"),
        ("aws", "worker_start_ray_commands", "worker_start_commands"),
        ("onpremise", "head_ip: 10.77.0.1", "headip: 10.77.0.1"),
        ("onpremise", "worker_ips", "workers_ips"),
        ("onpremise", "idle_timeout_minutes", "idle_timeout_minuts"),
    ],
)
def test_a_typo_is_found(name: str, right: str, wrong: str) -> None:
    """A misspelt key, type of node or amount is refused."""
    text = (FOLDER / f"{name}.yaml").read_text()
    assert right in text
    with pytest.raises(Exception):  # noqa: B017  (Ray raises several, without a common one)
        check(text.replace(right, wrong, 1))


@pytest.mark.parametrize("name", ["aws", "onpremise"])
def test_ray_starts_with_a_token(name: str) -> None:
    """Every start sets the token's mode, and the dashboard stays on the loopback."""
    plan = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    starts = [line for key in ("head", "worker") for line in plan[f"{key}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in line for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
