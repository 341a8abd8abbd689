"""Replicas come with the load and go with it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_weights

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")
from tests.endpoint import PATIENCE_S, replicas, running, write_config  # noqa: E402

_AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 3,
    "target_ongoing_requests": 1,
    "upscale_delay_s": 1,
    "downscale_delay_s": 2,
    "look_back_period_s": 2,
}


def _wait_for(process: Any, wanted: range) -> int:
    until = time.monotonic() + PATIENCE_S
    while (count := len(replicas(process, "Cutter"))) not in wanted:
        assert time.monotonic() < until, count
        time.sleep(0.3)
    return count


def test_cutters_follow_the_load(photo_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One Cutter becomes several under a step of load, and one again after it; no request fails."""
    require_weights("u2netp")
    monkeypatch.setenv("RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "0.5")
    jpeg = (photo_files / "astronaut.jpg").read_bytes()
    scaled = {"num_replicas": "auto", "autoscaling_config": _AUTOSCALING}
    config = write_config(tmp_path / "serve.yaml", limits={"deadline_s": 55}, deployments={"Cutter": scaled})
    statuses: list[int] = []
    stop = threading.Event()

    def send(url: str) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            while not stop.is_set():
                statuses.append(client.post("/remove-background", files={"image": jpeg}).status_code)

    with running(config, "--model", "u2netp", "--offline") as (url, process):
        assert len(replicas(process, "Cutter")) == 1
        threads = [threading.Thread(target=send, args=(url,)) for _ in range(8)]
        try:
            for thread in threads:
                thread.start()
            _wait_for(process, range(2, 4))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        _wait_for(process, range(1, 2))
    assert set(statuses) == {200}
