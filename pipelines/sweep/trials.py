"""What one trial does: train a network through ``fit``, or cut out photos with settings of the remover."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cutray.config import RemoverSettings, SweepSettings, TrainSettings, parse_settings
from cutray.errors import CutrayError
from cutray.evaluation.dataset_check import check_samples
from cutray.evaluation.datasets import Sample, find_samples, read_ignored, read_truth
from cutray.evaluation.metrics import score, summarise
from cutray.remover import BackgroundRemover
from pipelines.scoring import spread
from pipelines.sweep.cached_engine import CachedEngine
from pipelines.sweep.space import SearchSpace
from pipelines.sweep.trial_results import RUNS

MAPS = "maps"
ROUNDS = "rounds"  # what schedulers count by


@dataclass(frozen=True, slots=True)
class SweepContext:
    """What all trials share.

    Attributes:
        sweep: The sweep's settings.
        space: Its search space.
        folder: The sweep's folder.
        threads: Processor threads of each process of a trial whose settings do not say.
        tracking: Address of the MLflow store and the run that the trials' runs belong to, or None.
    """

    sweep: SweepSettings
    space: SearchSpace
    folder: str
    threads: int
    tracking: tuple[str, str] | None


def train_settings(context: SweepContext, chosen: Mapping[str, Any], trial_id: str) -> TrainSettings:
    """Return the settings of a training trial; its folder is named after it, so that it can go on there."""
    own: dict[str, Any] = {
        "name": trial_id,
        "save_dir": str(Path(context.folder) / RUNS),
        "experiment": context.sweep.experiment,
    }
    own["tracking_uri"] = context.tracking[0] if context.tracking else "none"
    # Two checkpoints an epoch would slow down short trials, and each holds the network four times.
    own |= {"keep_checkpoints": 2, "checkpoint_every_steps": 10**9}
    settings = parse_settings(TrainSettings, {**context.space.settings(chosen), **own})
    return (
        settings if settings.threads_per_worker else settings.model_copy(update={"threads_per_worker": context.threads})
    )


def train_trial(config: dict[str, Any], context: SweepContext) -> None:
    """Train a network and report each epoch; the last report holds the best epoch's scores.

    Args:
        config: Value by path.
        context: What all trials share.
    """
    from ray import tune

    from cutray.training.runs import fit

    trial_id = tune.get_context().get_trial_id()
    tags = {"trial": trial_id} | ({"mlflow.parentRunId": context.tracking[1]} if context.tracking else {})
    result = fit(train_settings(context, config, trial_id), callbacks=[_report_epochs()], tags=tags)
    history = result.state.history
    tune.report({**history[result.state.best_epoch], ROUNDS: len(history)})


def _report_epochs() -> Any:
    """Make the callback that hands finished epochs, and nothing in between, from Ray Train to Ray Tune."""
    from ray.tune.integration.ray_train import TuneReportCallback

    class ReportEpochs(TuneReportCallback):
        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            if "iou" in metrics[0]:
                super().after_report(run_context, [{**metrics[0], ROUNDS: int(metrics[0]["epoch"]) + 1}], checkpoint)

    return ReportEpochs()  # type: ignore[no-untyped-call]  # Ray has no types here


def remove_trial(config: dict[str, Any], context: SweepContext) -> None:
    """Cut out all photos that the search looks at, and report their mean scores: those of some cannot be compared.

    Args:
        config: Value by path.
        context: What all trials share.
    """
    from ray import tune

    scorer = TrialScorer(context, config)
    for name, samples in searched_samples(context.sweep).items():
        scorer.add(name, samples)
    tune.report({**scorer.means(), ROUNDS: 1})


def searched_samples(sweep: SweepSettings) -> dict[str, list[Sample]]:
    """Return every other photo of each folder; the others are kept apart for the final word."""
    return {name: samples[::2] for name, samples in _all_samples(sweep).items()}


def held_out_samples(sweep: SweepSettings) -> dict[str, list[Sample]]:
    """Return the photos that the search has not seen."""
    return {name: samples[1::2] for name, samples in _all_samples(sweep).items()}


def _all_samples(sweep: SweepSettings) -> dict[str, list[Sample]]:
    """Find the photos of each folder, evenly thinned out."""
    found = {}
    names = [Path(folder).name for folder in sweep.data]
    for number, (folder, name) in enumerate(zip(sweep.data, names, strict=True), 1):
        samples = check_samples(find_samples(Path(folder))).samples
        # Two folders may have one name, such as shoes/photos and hats/photos.
        key = name if names.count(name) == 1 else f"{number}-{name}"
        found[key] = spread(samples, sweep.photos or None)
    return found


class TrialScorer:
    """Cuts out photos with one trial's settings and keeps the scores."""

    def __init__(self, context: SweepContext, chosen: Mapping[str, Any]) -> None:
        """Load the network.

        Args:
            context: What all trials share.
            chosen: Value by path.
        """
        settings = parse_settings(RemoverSettings, context.space.settings(chosen))
        threads = settings.threads or context.threads
        self._remover = BackgroundRemover.from_settings(settings.model_copy(update={"threads": threads}))
        segmenter = self._remover.segmenter
        memory = Path(context.folder) / MAPS / segmenter.weights.identity[:16]
        self._remover.segmenter = replace(segmenter, engine=CachedEngine(segmenter.engine, memory))
        self._scores: dict[str, list[Any]] = {}

    def add(self, name: str, samples: list[Sample]) -> None:
        """Cut out some photos of a folder.

        Raises:
            CutrayError: A photo cannot be used.
        """
        scores = self._scores.setdefault(name, [])
        for sample, removal in zip(samples, self._remover.remove_many(one.image for one in samples), strict=True):
            if isinstance(removal, CutrayError):
                raise removal
            mask = removal.mask.astype(np.float32) / 255.0
            scores.append(score(mask, read_truth(sample, shape=mask.shape), read_ignored(sample)))

    def means(self) -> dict[str, float]:
        """Return the scores of each folder, and their mean over the folders, each of which weighs the same."""
        by_folder = {name: summarise(scores) for name, scores in self._scores.items() if scores}
        metrics = next(iter(by_folder.values()))
        means = {metric: float(np.mean([row[metric] for row in by_folder.values()])) for metric in metrics}
        each = {f"{name}.{metric}": value for name, row in by_folder.items() for metric, value in row.items()}
        return {name: value for name, value in {**means, **each}.items() if not math.isnan(value)}
