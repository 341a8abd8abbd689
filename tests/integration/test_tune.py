"""Sweeps through a real Ray Tune, with Optuna and MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cutray.config import RemoverSettings, TrainSettings, parse_settings
from tests.scenes import write_pairs
from tests.training import environment, kill_once_there_are

pytest.importorskip("ray.tune")
pytest.importorskip("optuna")
# MLflow uses what its own database layer calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TRAINING = {
    "preset": "u2netp",
    "settings": {
        "threads_per_worker": 1,
        "cpus_per_worker": 0.5,
        "precision": "fp32",
        "data": {"side_px": 32, "validation_share": 0.25},
        "optim": {"epochs": 2, "batch_size": 4, "ema_decay": 0.5},
    },
    "search": {"optim.lr": {"loguniform": [0.0001, 0.01]}, "loss.edge": {"choice": [0.0, 4.0]}},
    "scheduler": {"kind": "none"},
    "trials": 4,
    "concurrent": 1,
}
CUTTING = {
    "job": "remove",
    "settings": {"model": "u2netp", "edges": "soft", "min_confidence": 0.0},
    "search": {"sure_background": {"uniform": [0.0, 0.2]}, "edges": {"choice": ["soft", "matted"]}},
    "metric": "mae",
    "mode": "min",
    "trials": 6,
    "concurrent": 1,
}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pipelines.tune", *map(str, arguments)]


def tune(*arguments: object) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=1800, env=environment(), check=False
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}, done.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "data", 24, side_px=64)


def write(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_settings_of_the_mask_are_searched_without_training(data: Path, tmp_path: Path) -> None:
    """The best is no worse than the settings as they are, is said to be so on unseen photos, and is kept in files."""
    file = write(tmp_path / "mask.yaml", CUTTING)
    code, summary, told = tune(file, "--data", data, "--save-dir", tmp_path / "runs", "--name", "mask")
    assert code == 0, told
    folder = tmp_path / "runs" / "mask"
    trials = json.loads((folder / "trials.json").read_text())
    assert len(trials) == 6
    assert trials[0]["chosen"] == {"sure_background": 0.04, "edges": "soft"}
    # Scores of a few photos could not be compared with those of all.
    assert {trial["scores"]["data.n"] for trial in trials} == {12}
    assert summary["mae"] == min(trial["score"] for trial in trials) <= trials[0]["score"]
    assert told.count("on photos that the search has not seen") == 2
    best = parse_settings(RemoverSettings, yaml.safe_load((folder / "best.yaml").read_text()))
    assert best.sure_background == pytest.approx(summary["best"]["sure_background"])
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "Photos that the search has not seen" in page


def test_a_killed_sweep_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    """Killed in its second trial, a sweep still comes to its number of trials, and repeats none that was finished."""
    from mlflow import MlflowClient

    file = write(tmp_path / "train.yaml", TRAINING)
    folder = tmp_path / "runs" / "cut"
    started = command(file, "--data", data, "--save-dir", folder.parent, "--name", folder.name)
    kill_once_there_are(3, started, folder, "trials/*/checkpoint_*")
    finished = {
        trial["trial_id"]: trial
        for trial in json.loads((folder / "trials.json").read_text())
        if trial["status"] == "finished"
    }
    assert len(finished) == 1

    code, summary, told = tune("--resume", folder)
    assert code == 0, told
    trials = {trial["trial_id"]: trial for trial in json.loads((folder / "trials.json").read_text())}
    assert len(trials) == 4
    assert {trial["status"] for trial in trials.values()} == {"finished"}
    for trial_id, trial in finished.items():
        assert trials[trial_id]["scores"]["iou"] == trial["scores"]["iou"]
        assert trials[trial_id]["seconds"] == trial["seconds"]
    for trial_id in trials:
        history = json.loads((folder / "trials" / trial_id / "history.json").read_text())
        assert [entry["epoch"] for entry in history] == [0, 1]
    best = parse_settings(TrainSettings, yaml.safe_load((folder / "best.yaml").read_text()))
    assert best.optim.lr == pytest.approx(summary["best"]["optim.lr"])
    assert (folder / "best.safetensors").read_bytes() == (
        folder / "trials" / summary["trial"] / "best.safetensors"
    ).read_bytes()

    client = MlflowClient(tracking_uri=f"sqlite:///{folder.parent / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "cutray"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("kind") == "sweep"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.tags["trial"] for run in children} == set(trials)
    assert len(children) == 4
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert parent.data.metrics["best_iou"] == pytest.approx(summary["iou"])


@pytest.mark.parametrize("module", ["tune", "train"])
def test_what_does_not_fit_is_told_at_once(module: str, data: Path, tmp_path: Path) -> None:
    """GPUs that are not there are an error, not a wait without end; Ray is not even started."""
    file = [write(tmp_path / "gpu.yaml", TRAINING)] if module == "tune" else ["--preset=u2netp"]
    words = [*file, "--data", data, "--save-dir", tmp_path / "runs", "--set", "gpus_per_worker=64"]
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{module}", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=1200,
        env=environment(),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "64 GPUs are wanted" in done.stderr and "what this machine has" in done.stderr
    assert not list((tmp_path / "runs").glob("*/*"))
