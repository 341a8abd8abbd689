"""Training through a real Ray: two workers, interrupted and taken up again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from cutray import __version__
from cutray.config import TrainSettings, parse_settings
from cutray.training.runs import export_best
from cutray.training.stored_settings import read_settings
from tests.scenes import write_pairs
from tests.training import (
    RAY_ENDS_S,
    TINY,
    environment,
    kill_once_there_are,
    last_difference,
    run_training,
    train_command,
)

pytest.importorskip("ray.train")
pytest.importorskip("mlflow")
# MLflow uses what its own database layer calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data"), 44, side_px=64)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("runs")
    arguments = ["--data", data, *TINY, "--save-dir", folder, "--name", "whole"]
    code, summary, told = run_training(arguments, MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="0.2")
    assert code == 0, told
    assert "epoch 3: loss" in told
    return summary, folder / "whole"


def _commit() -> str | None:
    """Return the commit that the tests run on, or None outside of a repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def test_a_run_leaves_all_that_is_needed(undisturbed: tuple[dict[str, Any], Path]) -> None:
    """Weights with their description, scores, pictures, and a run in MLflow with the same and the machine's use."""
    from mlflow import MlflowClient

    summary, run_dir = undisturbed
    history = json.loads((run_dir / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [0, 1, 2]
    assert history[-1]["loss"] < history[0]["loss"]
    assert max(entry["iou"] for entry in history) == pytest.approx(summary["iou"])
    assert "input_size_px = 32" in (run_dir / "best.toml").read_text()
    assert (run_dir / "curves.png").stat().st_size > 5_000
    client = MlflowClient(tracking_uri=f"sqlite:///{run_dir.parent / 'mlflow.db'}")
    run = client.get_run(summary["mlflow_run"])
    assert run.info.status == "FINISHED"
    assert run.data.params["optim.batch_size"] == "8"
    assert run.data.tags["cutray_version"] == __version__
    assert run.data.tags.get("mlflow.source.git.commit") == _commit()
    assert run.data.metrics["iou"] == pytest.approx(history[-1]["iou"])
    assert len(client.get_metric_history(summary["mlflow_run"], "loss")) == 3
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert {"curves.png", "results.png"} <= {file.path for file in client.list_artifacts(summary["mlflow_run"])}
    with Image.open(run_dir / "results.png") as picture:
        assert picture.width == 3 * 3 * 32  # three samples in a row: photo, truth, mask
        assert picture.height % 32 == 0


def test_the_weights_remove_backgrounds(undisturbed: tuple[dict[str, Any], Path], data: Path) -> None:
    """What was trained loads into the remover by its path, at the size it was trained for."""
    from cutray import BackgroundRemover

    remover = BackgroundRemover(undisturbed[0]["best"], min_confidence=0)
    cutout, _ = remover.remove_background(data / "images" / "000.png")
    assert np.asarray(cutout).shape[:2] == (64, 64)
    assert remover.segmenter.weights.spec.input_size_px == 32


def test_a_killed_run_with_a_damaged_checkpoint_goes_on(
    undisturbed: tuple[dict[str, Any], Path], data: Path, tmp_path: Path
) -> None:
    """Killed in the middle, its newest checkpoint damaged, a run still ends where an undisturbed one does."""
    arguments = ["--data", data, *TINY, "--save-dir", tmp_path, "--name", "cut"]
    run_dir = tmp_path / "cut"
    kill_once_there_are(5, train_command(*arguments), run_dir, "checkpoint_*")
    kept = sorted(path.parent for path in run_dir.glob("checkpoint_*/sha256sums"))
    damaged = kept[-1] / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])

    code, summary, told = run_training(["--resume", run_dir])
    assert code == 0, told
    assert f"checkpoint {kept[-1].name}" in told
    history = json.loads((run_dir / "history.json").read_text())
    wanted = json.loads((undisturbed[1] / "history.json").read_text())
    # Barely trained, the network is in doubt everywhere: single pixels tip over with the last digit.
    assert [entry["iou"] for entry in history] == pytest.approx([entry["iou"] for entry in wanted], abs=0.02)
    assert last_difference(undisturbed[1], run_dir) < 1e-5
    assert summary["best"] == str(run_dir / "best.safetensors")


