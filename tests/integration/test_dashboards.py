"""Dashboards and alerts name only metrics that a running endpoint, batch or training exports."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("promql_parser", reason="expressions are checked with promql-parser")
httpx = pytest.importorskip("httpx")
from tests.conftest import require_weights  # noqa: E402
from tests.endpoint import ROOT, free_port, running, write_config  # noqa: E402
from tests.promql import FOLDER, expressions, names  # noqa: E402
from tests.ray_work import names as exported  # noqa: E402

# Exported after their first event alone; their names are those of serve_apps/remover/metrics.py.
SELDOM = {"ray_cutray_retries_total", "ray_cutray_no_subject_total"}


def used(*files: str) -> set[str]:
    """Return the names in these files of the folder."""
    return {name for file in files for text in expressions(FOLDER / file) for name in names(text)}


def gpu_names() -> set[str]:
    """Return what Ray's agent exports on machines with GPUs, from its own table."""
    agent = pytest.importorskip("ray.dashboard.modules.reporter.reporter_agent")
    return {f"ray_{name}" for name in agent.METRICS_GAUGES if name.startswith(("node_gpu", "node_gram"))}


def test_a_running_endpoint_exports_what_is_shown(tmp_path: Path, photo_files: Path) -> None:
    """After one photo and one refusal, serving, machines and alerts have all their metrics."""
    require_weights("u2netp")
    config = write_config(
        tmp_path / "serve.yaml", deployments={"Segmenter": {"num_replicas": 1, "user_config": {"model": "u2netp"}}}
    )
    declared = (ROOT / "serve_apps" / "remover" / "metrics.py").read_text()
    assert all(f'"{name.removeprefix("ray_")}"' in declared for name in SELDOM)
    wanted = used("dashboards/serving.json", "dashboards/machines.json", "alerts.yml")
    wanted -= SELDOM | gpu_names() | {"up"}  # `up` is Prometheus' own
    assert len(wanted) > 20
    with running(config, "--offline") as (url, _):
        photo = (photo_files / "astronaut.jpg").read_bytes()
        assert httpx.post(f"{url}/remove-background", content=photo, timeout=60).status_code == 200
        assert httpx.post(f"{url}/remove-background", content=b"x", timeout=60).status_code == 415
        until = time.monotonic() + 40
        while missing := wanted - exported(httpx.get(f"{url}/metrics", timeout=10).text):
            assert time.monotonic() < until, missing
            time.sleep(1)


def test_a_batch_and_a_training_export_what_is_shown() -> None:
    """While Ray Data and Ray Train work, each metric of their dashboard is there at some time."""
    pytest.importorskip("ray.train.v2.api.data_parallel_trainer", reason="needs the extra 'train'")
    command = [sys.executable, "-m", "tests.ray_work", str(free_port())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = used("dashboards/work.json")
    assert len(wanted) > 10 and wanted <= set(json.loads(done.stdout.splitlines()[-1]))
