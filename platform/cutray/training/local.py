"""Training in this process, without Ray: from Python with a data set and callbacks of one's own, or as a job."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from cutray.config import TrainSettings, parse_settings
from cutray.data.catalog import Catalog
from cutray.data.loading import SampleSpec
from cutray.errors import TrainingError
from cutray.training.batch_size import fitting_batch, settle_batch
from cutray.training.runs import FitResult, check_amount, check_start, prepare_run, run_job
from cutray.training.runtime import LocalRuntime
from cutray.training.stored_settings import adopt_batch
from cutray.training.trainer import Trainer

# Numbers of validation samples begin here, so that they never change when others are added.
_FIRST_VALIDATION = 1 << 41
# Settings that have a name of their own in ``fit``, with their path.
_SHORT = {"epochs": "optim", "batch_size": "optim", "lr": "optim", "side_px": "data"}
_START = {"architecture": "u2netp", "init": "u2netp", "tracking_uri": "none"}


def fit(
    train: Any,
    validation: Any = None,
    *,
    callbacks: Sequence[Callable[[dict[str, Any]], None]] = (),
    **settings: Any,
) -> FitResult:
    """Train a network in this process, on a GPU if there is one.

    Args:
        train: A folder of photos and masks; or a data set of your own: anything with ``len`` and items that are a
            photo and its alpha, as a pair or under these two names. Photos are (H, W, 3) uint8 sRGB; alphas (H, W)
            uint8, bool, or float in [0, 1].
        validation: The same, for the scores; without it a share of a folder, or every tenth item of a data set.
        callbacks: Called with the latest figures now and then, and at the end of each epoch: ``epoch``, ``step``,
            ``steps``, ``loss``, ``images_per_s``, ``progress`` in [0, 1], and ``last``, the scores of the last
            validation. One that raises ends the run.
        settings: Those of ``TrainSettings`` by name, nested ones as dictionaries (``augment={"flip": 0}``);
            ``epochs``, ``batch_size``, ``lr`` and ``side_px`` also directly. By default the published u2netp is
            fine-tuned. A ``name`` that there is already goes on with that run.

    Returns:
        The folder of the run, the best weights in it, and all scores.

    Raises:
        ConfigError: A setting is unknown or not allowed.
        DatasetError: A photo or alpha cannot be used.
        TrainingError: There is too little to learn from, or the run cannot go on.
    """
    if validation is not None and isinstance(train, str | os.PathLike) != isinstance(validation, str | os.PathLike):
        raise TrainingError(
            got="a folder and a data set to learn from and to validate on",
            fix="give both as folders or as data sets",
        )
    values = {**({} if "architecture" in settings or "init" in settings else _START), **settings}
    values.setdefault("tracking_uri", "none")
    for name, group in _SHORT.items():
        if name in values:
            values[group] = {**values.get(group, {}), name: values.pop(name)}
    values.setdefault("name", f"fit-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    if isinstance(train, str | os.PathLike):
        folders = {"folders": [os.fspath(train)]}
        folders |= {"validation": os.fspath(validation)} if validation is not None else {}
        parsed = parse_settings(TrainSettings, {**values, "data": {**values.get("data", {}), **folders}})
        return fit_here(parsed, callbacks=[_figures_for(callbacks)])
    parsed = parse_settings(TrainSettings, values)
    return fit_here(parsed, callbacks=[_figures_for(callbacks)], samples=_split(parsed, train, validation))


def _figures_for(callbacks: Sequence[Callable[[dict[str, Any]], None]]) -> Callable[[dict[str, Any]], None]:
    """Hand on nothing but figures, which all have the same names; turn a run's warnings into Python's."""

    def hear(latest: dict[str, Any]) -> None:
        for problem in latest.get("warnings", ()):
            warnings.warn(problem, stacklevel=1)
        if "loss" in latest:
            for callback in callbacks:
                callback(latest)

    return hear


def fit_here(
    settings: TrainSettings,
    *,
    callbacks: Sequence[Callable[[dict[str, Any]], None]] = (),
    samples: tuple[list[SampleSpec], list[SampleSpec]] | None = None,
) -> FitResult:
    """Train as one process without Ray; the loop is the same as with it.

    Args:
        settings: All about the run; ``name`` must be set. Those that speak of workers have no effect.
        callbacks: As for ``fit``; they also hear of ``start``, the scores before training, and of ``warnings``.
        samples: To learn from and to validate on; None finds them by the settings.

    Raises:
        DatasetError: Photos or masks cannot be used.
        TrainingError: The run cannot begin or go on.
    """
    settings = adopt_batch(settings)
    if samples is None:
        prepared = prepare_run(settings)
    else:
        check_start(settings)
        prepared = _own(*samples)
    settings = settle_batch(settings, prepared[1], 1, fitting_batch)

    def publish(latest: dict[str, Any]) -> None:
        for callback in callbacks:
            callback(latest)

    def execute(job: Any) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        runtime = LocalRuntime(Path(job.run_dir), settings.keep_checkpoints, device, publish)
        Trainer(job, runtime).run()

    return run_job(settings, prepared, execute, {})


def _own(train: list[SampleSpec], validation: list[SampleSpec]) -> tuple[Catalog, list[SampleSpec], list[SampleSpec]]:
    """Describe a data set of the user's own, of which nothing but the size is known."""
    return Catalog((), (), (), f"own-{len(train)}-{len(validation)}"), train, validation


def _own_samples(dataset: Any, places: Sequence[int], first: int = 0) -> list[SampleSpec]:
    """Name some items of a data set of the user's own; backgrounds are lent among them alone."""
    half = len(places) // 2
    lenders = [*places[half:], *places[:half]]
    return [
        {"number": first + place, "item": (dataset, place), "other_item": (dataset, lender)}
        for place, lender in zip(places, lenders, strict=True)
    ]


def _split(settings: TrainSettings, train: Any, validation: Any) -> tuple[list[SampleSpec], list[SampleSpec]]:
    """Name the items to learn from and to validate on."""
    if validation is not None:
        chosen = _own_samples(train, range(len(train)))
        held = _own_samples(validation, range(len(validation)), _FIRST_VALIDATION)
    else:
        apart = max(2, round(1 / settings.data.validation_share))
        places = range(len(train))
        held = _own_samples(train, places[apart - 1 :: apart])
        chosen = _own_samples(train, [place for place in places if place % apart != apart - 1])
    check_amount(settings, chosen, held, "use a larger data set or a smaller batch_size")
    return chosen, held
