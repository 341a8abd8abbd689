"""Scores a model on photos with known masks: for evaluation, registration and ensembles alike."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import click
import numpy as np

from cutray.config import RemoverSettings
from cutray.console.progress import download_progress, photo_progress
from cutray.errors import ConfigError, CutrayError, DatasetError
from cutray.evaluation.dataset_check import check_samples
from cutray.evaluation.datasets import Sample, find_samples, read_ignored, read_truth
from cutray.evaluation.masks import MaskEncoding
from cutray.evaluation.metrics import score
from cutray.evaluation.report import Case, ModelScores
from cutray.imaging.encode import encode_image
from cutray.imaging.files import write_atomically
from cutray.remover import BackgroundRemover, Removal

_Item = TypeVar("_Item")

_LOOKED_AT = 8
# So much better must the masks' opposite fit the network's answer before the masks count as inverted.
_CLEARLY = 0.2


def scored_samples(
    dataset: Path, settings: RemoverSettings, *, wish: MaskEncoding | None = None, limit: int | None = None
) -> list[Sample]:
    """Find the photos of a set, check them, and say on standard error what was recognised and what looks wrong.

    Args:
        dataset: Folder with one of the known layouts.
        settings: Those of a remover that looks at some photos where the masks seem to be inverted.
        wish: What the user has said about the values of the masks.
        limit: Most photos, evenly spaced; None takes all.

    Raises:
        DatasetError: The set cannot be used, or its masks show the background.
    """
    checked = check_samples(spread(find_samples(dataset), limit), wish, skip_unreadable_photos=True)
    for line in [*checked.notes, *checked.warnings]:
        click.echo(f"{dataset.name}: {line}", err=True)
    if checked.looks_inverted:
        refuse_inverted(checked.samples, settings)
    return checked.samples


def refuse_inverted(samples: Sequence[Sample], settings: RemoverSettings) -> float:
    """Compare masks with what a network finds on some of the photos; return the mean IoU.

    Raises:
        DatasetError: The opposite of the masks fits clearly better.
    """
    results, _ = score_model(settings, spread(list(samples), _LOOKED_AT), None)
    opposite, _ = score_model(settings, spread(list(samples), _LOOKED_AT), None, invert=True)
    direct, inverted = (float(np.mean([case.scores.iou for case in one.cases])) for one in (results, opposite))
    if inverted > direct + _CLEARLY:
        raise DatasetError(
            got=f"the masks show the background: IoU with {settings.model}'s masks is {direct:.2f}, inverted "
            f"{inverted:.2f} (on {len(results.cases)} photos)",
            allowed="masks in which the subject is white",
            fix="invert the files, or name the value that is the subject with `--subject-value 0`",
        )
    return direct


def score_model(
    settings: RemoverSettings, samples: Sequence[Sample], keep: Path | None, *, name: str = "", invert: bool = False
) -> tuple[ModelScores, int]:
    """Score one model.

    Args:
        settings: Those of the remover.
        samples: From ``check_samples``.
        keep: Folder to keep the masks in, in place of those that are there; None keeps none.
        name: The model's name in tables; that of the settings if empty.
        invert: Whether to compare with the opposite of the masks.

    Returns:
        The scores, and how many photos could not be used.
    """
    with download_progress() as progress:
        remover = BackgroundRemover.from_settings(settings, progress=progress)
    cases, failed = [], 0
    with photo_progress(len(samples), shown=sys.stderr.isatty()) as advance:
        for sample, removal in zip(samples, remover.remove_many(sample.image for sample in samples), strict=True):
            cases.append(_case(sample, removal, keep, invert))
            if isinstance(removal, CutrayError):
                failed += 1
                click.echo(f"{sample.image}: {removal}", err=True)
            advance(failed)
    return ModelScores(name or settings.model, cases), failed


def score_all(settings: RemoverSettings, samples: Sequence[Sample]) -> ModelScores:
    """Score a model on photos that all have to be usable.

    Raises:
        ConfigError: Some are not.
    """
    scores, failed = score_model(settings, samples, None)
    if failed:
        raise ConfigError(got=f"{failed} held-out photos cannot be used", fix="mend or remove them")
    return scores


def warn_if_seen(model: str, dataset: Path) -> None:
    """Say on standard error when a model was trained on the set that it is to be scored on.

    Args:
        model: Its name, file or address.
        dataset: Folder of the set.
    """
    from cutray.models.weights import resolve

    names = {_plain(part) for part in (dataset.resolve().name, *(path.name for path in dataset.glob("*-Image")))}
    with download_progress() as progress:
        seen = resolve(model, progress=progress).spec.trained_on
    if found := next((one for one in seen if any(_plain(one) in name for name in names)), None):
        click.echo(
            f"{model} was trained on {found}: its scores on {dataset.name} say nothing about photos it has not seen",
            err=True,
        )


def spread(samples: list[_Item], limit: int | None) -> list[_Item]:
    """Take evenly spaced items of a list."""
    if limit is None or limit >= len(samples):
        return samples
    return [samples[index * len(samples) // limit] for index in range(limit)]


def _plain(name: str) -> str:
    """Reduce a name to its letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def mask_name(sample: Sample) -> str:
    """Name the file that a photo's mask is kept in."""
    return f"{sample.stem}.png"


def _case(sample: Sample, removal: Removal | CutrayError, keep: Path | None, invert: bool) -> Case:
    """Score one photo; without a result it counts as if nothing had been found."""
    ignored = read_ignored(sample)
    if isinstance(removal, CutrayError):
        truth = read_truth(sample)
        return Case(sample, score(np.zeros_like(truth), truth, ignored))
    mask = removal.mask.astype(np.float32) / 255.0
    path = None
    if keep is not None:
        path = keep / mask_name(sample)
        write_atomically(path, encode_image(removal.mask, "PNG"), overwrite=True)
    truth = read_truth(sample, shape=mask.shape)
    return Case(sample, score(mask, 1 - truth if invert else truth, ignored), path)
