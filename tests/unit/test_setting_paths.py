"""Paths among the settings mean the same wherever the process that reads them runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutray.config import SweepSettings, TrainSettings, parse_settings
from pipelines.sweep.space import SearchSpace


def test_paths_of_a_run_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder and file of a training run is absolute as soon as its settings are parsed."""
    monkeypatch.chdir(tmp_path)
    values = {
        "init": "start.safetensors",
        "teacher": "models/teacher.onnx",
        "save_dir": "runs",
        "tracking_uri": "sqlite:///store/mlflow.db",
        "data": {"folders": ["shoes", "../hats"], "image_dir": "i", "mask_dir": "m", "validation": "held-out"},
    }
    settings = parse_settings(TrainSettings, values)
    assert settings.init == str(tmp_path / "start.safetensors")
    assert settings.teacher == str(tmp_path / "models/teacher.onnx")
    assert settings.save_dir == str(tmp_path / "runs")
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'store/mlflow.db'}"
    assert settings.data.folders == (str(tmp_path / "shoes"), str(tmp_path.parent / "hats"))
    places = (settings.data.image_dir, settings.data.mask_dir, settings.data.validation)
    assert places == (str(tmp_path / "i"), str(tmp_path / "m"), str(tmp_path / "held-out"))
    monkeypatch.chdir("/")
    assert parse_settings(TrainSettings, settings.model_dump()) == settings


@pytest.mark.parametrize("model", ["u2netp", "", "models:/shoes@champion"])
def test_names_and_addresses_stay(model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names of models, registry addresses, remote folders and servers are no paths."""
    monkeypatch.chdir(tmp_path)
    values = {"init": model, "save_dir": "s3://bucket/runs", "tracking_uri": "http://mlflow:5000"}
    settings = parse_settings(TrainSettings, values)
    assert (settings.init, settings.save_dir, settings.tracking_uri) == (
        model,
        "s3://bucket/runs",
        "http://mlflow:5000",
    )


def test_paths_of_a_sweep_reach_its_trials_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, the settings of all trials and the choices of the search are absolute before a trial starts."""
    monkeypatch.chdir(tmp_path)
    search = {"init": {"choice": ["a.safetensors", "u2netp"]}, "optim.lr": {"uniform": [0.1, 0.2]}}
    sweep = parse_settings(
        SweepSettings, {"data": ["shoes"], "settings": {"data": {"validation": "held"}}, "search": search}
    )
    assert sweep.data == (str(tmp_path / "shoes"),)
    space = SearchSpace(sweep)
    trial = space.settings({})
    assert list(trial["data"]["folders"]) == [str(tmp_path / "shoes")]
    assert trial["data"]["validation"] == str(tmp_path / "held")
    assert space.dimensions[0].values == (str(tmp_path / "a.safetensors"), "u2netp")
    edges = {"job": "remove", "settings": {"model": "own.onnx"}, "search": {"looks": {"choice": [1, 2]}}}
    assert SearchSpace(parse_settings(SweepSettings, edges)).base["model"] == str(tmp_path / "own.onnx")
