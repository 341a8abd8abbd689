"""Fits the confidence to the overlap of masks with true ones, on one half of the photos, and tests it on the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np

from cutray.config import RemoverSettings
from cutray.console.progress import download_progress
from cutray.data.synthetic import CASES, draw_scene
from cutray.errors import OptionError
from cutray.evaluation.dataset_check import check_samples
from cutray.evaluation.datasets import Sample, find_samples, read_truth
from cutray.matting.matte import calibrate, find_subject, to_logit
from cutray.remover import BackgroundRemover
from cutray.sources import decode_source
from cutray.tta import predict

_SIDE_PX = 480
_BINS, _STEPS, _RIDGE = 10, 50, 1e-3
_LEAST = 8


@dataclass(frozen=True, slots=True)
class Scored:
    """One photo in which a subject was found.

    Attributes:
        name: Its name; the half that it belongs to follows from it.
        score: The network's mean probability over the subject, in [0, 1].
        iou: Overlap of the network's mask with the true one, in [0, 1].
    """

    name: str
    score: float
    iou: float

    @property
    def held_out(self) -> bool:
        """Whether it is in the half that the fit does not see."""
        return hashlib.sha256(self.name.encode()).digest()[0] % 2 == 1


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--limit", default=70, show_default=True, help="Most photos of each folder, evenly spread.")
@click.option("--drawn", default=40, show_default=True, help="Drawn scenes of all kinds, empty ones among them.")
@click.option("-m", "--model", default="u2net", show_default=True, help="Network whose masks are judged.")
def calibrate_confidence(folders: Sequence[Path], limit: int, drawn: int, model: str) -> None:
    """Fit the two numbers by which the confidence follows from the network's score.

    \b
    python -m pipelines.calibrate_confidence ECSSD/ DUTS-TE/ products/
    """
    with download_progress() as progress:
        remover = BackgroundRemover(model, progress=progress)
    scored = [one for photo in _photos(folders, limit, drawn) if (one := _score(remover, *photo)) is not None]
    fitting, held_out = ([one for one in scored if one.held_out is half] for half in (False, True))
    if min(len(fitting), len(held_out)) < _LEAST:
        raise OptionError(got=f"{len(scored)} photos with a subject", allowed=f"{_LEAST} in each half", fix="add some")
    intercept, slope = _fit(fitting)
    scores, ious = (np.array([getattr(one, name) for one in held_out]) for name in ("score", "iou"))
    fitted = np.array([calibrate(score, intercept, slope) for score in scores])
    click.echo("| confidence before | photos | before | after | IoU |\n|---|--:|--:|--:|--:|")
    for low, high in zip(edges := (0, 0.7, 0.8, 0.9, 0.95, 0.97, 1.01), edges[1:], strict=False):
        here = (scores >= low) & (scores < high)
        if here.any():
            row = [f"{values[here].mean():.3f}" for values in (scores, fitted, ious)]
            click.echo(f"| {low:g} to {min(high, 1):g} | {here.sum()} | {' | '.join(row)} |")
    facts = {
        "job": "calibrate_confidence",
        "photos": len(fitting),
        "held_out": len(held_out),
        "intercept": round(intercept, 3),
        "slope": round(slope, 3),
        "ece_before": round(calibration_error(scores, ious), 4),
        "ece_after": round(calibration_error(fitted, ious), 4),
    }
    click.echo(json.dumps(facts))


def calibration_error(confidences: np.ndarray, outcomes: np.ndarray) -> float:
    """Return the expected calibration error over ten bins of equal width.

    Args:
        confidences: (N,) float in [0, 1].
        outcomes: (N,) float in [0, 1], what they should be on average.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    bins = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float((confidences - outcomes)[bins == one].sum())) for one in np.unique(bins)]
    return sum(gaps) / len(confidences)


def _photos(
    folders: Sequence[Path], limit: int, drawn: int
) -> Iterator[tuple[str, np.ndarray | Path, np.ndarray | Sample]]:
    """Yield name, photo and truth: those of folders, evenly spread, then drawn ones."""
    for folder in folders:
        samples = check_samples(find_samples(folder)).samples
        for index in np.unique(np.linspace(0, len(samples) - 1, min(limit, len(samples))).astype(int)):
            yield f"{folder.name}/{samples[index].stem}", samples[index].image, samples[index]
    for number in range(drawn):
        case = CASES[number % len(CASES)]
        scene = draw_scene(case, np.random.default_rng([77, number]), _SIDE_PX, _SIDE_PX, family="test")
        yield f"drawn/{number}", scene.image, scene.alpha


def _score(
    remover: BackgroundRemover, name: str, source: np.ndarray | Path, truth: np.ndarray | Sample
) -> Scored | None:
    """Compare the network's mask with the true one; None where no subject is found."""
    settings: RemoverSettings = remover.settings
    image = decode_source(source, settings).flattened
    (prediction,) = predict([image], remover.segmenter, settings, settings.batch_size)
    subject = find_subject(prediction.probs, settings)
    if not subject.found:
        return None
    mask = prediction.probs > 0.5
    alpha = truth if isinstance(truth, np.ndarray) else read_truth(truth, shape=image.shape[:2])
    true = cv2.resize(alpha.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
    return Scored(name, subject.score, float((mask & true).sum() / max(1, (mask | true).sum())))


def _fit(scored: Sequence[Scored]) -> tuple[float, float]:
    """Fit intercept and slope of a logistic curve from the scores' logits to the overlaps, by Newton's method.

    Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines"; targets are overlaps instead of classes.
    """
    inputs = np.array([[1.0, to_logit(one.score)] for one in scored])
    targets = np.array([one.iou for one in scored])
    weights = np.zeros(2)
    for _ in range(_STEPS):
        fitted = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (fitted - targets) + _RIDGE * weights
        curvature = (inputs.T * (fitted * (1 - fitted))) @ inputs + _RIDGE * np.eye(2)
        weights -= np.linalg.solve(curvature, gradient)
    return float(weights[0]), float(weights[1])
