"""k-fold cross-validation: each photo is held out once, and what is done is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from cutray.config import DataSettings, TrainSettings, parse_settings
from cutray.console.run import run
from cutray.data.catalog import build_catalog
from cutray.errors import ConfigError, DatasetError
from cutray.training.local import fit_here
from cutray.training.runs import FitResult
from cutray.training.stored_settings import read_settings
from pipelines.train import train
from pipelines.training_run.folds import train_folds
from tests.scenes import write_pairs

# The exporter uses what its own package calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FOLDS = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data"), 12, side_px=64)


def _settings(data: Path, runs: Path, **optim: Any) -> TrainSettings:
    """Small enough for seconds: the network itself cannot be smaller."""
    return parse_settings(
        TrainSettings,
        {
            "name": "shoes",
            "save_dir": str(runs),
            "tracking_uri": "none",
            "precision": "fp32",
            "threads_per_worker": 1,
            "data": {"folders": [str(data)], "side_px": 32, "folds": FOLDS},
            "optim": {"batch_size": 2, "epochs": 1, **optim},
        },
    )


def test_every_photo_is_held_out_once(data: Path) -> None:
    """The folds share no photo, and together they are all of them; what is not held out is learned from."""
    catalogs = [build_catalog(DataSettings(folders=(str(data),), folds=3, fold=fold), seed=0) for fold in (1, 2, 3)]
    held = [pair.image for catalog in catalogs for pair in catalog.validation]
    assert len(held) == len(set(held)) == 12
    assert [len(catalog.validation) for catalog in catalogs] == [4, 4, 4]
    for catalog in catalogs:
        assert {pair.image for pair in catalog.train} == set(held) - {pair.image for pair in catalog.validation}


def test_folds_lead_to_scores_and_an_ensemble(data: Path, tmp_path: Path) -> None:
    """An interrupted command goes on with what is missing; scores are of all photos, the ensemble runs anywhere."""
    from cutray import BackgroundRemover

    trained: list[int] = []

    def stop_after_one(settings: TrainSettings) -> FitResult:
        if trained:
            raise KeyboardInterrupt
        trained.append(settings.data.fold)
        return fit_here(settings)

    def train_one(settings: TrainSettings) -> FitResult:
        trained.append(settings.data.fold)
        return fit_here(settings)

    settings = _settings(data, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train_folds(settings, stop_after_one)
    facts = train_folds(settings, train_one)
    assert trained == [1, 2]
    iou = facts["out_of_fold"]["iou"]
    assert iou["photos"] == 12
    assert iou["interval"][0] <= iou["mean"] <= iou["interval"][1]
    folds = [json.loads((Path(one) / "validation.json").read_text())["iou"] for one in facts["runs"]]
    assert iou["mean"] == pytest.approx(sum(map(sum, folds)) / 12)
    remover = BackgroundRemover(facts["ensemble"], min_confidence=0)
    assert remover.remove_background(data / "images" / "000.png").mask.shape == (64, 64)
    card = Path(facts["ensemble"]).with_suffix(".card.md").read_text()
    assert "shoes-fold-2/best.safetensors" in card
    assert f"| iou | {iou['mean']:.4f} |" in card


def test_memory_decides_one_batch_size_for_all_folds(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command: the first fold's size holds for the others, though the memory that is free changes meanwhile."""
    words = ["--data", data, "--no-ray", "--folds", 2, "--batch-size", "auto", "--epochs", 1, "--name", "sized"]
    words += ["--save-dir", tmp_path, "--set=init=", "--set=tracking_uri=none", "--set=precision=fp32"]
    words += ["--set=threads_per_worker=1", "--set=data.side_px=32", "--set=data.repeat=4"]
    tight = ["--set=batch_memory_gb=0.02", "--set=data.fold=1", "--name", "sized-fold-1"]
    assert run(train, list(map(str, [*words, *tight]))) == 0
    first = tmp_path / "sized-fold-1"
    size = read_settings(first / "settings.json")["optim"]["batch_size"]
    assert size == 2  # 24 samples and the memory of the second command would allow 4
    capsys.readouterr()
    assert run(train, list(map(str, [*words, "--set=batch_memory_gb=8"]))) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    sizes = [read_settings(Path(one) / "settings.json")["optim"]["batch_size"] for one in facts["runs"]]
    assert sizes == [size, size]
    assert facts["out_of_fold"]["iou"]["photos"] == 12
    assert Path(facts["ensemble"]).is_file()


def test_folds_that_make_no_sense_are_refused(data: Path, tmp_path: Path) -> None:
    """One fold, a fold beyond the last, a folder to validate on beside folds, and drawn scenes alone."""
    for wrong in ({"folds": 1}, {"folds": 2, "fold": 3}, {"folds": 2, "validation": str(data)}):
        with pytest.raises(ConfigError, match="folds"):
            parse_settings(TrainSettings, {"data": wrong})
    drawn = parse_settings(
        TrainSettings, {"name": "drawn", "save_dir": str(tmp_path), "data": {"folds": 2, "scenes": 9}}
    )
    with pytest.raises(ConfigError, match=r"without data\.fold"):
        fit_here(_settings(data, tmp_path))
    with pytest.raises(DatasetError, match="12 different photos for 13 folds"):
        build_catalog(DataSettings(folders=(str(data),), folds=13, fold=1), seed=0)
    with pytest.raises(ConfigError, match="drawn scenes"):
        train_folds(drawn, fit_here)
