"""Fits the edge-case detector on drawn scenes and says how far it can be trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from cutray.console.progress import download_progress
from cutray.evaluation.dataset_check import check_samples
from cutray.evaluation.datasets import find_samples
from cutray.imaging.files import write_atomically
from cutray.matting.detect import COEFFICIENTS, EDGE_CASES, Detector, LogisticModel, sigmoid
from cutray.preflight import check_new_file
from cutray.remover import BackgroundRemover
from pipelines.fit_edge_detector.examples import DetectorExample, drawn_examples, real_examples
from pipelines.fit_edge_detector.logistic import area_under_curve, fit_logistic, level_for_precision

_RIDGE, _TILE_RIDGE = 0.01, 0.002
_FOLDS = 5
_PRECISION = 0.9
# One photo in ten has a given case; among the drawn scenes it is one in five.
_PRIOR = 0.1
_DIGITS = 4
# Which tag of a real photo says which case; no tag says lace, so all such verdicts count as wrong.
_TAGS = {"fine_detail": "fur_hair", "transparency": "glass_transparent", "reflectivity": "reflective_metal"}


@click.command()
@click.option("-n", "--n", "amount", default=60, show_default=True, type=click.IntRange(min=4), help="Scenes per case.")
@click.option("--held-out", default=25, show_default=True, help="Scenes per case of the other family, to test on.")
@click.option("--negatives", type=click.Path(path_type=Path), help="Photos in which glass, metal and lace are rare.")
@click.option("--tagged", type=click.Path(path_type=Path), help="Real photos with tags/, to test on.")
@click.option("-m", "--model", default="u2net", show_default=True, help="Network whose maps are read.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder that keeps scenes and maps for the next time.")
@click.option("-o", "--output", default=COEFFICIENTS, show_default="the package", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def fit_edge_detector(
    amount: int,
    held_out: int,
    negatives: Path | None,
    tagged: Path | None,
    model: str,
    cache: Path | None,
    output: Path,
    overwrite: bool,
) -> None:
    """Fit the models that tell hair, glass, metal and lace apart, and test them on what they have not seen.

    \b
    python -m pipelines.fit_edge_detector --overwrite     into the package, whose coefficients it replaces
    python -m pipelines.fit_edge_detector -o mine.json --tagged DUTS-TE/
    """
    check_new_file(output, overwrite=overwrite)
    with download_progress() as progress:
        segmenter = BackgroundRemover(model, progress=progress).segmenter
    known = list(drawn_examples(segmenter, amount, "train", cache))
    if negatives is not None:
        plain = real_examples(segmenter, check_samples(find_samples(negatives)).samples, negatives.name, cache)
        known += [_as_negative(example) for example in plain]
    names = tuple(known[0].features)
    fitted = _fit(known, names)
    write_atomically(output, _as_text(fitted).encode(), overwrite=overwrite)
    click.echo(f"{len(known)} examples, {len(names)} features; coefficients in {output}")
    unseen = list(drawn_examples(segmenter, held_out, "test", cache))
    report = {"held-out scenes": _test(unseen, names, fitted)}
    if tagged is not None:
        real = list(real_examples(segmenter, check_samples(find_samples(tagged)).samples, tagged.name, cache))
        report["tagged photos"] = _test([_by_tag(example) for example in real], names, fitted)
    for title, rows in report.items():
        click.echo(f"\n| {title} | positives | AUC | verdicts | right |\n|---|--:|--:|--:|--:|")
        for case, row in rows.items():
            click.echo(f"| {case} | {row['positives']} | {row['auc'] or '–'} | {row['verdicts']} | {row['right']} |")
    if tagged is not None:
        _print_by_tag(real, sigmoid(fitted.whole.logits(_columns(real, names))))
    click.echo(json.dumps({"job": "fit_edge_detector", "report": report}))


def _fit(examples: Sequence[DetectorExample], names: Sequence[str]) -> Detector:
    """Fit the models of the whole and of the tiles, and set the levels by cross-validation."""
    inputs = _columns(examples, names)
    labels = np.array([example.labels for example in examples])
    folds = np.random.default_rng(0).integers(0, _FOLDS, len(examples))
    unseen = np.zeros_like(labels)
    for fold in range(_FOLDS):
        part = _linear(inputs[folds != fold], labels[folds != fold], _RIDGE)
        unseen[folds == fold] = sigmoid(part.logits(inputs[folds == fold]))
    levels = {}
    for index, case in enumerate(EDGE_CASES):
        there = ~np.isnan(labels[:, index])
        level = level_for_precision(unseen[there, index], labels[there, index] > 0.5, _PRECISION, _PRIOR)
        levels[case] = round(max(level, 0.5), _DIGITS)
    tiles = np.concatenate([example.tiles for example in examples]).astype(np.float64)
    tile_labels = np.concatenate([example.tile_labels for example in examples])
    whole, parts = _linear(inputs, labels, _RIDGE), _linear(tiles, tile_labels, _TILE_RIDGE)
    return Detector(tuple(names), whole, parts, levels)


def _linear(inputs: np.ndarray, labels: np.ndarray, ridge: float) -> LogisticModel:
    """Fit the four models on the same inputs."""
    mean, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-3)
    none = np.zeros(0, np.float32)
    normal = LogisticModel(mean, scale, none, none).normalise(inputs).astype(np.float64)
    solved = [fit_logistic(normal, labels[:, index], ridge=ridge) for index in range(len(EDGE_CASES))]
    return LogisticModel(
        mean, scale, np.array([weights for weights, _ in solved]), np.array([bias for _, bias in solved])
    )


def _as_text(detector: Detector) -> str:
    """Write the coefficients, rounded."""
    stored: dict[str, Any] = {"names": list(detector.names), "levels": detector.levels}
    for name, models in (("whole", detector.whole), ("tiles", detector.tiles)):
        fields = {key: getattr(models, key) for key in ("mean", "scale", "weights", "bias")}
        stored[name] = {key: np.round(values.astype(np.float64), _DIGITS).tolist() for key, values in fields.items()}
    return json.dumps(stored) + "\n"


def _columns(examples: Sequence[DetectorExample], names: Sequence[str]) -> np.ndarray:
    """Stack the features, (N, K) float64."""
    return np.array([[example.features[name] for name in names] for example in examples], np.float64)


def _test(examples: Sequence[DetectorExample], names: Sequence[str], fitted: Detector) -> dict[str, dict[str, Any]]:
    """Score the models on examples they have not seen."""
    scores = sigmoid(fitted.whole.logits(_columns(examples, names)))
    rows = {}
    for index, case in enumerate(EDGE_CASES):
        truth = np.array([example.labels[index] > 0.5 for example in examples])
        verdict = scores[:, index] >= fitted.levels[case]
        rows[case] = {
            "positives": int(truth.sum()),
            "auc": round(area_under_curve(scores[:, index], truth), 3) if truth.any() else None,
            "verdicts": int(verdict.sum()),
            "right": int((verdict & truth).sum()),
        }
    return rows


def _print_by_tag(examples: Sequence[DetectorExample], scores: np.ndarray) -> None:
    """Print how well each case's score ranks the photos of each tag above the others, by AUC."""
    tags = sorted({tag for example in examples for tag in example.tags})
    click.echo(f"\n| score | {' | '.join(tags)} |\n|---{'|--:' * len(tags)}|")
    there = {tag: np.array([tag in example.tags for example in examples]) for tag in tags}
    for index, case in enumerate(EDGE_CASES):
        cells = (f"{area_under_curve(scores[:, index], there[tag]):.3f}" for tag in tags)
        click.echo(f"| {case} | {' | '.join(cells)} |")


def _by_tag(example: DetectorExample) -> DetectorExample:
    """Take a photo's tags for its labels."""
    labels = np.array([float(_TAGS.get(case) in example.tags) for case in EDGE_CASES])
    return DetectorExample(example.features, example.tiles, labels, example.tile_labels, example.tags)


def _as_negative(example: DetectorExample) -> DetectorExample:
    """Count a photo as free of the rare cases; hair is too common in photos to say so of it."""
    rare = np.array([np.nan if case == "fine_detail" else 0.0 for case in EDGE_CASES])
    return DetectorExample(example.features, example.tiles, rare, example.tile_labels, example.tags)
