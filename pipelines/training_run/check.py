"""Says what a run will do, and checks its data against a network before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cutray.config import RemoverSettings, TrainSettings, parse_settings
from cutray.data.catalog import Catalog, Pair
from cutray.errors import OptionError
from cutray.evaluation.datasets import Sample
from pipelines.scoring import refuse_inverted

_CHECKED_BY = "u2netp"


def describe_run(settings: TrainSettings, catalog: Catalog, train: Sequence[Any], validation: Sequence[Any]) -> None:
    """Write to standard error what a run starts from, what it learns from, and what looks wrong about that.

    Args:
        settings: Those of the run.
        catalog: Its photos.
        train: Samples of an epoch.
        validation: Samples of the validation.
    """
    start = settings.init or "random weights (--preset finetune starts from the published ones)"
    click.echo(f"{settings.architecture}, from {start}", err=True)
    click.echo(f"{len(train)} samples to learn from, {len(validation)} to validate on", err=True)
    click.echo(f"{settings.optim.epochs} epochs, in {Path(settings.save_dir) / settings.name}", err=True)
    for line in (*catalog.notes, *catalog.warnings):
        click.echo(line, err=True)
    if catalog.copies:
        first = ", ".join(catalog.copies[0])
        click.echo(
            f"{len(catalog.copies)} photos occur more than once, and are kept on one side of the split: {first}",
            err=True,
        )


def check_data(settings: TrainSettings, catalog: Catalog, *, always: bool) -> None:
    """Compare the masks with what a network finds, where they look inverted or it is asked for.

    Args:
        settings: Those of the run.
        catalog: Its photos.
        always: Whether to compare sets that look right, too.

    Raises:
        DatasetError: The masks show the background.
    """
    pairs = (*catalog.train, *catalog.validation)
    if settings.data.subject_values or not pairs or not (always or catalog.looks_inverted):
        return
    remover = parse_settings(RemoverSettings, {"model": _CHECKED_BY, "only_mask": True, "quality": "fast"})
    agreement = refuse_inverted([_sample(pair) for pair in pairs], remover)
    click.echo(f"the masks agree with those of {_CHECKED_BY} by an IoU of {agreement:.2f}", err=True)


def check_profile(settings: TrainSettings, samples: int) -> None:
    """Refuse a profile of a run that is over before one begins.

    Args:
        settings: Those of the run, with ``profile``.
        samples: How many an epoch has.

    Raises:
        OptionError: The run has too few steps.
    """
    from cutray.training.profile import SKIPPED_STEPS

    batch = settings.optim.batch_size
    if not settings.profile or not isinstance(batch, int):  # memory has not decided yet
        return
    steps = samples // batch * settings.optim.epochs
    if steps <= SKIPPED_STEPS:
        raise OptionError(
            got=f"a profile of a run of {steps} steps",
            allowed=f"more than {SKIPPED_STEPS}, because the first ones are left out",
            fix="train for more epochs, or with a smaller --batch-size",
        )


def _sample(pair: Pair) -> Sample:
    """Return a pair as evaluation reads it."""
    image = Path(pair.image)
    return Sample(image.stem, image, Path(pair.mask), frozenset(), pair.encoding, pair.turn)
