"""``fit`` on Ray: single runs, members of an ensemble and trials of a search alike; and what all runs share."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cutray.config import TrainSettings
from cutray.data.catalog import Catalog, build_catalog
from cutray.data.fingerprint import fingerprint_of
from cutray.data.loading import LOADER_CPUS, SampleSpec, training_samples, validation_samples
from cutray.errors import ConfigError, CutrayError, TrainingError
from cutray.evaluation.drift import fingerprint_path
from cutray.imaging.files import write_atomically
from cutray.models.export import describe_model
from cutray.models.registry import store_address
from cutray.models.weights import resolve
from cutray.training import checkpoints
from cutray.training.batch_size import fitting_batch, settle_batch
from cutray.training.checkpoints import TrainState
from cutray.training.model_card import (
    PROVENANCE_FILE,
    SCORES_FILE,
    card_path,
    describe_provenance,
    model_card,
)
from cutray.training.network import trained_spec
from cutray.training.stored_settings import (
    SETTINGS_FILE,
    accepted_hashes,
    adopt_batch,
    flatten,
    stored_settings,
    write_settings,
)
from cutray.training.tensorboard import require_tensorboard
from cutray.training.tracking import close_run, take_up_run
from cutray.training.trainer import TrainJob, train_worker
from cutray.training.validation import METRICS

BEST_FILE, HISTORY_FILE, TRACKING_FILE = "best.safetensors", "history.json", "mlflow.json"
CARD_FILE, FINGERPRINT_FILE = card_path(Path(BEST_FILE)).name, fingerprint_path(Path(BEST_FILE)).name


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a run has led to.

    Attributes:
        run_dir: Its folder.
        best: The best weights, with a file beside them that says how their input is prepared.
        state: Scores of all epochs, and the best.
        run_id: The run in MLflow, or None.
    """

    run_dir: Path
    best: Path
    state: TrainState
    run_id: str | None


def prepare_run(settings: TrainSettings) -> tuple[Catalog, list[SampleSpec], list[SampleSpec]]:
    """Find and check all that a run learns from, before anything is started.

    Raises:
        DatasetError: Photos or masks cannot be used.
        TrainingError: There is nothing to learn from or to validate on.
        UnknownModelError, ConfigError: As for ``check_start``.
    """
    check_start(settings)
    catalog = build_catalog(settings.data, settings.seed)
    train, validation = training_samples(catalog, settings.data), validation_samples(catalog, settings.data)
    fix = "name a folder with --data, or draw scenes with data.scenes and data.validation_scenes"
    check_amount(settings, train, validation, fix)
    return catalog, train, validation


def check_amount(
    settings: TrainSettings, train: Sequence[SampleSpec], validation: Sequence[SampleSpec], fix: str
) -> None:
    """Refuse too few samples; ``fix`` tells what to do about it.

    Raises:
        TrainingError: There is less than a batch to learn from, or nothing to validate on.
    """
    if len(train) < settings.optim.batch_size or not validation:
        raise TrainingError(
            got=f"{len(train)} samples to learn from and {len(validation)} to validate on",
            allowed=f"at least one batch of {settings.optim.batch_size}, and one for validation",
            fix=fix,
        )


def check_start(settings: TrainSettings) -> None:
    """Check what a run starts from.

    Raises:
        UnknownModelError: There are no such weights to start from, or no such teacher.
        ConfigError: A part of the start is to be kept, and there is none; or the run's folder holds a run with other
            settings.
    """
    if settings.optim.keep_start and not settings.init:
        raise ConfigError(
            got=f"optim.keep_start {settings.optim.keep_start:g} without weights to start from",
            fix="name some with init, such as u2netp, or leave it at 0",
        )
    if settings.tensorboard:
        require_tensorboard()
    for model in (settings.init, settings.teacher):
        if model:
            resolve(model)
    if settings.name:
        stored_settings(settings, Path(settings.save_dir).resolve() / settings.name)