def test_damage_at_the_end_is_told(undisturbed: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    """Where the last checkpoint of a run is damaged, the one before is used, and whoever asked for more hears of it."""
    run_dir = Path(shutil.copytree(undisturbed[1], tmp_path / "run"))
    newest = max(run_dir.glob("checkpoint_[0-9]*"))
    (newest / "weights.safetensors").write_bytes(b"cut off")
    settings = parse_settings(TrainSettings, read_settings(run_dir / "settings.json"))
    with pytest.warns(UserWarning, match=f"left out.*{newest.name}"):
        result = export_best(settings, run_dir)
    assert len(result.state.history) == 2


def test_a_run_can_teach_another(undisturbed: tuple[dict[str, Any], Path], data: Path, tmp_path: Path) -> None:
    """Who begins as the teacher learns less from it than from the masks; with most of the start kept, it stays near."""
    best = undisturbed[0]["best"]
    again = ["--data", data, *TINY, "--no-ray", "--epochs=1", "--set=tracking_uri=none", "--save-dir", tmp_path]
    again += [f"--set=init={best}", f"--set=teacher={best}", "--set=data.repeat=2"]
    losses, moved = [], []
    for name, changes in (("masks", ["teacher_share=0"]), ("taught", ["teacher_share=1", "optim.keep_start=0.9"])):
        code, summary, told = run_training([*again, *(f"--set={change}" for change in changes), "--name", name])
        assert code == 0, told
        losses.append(summary["loss"])
        moved.append(_distance(summary["best"], best))
    assert losses[1] < 0.9 * losses[0]
    assert moved[1] < 0.5 * moved[0]  # without that it would be three times as far


def _distance(first: str, second: str) -> float:
    """Return how far apart the convolutions of two files are."""
    one, two = load_file(first), load_file(second)
    return sum(float(np.abs(one[name] - two[name]).sum()) for name in one if "conv" in name)


def test_an_unknown_teacher_is_refused(data: Path, tmp_path: Path) -> None:
    """It is refused before Ray is started."""
    code, _, told = run_training(["--data", data, *TINY, "--set=teacher=nobody", "--save-dir", tmp_path])
    assert code == 2
    assert "nobody" in told


def test_a_part_of_the_start_needs_a_start(data: Path, tmp_path: Path) -> None:
    """It is refused before Ray is started."""
    code, _, told = run_training(["--data", data, *TINY, "--set=optim.keep_start=0.5", "--save-dir", tmp_path])
    assert code == 2
    assert "init" in told


def test_other_settings_are_refused(undisturbed: tuple[dict[str, Any], Path], data: Path) -> None:
    """A finished run is not silently continued with another batch size."""
    run_dir = undisturbed[1]
    arguments = ["--data", data, *TINY, "--batch-size=4", "--save-dir", run_dir.parent, "--name", run_dir.name]
    code, _, told = run_training([*arguments, "--set=max_failures=0"])
    assert code == 2
    assert "optim.batch_size: 8 before, 4 now" in told


def test_a_run_is_stopped_and_extended(data: Path, tmp_path: Path) -> None:
    """Ctrl+C ends a run in an orderly way and says how to go on; more epochs can be asked for, with Ray or without."""
    from mlflow import MlflowClient

    run_dir = tmp_path / "stopped"
    words = ["--data", data, *TINY, "--workers=1", "--epochs=500", "--save-dir", tmp_path, "--name", "stopped"]
    # Where the tests run in the background, interruptions are ignored unless they are asked for.
    code = "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code += "; runpy.run_module('pipelines.train', run_name='__main__')"
    start = [sys.executable, "-c", code, *map(str, words)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(start, text=True, env=environment(), **pipes) as run:
        until = time.monotonic() + 600
        while len(list(run_dir.glob("checkpoint_*/sha256sums"))) < 6 and time.monotonic() < until:
            assert run.poll() is None
            time.sleep(0.2)
        run.send_signal(signal.SIGINT)
        told = run.communicate(timeout=300)[1]
    time.sleep(RAY_ENDS_S)  # what its workers still write would damage what the next run writes
    assert run.returncode == 130, told
    assert f"stopped; go on with: cutray train --resume {run_dir}" in told
    tracked = json.loads((run_dir / "mlflow.json").read_text())
    assert MlflowClient(tracking_uri=tracked["uri"]).get_run(tracked["run_id"]).info.status == "KILLED"

    begun = len(json.loads((run_dir / "history.json").read_text()))
    for epochs, more in ((begun + 1, []), (begun + 2, ["--no-ray"])):
        ended, summary, told = run_training(["--resume", run_dir, "--epochs", epochs, *more])
        assert ended == 0, told
        assert len(json.loads((run_dir / "history.json").read_text())) == epochs, told
        assert 1 <= summary["epoch"] <= epochs


def test_memory_decides_the_batch_of_all_workers_and_a_dead_mlflow_stops_nothing(data: Path, tmp_path: Path) -> None:
    """A task tries what a worker bears, and both workers take it; without a server the run says it is not tracked."""
    arguments = ["--data", data, *TINY, "--epochs=1", "--batch-size=auto", "--set=batch_memory_gb=0.02"]
    arguments += ["--save-dir", tmp_path, "--name", "untracked"]
    code, summary, told = run_training(arguments, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert code == 0, told
    assert summary["mlflow_run"] is None
    assert "does not answer" in told
    kept = json.loads((tmp_path / "untracked" / "settings.json").read_text())["optim"]
    assert (kept["batch_size"] // 2, kept["accumulate"]) == (2, 1)
