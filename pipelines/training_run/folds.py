"""k-fold cross-validation: every photo is held out by one run, and the runs' networks become one ensemble."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutray.config import TrainSettings, fingerprint, result_values
from cutray.config.training import AUTO
from cutray.console.extras import missing_modules
from cutray.errors import ConfigError, MissingExtraError
from cutray.imaging.files import write_atomically
from pipelines.training_run.done_note import noted_settings, write_note

if TYPE_CHECKING:
    from cutray.training.runs import FitResult

_DONE, _REPORT, _ENSEMBLE = "fold-done.json", "folds.json", "ensemble.onnx"


def train_folds(settings: TrainSettings, train: Callable[[TrainSettings], FitResult]) -> dict[str, Any]:
    """Train all folds that are not done yet, score them together, and write the ensemble of their networks.

    Args:
        settings: Those of all runs, with ``data.folds``; the folder of that name gets what they lead to together.
        train: Trains one run.

    Returns:
        What a program may want to know: scores, files, and runs.

    Raises:
        ConfigError: There are no photos, or the folds were begun with other settings.
        MissingExtraError: What writes the ensemble is not installed.
        TrainingError: A run cannot begin or go on.
    """
    from cutray.data.catalog import build_catalog
    from cutray.evaluation.uncertainty import bootstrap_interval
    from cutray.training.model_card import read_scores, score_table

    _require_photos(settings)
    photos = build_catalog(settings.data, settings.seed).fingerprint
    runs: list[Path] = []
    for fold in range(1, settings.data.folds + 1):
        runs.append(_train_fold(settings, fold, photos, train, runs))
    scores: dict[str, list[float]] = {}
    for run_dir in runs:
        for name, values in read_scores(run_dir).items():
            scores.setdefault(name, []).extend(values)
    table = score_table(scores)
    click.echo(f"out of fold, each photo scored by the network that has not learned from it:\n{table}", err=True)
    folder = Path(settings.save_dir).resolve() / settings.name
    folder.mkdir(parents=True, exist_ok=True)
    ensemble = _write_ensemble(folder / _ENSEMBLE, runs, table)
    means = {
        name: {"mean": sum(values) / len(values), "interval": bootstrap_interval(values), "photos": len(values)}
        for name, values in scores.items()
    }
    facts = {"folds": len(runs), "out_of_fold": means, "runs": [str(one) for one in runs], "ensemble": str(ensemble)}
    write_atomically(folder / _REPORT, json.dumps(facts, indent=1).encode(), overwrite=True)
    click.echo(f"try the ensemble: cutray remove photo.jpg -m {ensemble}", err=True)
    return facts


def _require_photos(settings: TrainSettings) -> None:
    """Refuse, before the first fold, what would fail after the last."""
    data = settings.data
    if not (data.folders or data.image_dir) or data.validation_scenes:
        raise ConfigError(
            got="folds of drawn scenes",
            allowed="photos with masks, and no data.validation_scenes: these would be in every fold",
            fix="name a folder with --data",
        )
    if missing := missing_modules(("onnx", "onnxruntime")):
        raise MissingExtraError(
            got=f"the ensemble of the folds needs {' and '.join(missing)}", fix="run `pip install 'cutray[onnx,train]'`"
        )


def _train_fold(
    settings: TrainSettings,
    fold: int,
    photos: str,
    train: Callable[[TrainSettings], FitResult],
    before: Sequence[Path],
) -> Path:
    """Train the run that holds out one fold, unless it is done with the same photos; return its folder.

    Memory decides a batch size once, for the first fold: networks that are to vote must have learned alike.
    """
    from cutray.training.stored_settings import adopt_batch

    changes = {"name": f"{settings.name}-fold-{fold}", "data": settings.data.model_copy(update={"fold": fold})}
    own = settings.model_copy(update=changes)
    run_dir = Path(own.save_dir).resolve() / own.name
    # What memory decided is not what was asked for; photos are, which the settings name only by their folder.
    by_memory = [f"optim.{name}" for name in ("batch_size", "accumulate") if getattr(own.optim, name) == AUTO]
    wanted = fingerprint({**result_values(own, exclude=by_memory), "photos": photos})
    done = run_dir / _DONE
    if noted_settings(done) == wanted:
        click.echo(f"fold {fold} of {settings.data.folds} is done: {run_dir}", err=True)
        return run_dir
    click.echo(f"fold {fold} of {settings.data.folds}", err=True)
    own = adopt_batch(own)
    result = train(adopt_batch(own, before[0]) if before else own)
    write_note(done, wanted, state={"best_epoch": result.state.best_epoch, "steps": result.state.total_steps})
    return run_dir


def _write_ensemble(path: Path, runs: list[Path], table: str) -> Path:
    """Put the networks of the folds together as one file."""
    from cutray.models.weights import resolve
    from cutray.training.runs import BEST_FILE
    from pipelines.training_run.ensemble import write_ensemble

    note = f"{table}\n\nEach photo was scored by the one network that has not learned from it; "
    note += "that network's best epoch was chosen on the same photos, so that other photos may score a little lower."
    write_ensemble(path, [resolve(str(run / BEST_FILE)) for run in runs], {"Out-of-fold scores": note})
    return path