def cpus_needed(settings: TrainSettings) -> float:
    """Return the processors that a run's workers and loaders take of Ray's book-keeping, all together."""
    return settings.workers * (settings.cpus_per_worker + settings.data.loaders * LOADER_CPUS)


def fit(
    settings: TrainSettings,
    *,
    progress_actor: Any = None,
    callbacks: Sequence[Any] = (),
    tags: Mapping[str, str] | None = None,
) -> FitResult:
    """Train a network on the Ray cluster that this process is connected to.

    A run whose folder holds checkpoints goes on from the newest whole one.

    Args:
        settings: All about the run; ``name`` must be set.
        progress_actor: From ``start_progress_actor``; receives the latest figures.
        callbacks: Ray Train's callbacks, told of every report.
        tags: Tags of the run in MLflow, such as the sweep that it belongs to.

    Returns:
        The best weights and how they were reached.

    Raises:
        DatasetError: Photos or masks cannot be used.
        TrainingError: The run cannot begin or go on.
        KeyboardInterrupt: The user has stopped it; what was reached is kept.
    """
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def execute(job: TrainJob) -> None:
        trainer = TorchTrainer(
            train_worker,  # type: ignore[arg-type]  # Ray's type wants no return value
            train_loop_config={"job": replace(job, progress_actor=progress_actor)},
            scaling_config=ScalingConfig(
                num_workers=_workers(settings),
                use_gpu=settings.gpus_per_worker > 0,
                resources_per_worker={"CPU": settings.cpus_per_worker, "GPU": settings.gpus_per_worker},
            ),
            run_config=RunConfig(
                name=settings.name,
                storage_path=str(Path(job.run_dir).parent),
                failure_config=FailureConfig(max_failures=settings.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=settings.keep_checkpoints),
                callbacks=list(callbacks),
            ),
        )
        with _interruptible():
            trainer.fit()

    def probe(settings: TrainSettings, samples: Sequence[SampleSpec], most: int) -> int:
        def find() -> int:
            return fitting_batch(settings, samples, most, sharers=settings.workers)

        task = ray.remote(num_cpus=settings.cpus_per_worker, num_gpus=settings.gpus_per_worker, max_retries=0)
        fits: int = ray.get(task(find).remote())
        return fits

    settings = adopt_batch(settings)
    prepared = prepare_run(settings)
    settings = settle_batch(settings, prepared[1], settings.workers, probe)
    return run_job(settings, prepared, execute, tags or {})


