"""Dashboards and alerts name only metrics that a running endpoint, batch or training exports."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("promql_parser", reason="expressions are checked with promql-parser")
httpx = pytest.importorskip("httpx")
from click.testing import CliRunner  # noqa: E402

from cutray.evaluation.drift import Fingerprint, features_of  # noqa: E402
from cutray.evaluation.drift_metrics import read_metrics  # noqa: E402
from cutray.evaluation.photo_features import PhotoFeatures  # noqa: E402
from pipelines.drift.cli import drift  # noqa: E402
from tests.conftest import require_weights  # noqa: E402
from tests.endpoint import ROOT, free_port, running, write_config  # noqa: E402
from tests.promql import DASHBOARDS, FOLDER, alerts, expressions, names  # noqa: E402
from tests.ray_work import names as exported  # noqa: E402

# Exported after their first event alone; their names are those of serve_apps/remover/metrics.py.
SELDOM = {"ray_cutray_retries_total", "ray_cutray_no_subject_total"}
# Exported while a new model is tried; their names are those of serve_apps/rollout/metrics.py.
OF_ROLLOUTS = {
    "ray_cutray_rollout_state",
    "ray_cutray_rollout_photos_total",
    "ray_cutray_rollout_forward_ms_bucket",
    "ray_cutray_rollout_mask_iou_sum",
    "ray_cutray_rollout_mask_iou_count",
}


def used(*files: str) -> set[str]:
    """Return the names in these files of the folder."""
    return {name for file in files for text in expressions(FOLDER / file) for name in names(text)}


def gpu_names() -> set[str]:
    """Return what Ray's agent exports on machines with GPUs, from its own table."""
    agent = pytest.importorskip("ray.dashboard.modules.reporter.reporter_agent")
    return {f"ray_{name}" for name in agent.METRICS_GAUGES if name.startswith(("node_gpu", "node_gram"))}


@pytest.fixture(scope="module")
def drift_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a reference of photos."""
    folder = tmp_path_factory.mktemp("drift")
    reference = Fingerprint()
    for _ in range(200):
        reference.add_all(features_of(PhotoFeatures(0.5, 300, 1), found=True, confidence=0.9, area=0.3))
    (folder / "reference.json").write_text(reference.as_json())
    return folder


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, photo_files: Path, drift_folder: Path) -> Iterator[str]:
    """Run an endpoint that has cut out a photo and refused one; returns its address."""
    require_weights("u2netp")
    config = write_config(
        tmp_path_factory.mktemp("endpoint") / "serve.yaml",
        drift={"reference": str(drift_folder / "reference.json"), "samples": str(drift_folder / "samples")},
        deployments={"Segmenter": {"num_replicas": 1, "user_config": {"model": "u2netp"}}},
    )
    with running(config, "--offline") as (url, _):
        photo = (photo_files / "astronaut.jpg").read_bytes()
        assert httpx.post(f"{url}/remove-background", content=photo, timeout=60).status_code == 200
        assert httpx.post(f"{url}/remove-background", content=b"x", timeout=60).status_code == 415
        yield url


def test_a_running_endpoint_exports_what_is_shown(endpoint: str) -> None:
    """After one photo and one refusal, serving, machines and alerts have all their metrics."""
    declared = (ROOT / "serve_apps" / "remover" / "metrics.py").read_text()
    assert all(f'"{name.removeprefix("ray_")}"' in declared for name in SELDOM)
    wanted = used("dashboards/serving.json", "dashboards/machines.json", "alerts.yml")
    of_rollouts = (ROOT / "serve_apps" / "rollout" / "metrics.py").read_text()
    bare = {re.sub("_(bucket|sum|count)$", "", name.removeprefix("ray_")) for name in OF_ROLLOUTS}
    assert all(f'"{name}"' in of_rollouts for name in bare)
    wanted -= SELDOM | OF_ROLLOUTS | gpu_names() | {"up"}  # `up` is Prometheus' own
    assert len(wanted) > 20
    until = time.monotonic() + 400
    while missing := wanted - exported(httpx.get(f"{endpoint}/metrics", timeout=10).text):
        assert time.monotonic() < until, missing
        time.sleep(1)


def test_photos_are_compared_and_the_doubtful_ones_kept(endpoint: str, drift_folder: Path) -> None:
    """The photo is in the histograms of its model, as `cutray drift report` reads them, and among the samples."""
    until = time.monotonic() + 400
    while not (seen := read_metrics(httpx.get(f"{endpoint}/metrics", timeout=10).text)).get("u2netp"):
        assert time.monotonic() < until
        time.sleep(1)
    assert seen["u2netp"].counts["brightness"].sum() == 1
    done = CliRunner().invoke(
        drift, ["report", "--url", endpoint, "--reference", str(drift_folder / "reference.json")], standalone_mode=False
    )
    assert done.return_value == 0 and "brightness" in done.output and "few" in done.output
    (image,), (mask,) = ((drift_folder / "samples" / part).iterdir() for part in ("images", "masks"))
    assert image.stem == mask.stem


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
def test_prometheus_answers_each_panel(endpoint: str, tmp_path: Path) -> None:
    """A real Prometheus reads the endpoint and the rules; it evaluates each of them, and each expression of a panel."""
    plan = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    plan["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    plan["rule_files"] = [str(FOLDER / "alerts.yml")]
    del plan["scrape_configs"][0]["dns_sd_configs"]
    plan["scrape_configs"][0]["static_configs"] = [{"targets": [endpoint.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(plan))
    port = free_port()
    command = ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        _ask_all(f"http://127.0.0.1:{port}/api/v1")
    finally:
        process.terminate()
        process.wait(20)


def _ask_all(api: str) -> None:
    """Wait until Prometheus has read some rounds, then ask it what dashboards and alerts ask."""

    def ask(path: str, **parameters: str) -> Any:
        with contextlib.suppress(httpx.TransportError):
            reply = httpx.get(f"{api}/{path}", params=parameters, timeout=10)
            if reply.status_code == 503:  # it is still starting
                return {"result": [], "groups": []}
            answer = reply.json()
            assert answer["status"] == "success", (parameters, answer)
            return answer["data"]
        return {"result": [], "groups": []}

    until = time.monotonic() + 600
    while not [one for one in ask("query", query="count_over_time(up[1m])")["result"] if int(one["value"][1]) > 5]:
        assert time.monotonic() < until, "nothing was read"
        time.sleep(0.5)
    empty = {}
    for board in DASHBOARDS:
        texts = [text for text in expressions(board) if board.stem != "work"]
        empty |= {text: board.stem for text in texts if not ask("query", query=text)["result"]}
    silent = SELDOM | OF_ROLLOUTS | gpu_names()
    assert not [text for text in empty if not names(text) & silent and '5.."' not in text and "reason=" not in text], (
        empty
    )
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["health"] for rule in rules} == {rule["alert"]: "ok" for rule in alerts()}
    assert not [rule["name"] for rule in rules if rule["state"] == "firing"]


def test_a_batch_and_a_training_export_what_is_shown() -> None:
    """While Ray Data and Ray Train work, each metric of their dashboard is there at some time."""
    pytest.importorskip("ray.train.v2.api.data_parallel_trainer", reason="needs the extra 'train'")
    command = [sys.executable, "-m", "tests.ray_work", str(free_port())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = used("dashboards/work.json")
    assert len(wanted) > 10 and wanted <= set(json.loads(done.stdout.splitlines()[-1]))
