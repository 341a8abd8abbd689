"""A small batch and a small training on a Ray of its own; prints the names of what Ray exports meanwhile."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_V2_ENABLED": "1"}

import ray
import ray.data
import ray.train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

_SCRAPE_S, _STEP_S = 1.0, 1.0


def names(text: str) -> set[str]:
    """Return the names of all series in a text of Prometheus' format."""
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


def _slow(batch: Any) -> Any:
    time.sleep(_STEP_S)
    return batch


def _train() -> None:
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state").write_text("x")
            ray.train.report({"loss": 1.0}, checkpoint=ray.train.Checkpoint.from_directory(folder))
        time.sleep(_STEP_S)


def main(port: int) -> None:
    """Work, and scrape meanwhile: series of a dataset end with it."""
    found: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_SCRAPE_S):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                found.update(names(answer.read().decode()))

    ray.init(address="local", num_cpus=2, include_dashboard=False, _metrics_export_port=port, log_to_driver=False)
    watcher = threading.Thread(target=watch)
    watcher.start()
    ray.data.range(24, override_num_blocks=12).map_batches(_slow, batch_size=2).materialize()
    with tempfile.TemporaryDirectory() as folder:
        DataParallelTrainer(
            _train,
            scaling_config=ray.train.ScalingConfig(num_workers=1),
            run_config=ray.train.RunConfig(name="small", storage_path=folder),
        ).fit()
    time.sleep(6)  # what is counted last is exported seconds later
    over.set()
    watcher.join()
    ray.shutdown()
    print(json.dumps(sorted(found)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