def run_job(
    settings: TrainSettings,
    prepared: tuple[Catalog, list[SampleSpec], list[SampleSpec]],
    execute: Callable[[TrainJob], object],
    tags: Mapping[str, str],
) -> FitResult:
    """Train, and keep what a run leaves, however it ends.

    Args:
        settings: All about the run.
        prepared: From ``prepare_run``.
        execute: Trains; returns when that is over.
        tags: Tags of the run in MLflow.

    Raises:
        ConfigError: The settings speak of folds and not of one.
        TrainingError: The run cannot begin or go on, and so for whatever ``execute`` raises.
    """
    catalog, train, validation = prepared
    check_amount(settings, train, validation, "use more photos or a smaller batch")
    if settings.data.folds and not settings.data.fold:
        raise ConfigError(
            got=f"data.folds {settings.data.folds} without data.fold",
            fix="name the fold that this run holds out; `cutray train --folds` trains all of them",
        )
    run_dir = Path(settings.save_dir).resolve() / settings.name
    run_dir.mkdir(parents=True, exist_ok=True)
    hashes = accepted_hashes(settings, catalog, run_dir)
    write_settings(settings, run_dir / SETTINGS_FILE)
    write_atomically(run_dir / PROVENANCE_FILE, describe_provenance(settings, *prepared), overwrite=True)
    if seen := fingerprint_of(catalog.train):
        write_atomically(run_dir / FINGERPRINT_FILE, seen.as_json().encode(), overwrite=True)
    tracking = _open_tracking(settings, run_dir, {**tags, "data_fingerprint": catalog.fingerprint})
    status = "FAILED"
    try:
        execute(TrainJob(settings, train, validation, str(run_dir), hashes, tracking=tracking))
        result = export_best(settings, run_dir, tracking[1] if tracking else None)
        status = "FINISHED"
        return result
    except KeyboardInterrupt:
        status = "KILLED"
        with contextlib.suppress(TrainingError):  # nothing was validated yet
            export_best(settings, run_dir)
        raise
    except CutrayError:  # without Ray our own errors arrive as they are
        raise
    except Exception as error:
        cause = _cause(error)
        if cause is None:
            raise
        raise cause from error
    finally:
        if tracking:
            names = (SETTINGS_FILE, PROVENANCE_FILE, HISTORY_FILE, SCORES_FILE, FINGERPRINT_FILE, CARD_FILE)
            close_run(*tracking, status, [run_dir / name for name in names if (run_dir / name).is_file()])


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the exit that Ray Train makes of an interruption into a KeyboardInterrupt, and put back its handler."""
    here = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if here else None
    try:
        yield
    except SystemExit as stopped:
        raise KeyboardInterrupt from stopped
    finally:
        if here:
            signal.signal(signal.SIGINT, before)


def _workers(settings: TrainSettings) -> Any:
    """Return the number of workers, or the least and most of it."""
    return (settings.min_workers, settings.workers) if settings.min_workers else settings.workers


def _open_tracking(settings: TrainSettings, run_dir: Path, tags: Mapping[str, str]) -> tuple[str, str] | None:
    """Create the run in MLflow, or take it up again; not if that is off or does not answer."""
    uri = store_address(settings.tracking_uri, settings.save_dir)
    if uri is None:
        return None
    params = flatten(settings.model_dump())
    run_id = take_up_run(run_dir / TRACKING_FILE, uri, settings.experiment, settings.name, params, tags)
    return (uri, run_id) if run_id else None


def export_best(settings: TrainSettings, run_dir: Path, run_id: str | None = None) -> FitResult:
    """Take the best weights so far out of the newest whole checkpoint of a run, whether it has ended or was stopped.

    Args:
        settings: Its settings.
        run_dir: Its folder; ``best.safetensors``, its description, card and scores, and ``history.json`` are written
            there.
        run_id: The run in MLflow.

    Raises:
        TrainingError: No whole checkpoint holds validated weights.
    """
    found, problems = checkpoints.newest_whole(run_dir)
    if found is None or not found.tensors.get("best"):
        raise TrainingError(
            got=f"the run left no whole checkpoint in {run_dir}: {'; '.join(problems) or 'none'}",
            fix="train anew, under another name",
        )
    if problems:
        warnings.warn(f"newer checkpoints are damaged and were left out: {'; '.join(problems)}", stacklevel=2)
    from safetensors.torch import save

    write_atomically(run_dir / BEST_FILE, save(found.tensors["best"]), overwrite=True)
    write_atomically(
        (run_dir / BEST_FILE).with_suffix(".toml"), describe_model(trained_spec(settings)).encode(), overwrite=True
    )
    history = json.dumps(found.state.history, indent=1)
    write_atomically(run_dir / HISTORY_FILE, history.encode(), overwrite=True)
    if "validation" in found.tensors:
        columns = found.tensors["validation"]["scores"].T.tolist()
        scores = json.dumps(dict(zip(METRICS, columns, strict=True)))
        write_atomically(run_dir / SCORES_FILE, scores.encode(), overwrite=True)
    card = model_card(resolve(str(run_dir / BEST_FILE)))
    write_atomically(card_path(run_dir / BEST_FILE), card.encode(), overwrite=True)
    return FitResult(run_dir, run_dir / BEST_FILE, found.state, run_id)


def _cause(error: BaseException) -> CutrayError | None:
    """Find an error of ours below Ray's."""
    below = [*getattr(error, "worker_failures", {}).values(), error.__cause__, getattr(error, "cause", None)]
    for one in below:
        if isinstance(one, CutrayError):
            return one
        if isinstance(one, BaseException) and one is not error and (found := _cause(one)):
            return found
    return None
