"""From drawn photos to a served model: train, register, serve, ask; then a better one takes its place."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.scenes import write_pairs
from tests.training import TINY, environment, run_training

pytest.importorskip("ray.serve")
pytest.importorskip("ray.train")
pytest.importorskip("mlflow")
httpx = pytest.importorskip("httpx")
from tests.endpoint import running, write_config  # noqa: E402


def _register(weights: str, held_out: Path, *arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "pipelines.register", weights, "--name", "products", "--data", str(held_out)]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment(), check=False, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_train_register_serve_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was just trained answers over HTTP under its alias; the next champion follows in place."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("CUTRAY_HOME", str(tmp_path / "cache"))
    data, held_out = write_pairs(tmp_path / "data", 24), write_pairs(tmp_path / "held", 4, family="test")
    run = ["--data", data, *TINY, "--no-ray", "--epochs=1", "--save-dir", tmp_path / "runs", "--name", "first"]
    code, summary, told = run_training(run)
    assert code == 0, told
    first = _register(summary["best"], held_out, "--min-iou", "0", "--rival", "u2netp-distilled", "--force")
    assert first["version"] == "1"

    config = write_config(tmp_path / "serve.yaml", engine={"threads": 1})
    photo = (data / "images" / "000.png").read_bytes()
    with (
        running(config, "--model", "models:/products@champion") as (url, process),
        httpx.Client(base_url=url) as client,
    ):
        answer = client.post("/remove-background", files={"image": photo}, timeout=600)
        assert answer.status_code in (200, 422)  # a network of one epoch may find no subject
        info = client.get("/model-info", timeout=100).json()
        assert info["name"] == "products/1"
        assert info["input_size_px"] == 32

        assert _register(summary["best"], held_out)["version"] == "2"
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 600
        while client.get("/model-info", timeout=100).json()["name"] != "products/2":
            assert time.monotonic() < until, "the new champion was not taken up"
            time.sleep(0.5)
        assert client.post("/remove-background", files={"image": photo}, timeout=600).status_code in (200, 422)
