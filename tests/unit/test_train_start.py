"""What a training run starts from, what it says, and which earlier runs it goes on with."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cutray.config import TrainSettings, parse_settings
from cutray.console.run import run
from cutray.errors import ConfigError
from pipelines.train import _of_run, new_settings, train
from pipelines.train_ensemble import train_ensemble
from pipelines.training_run.progress import _Reporter

pytest.importorskip("torch")
pytest.importorskip("ray")
import ray

from cutray.data.catalog import Catalog
from cutray.training.progress import ProgressActor
from cutray.training.stored_settings import SETTINGS_FILE, accepted_hashes, stored_settings

CATALOG = Catalog((), (), (), "0123")


def test_photos_without_a_preset_are_learned_from_published_weights() -> None:
    """Who names only a folder does not start from random weights; presets and single settings still decide."""
    settings = new_settings(None, None, {"data.folders": ("shoes",)}, ())
    assert (settings.init, settings.architecture) == ("u2netp", "u2netp")
    assert settings.name.startswith("finetune-")
    assert new_settings("u2netp", None, {}, ()).init == ""
    assert new_settings(None, None, {}, ("architecture=u2net",)).init == ""
    assert new_settings(None, None, {}, ("init=u2net", "architecture=u2net")).init == "u2net"


def _write_run(folder: Path, settings: TrainSettings) -> dict[str, object]:
    """Write what an earlier version left of a run."""
    (folder / "checkpoint_000000001_0000").mkdir()
    stored = settings.model_dump(mode="json")
    for name in ("subject_values", "ignore_value"):  # settings that there were not yet
        del stored["data"][name]
    (folder / SETTINGS_FILE).write_text(json.dumps(stored, indent=1))
    return stored


def test_the_command_prints_settings_that_make_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What --print-config writes is, taken with --config, what it was written from, but for its name."""
    words = ["--preset", "u2net", "--print-config", "--name", "one", "--set=optim.lr=0.0004", "--batch-size", "auto"]
    assert run(train, words) == 0
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)
    again = new_settings(None, tmp_path / "run.yaml", {}, ())
    asked = new_settings("u2net", None, {"optim.batch_size": "auto"}, ("optim.lr=0.0004",))
    written, wanted = (one.model_dump(exclude={"name", "save_dir"}) for one in (again, asked))
    assert written == wanted
    assert Path(again.save_dir) == Path(asked.save_dir).resolve()


def test_checkpoints_of_earlier_versions_are_taken_up(tmp_path: Path) -> None:
    """The fingerprint that an earlier version gave is accepted, with more epochs as well; other data is not."""
    settings = parse_settings(TrainSettings, {"data": {"folders": ["/photos"]}, "optim": {"epochs": 3}})
    stored = _write_run(tmp_path, settings)
    left_out = "name save_dir workers min_workers cpus_per_worker threads_per_worker gpus_per_worker address compile"
    left_out += " checkpoint_every_steps keep_checkpoints max_failures tracking_uri experiment"
    facts = {name: value for name, value in stored.items() if name not in left_out.split()}
    text = json.dumps({**facts, "catalog": CATALOG.fingerprint}, sort_keys=True)
    earlier = hashlib.sha256(text.encode()).hexdigest()[:16]
    more = parse_settings(TrainSettings, {"data": {"folders": ["/elsewhere"]}, "optim": {"epochs": 9}})
    assert earlier in accepted_hashes(settings, CATALOG, tmp_path)
    assert earlier in accepted_hashes(more, CATALOG, tmp_path)
    assert accepted_hashes(more, CATALOG, tmp_path)[0] == accepted_hashes(settings, CATALOG, tmp_path)[0]
    assert earlier not in accepted_hashes(settings, Catalog((), (), (), "4567"), tmp_path)


def test_other_settings_are_named(tmp_path: Path) -> None:
    """A folder with a run of other settings is refused with the settings and both values."""
    _write_run(tmp_path, parse_settings(TrainSettings, {"seed": 1}))
    with pytest.raises(ConfigError, match="seed: 1 before, 2 now"):
        stored_settings(parse_settings(TrainSettings, {"seed": 2}), tmp_path)


@pytest.mark.parametrize("text", ['{"seed": 1', "[1]"])
def test_damaged_settings_are_told(text: str, tmp_path: Path) -> None:
    """Settings that are cut off or no settings at all are named, with what to do."""
    _write_run(tmp_path, TrainSettings())
    (tmp_path / SETTINGS_FILE).write_text(text)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        stored_settings(TrainSettings(), tmp_path)
    assert "another name" in caught.value.fix
    with pytest.raises(ConfigError, match="cannot be read"):
        _of_run(tmp_path)


def test_an_ensemble_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl+C ends it with 130, and what is kept is said."""

    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "init", interrupted)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_BACKEND_LOG_LEVEL"):  # a job sets what is not set
        monkeypatch.setenv(name, os.environ.get(name, "x"))
    words = ["--preset", "smoke", "--save-dir", str(tmp_path), "-o", str(tmp_path / "three.onnx")]
    assert run(train_ensemble, words) == 130
    told = capsys.readouterr().err
    assert "0 of 3 members are done; the same command goes on" in told and str(tmp_path) in told


def test_a_profile_of_a_run_that_is_too_short_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is over before the profile begins is named before it starts, instead of leaving none."""
    words = [
        "--preset=smoke",
        "--set=init=",
        "--set=data.scenes=6",
        "--batch-size=2",
        f"--save-dir={tmp_path / 'runs'}",
    ]
    words += [f"--profile={tmp_path / 'profile'}", "--check"]
    assert run(train, [*words, "--epochs=1"]) == 2
    assert "a profile of a run of 3 steps (allowed: more than 5" in capsys.readouterr().err
    assert run(train, [*words, "--epochs=2"]) == 0


def test_scores_before_training_are_told_after_the_first_step_too(capsys: pytest.CaptureFixture[str]) -> None:
    """On a fast machine the first step is done before anybody has read what was there before it."""
    reporter, latest = _Reporter(10, None), ProgressActor()
    latest.update({"start": {"iou": 0.5, "mae": 0.25}})
    latest.update({"epoch": 0, "step": 1, "steps": 8, "loss": 1.5, "images_per_s": 3.0, "progress": 0.0, "last": None})
    assert reporter.take(latest.read()[0]).startswith("epoch 1/10, step 1/8")
    assert capsys.readouterr().err == "before training: IoU 0.5000, MAE 0.2500\n"


def test_progress_is_told_from_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    """The scores before training, the pace, the time left, and epochs counted from 1."""
    reporter, latest = _Reporter(10, -1e9), ProgressActor()
    scores = {"iou": 0.5, "mae": 0.25}
    for _ in range(2):
        latest.update({"start": scores})
        reporter.take(latest.read()[0])
    step = {"epoch": 0, "step": 2, "steps": 8, "loss": 1.5, "images_per_s": 3.0, "progress": 0.02, "last": None}
    latest.update(step)
    reporter.take(latest.read()[0])
    reporter.take({**step, "epoch": 1, "progress": 0.1, "last": {"epoch": 0.0, "loss": 1.25, **scores}})
    line = reporter.take({**step, "epoch": 10, "last": {"epoch": 9.0, "loss": 1.0, **scores}})
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "before training: IoU 0.5000, MAE 0.2500"
    assert told[1] == "epoch 1/10, step 2/8, loss 1.500, 3.0 images/s"
    assert told[2] == "epoch 1: loss 1.2500, IoU 0.5000, MAE 0.2500"
    assert told[3] == "epoch 10: loss 1.0000, IoU 0.5000, MAE 0.2500"
    assert len(told) == 4
    assert line.startswith("epoch 10/10")
