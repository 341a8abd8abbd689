"""The evaluation: a model's masks against known ones, as a table, a page to look through and one JSON line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from cutray.config import EngineSettings, InputLimits, MattingSettings, RemoverSettings, parse_settings
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.progress import download_progress, photo_progress
from cutray.console.run import run
from cutray.errors import CutrayError
from cutray.evaluation.datasets import Sample, find_samples, load_truth
from cutray.evaluation.metrics import score, summarise
from cutray.evaluation.report import Case, ModelScores, markdown_table, write_html_report
from cutray.evaluation.uncertainty import bootstrap_interval
from cutray.imaging.encode import encode_image
from cutray.imaging.files import write_atomically
from cutray.remover import BackgroundRemover, Removal

_SHORT = ("iou", "dice", "mae_binary", "weighted_f", "f_max", "s_measure", "e_max", "boundary_iou", "boundary_f_3px")


@click.command(cls=GroupedCommand)
@click.argument("dataset", type=click.Path(path_type=Path))
@settings_options(MattingSettings, EngineSettings, InputLimits, exclude=["model"])
@click.option(
    "-m", "--model", "models", multiple=True, default=("u2net",), show_default=True, help="Model; several are compared."
)
@click.option("--limit", type=click.IntRange(min=1), help="Use that many photos, spread over the whole set.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a page with tables and the worst cases (HTML).")
@click.option(
    "--save-masks", type=click.Path(path_type=Path), help="Keep the masks in this folder, one sub-folder per model."
)
def evaluate(
    dataset: Path,
    models: tuple[str, ...],
    limit: int | None,
    report: Path | None,
    save_masks: Path | None,
    **options: Any,
) -> int:
    """Measure models on a folder with images/ and masks/ (DUTS, DIS5K, ECSSD and HKU-IS names are known too).

    A photo that cannot be read counts as an empty mask. Files in tags/, one stem a line, give a table per tag.

    \b
    cutray evaluate data/ecssd
    cutray evaluate data/ecssd -m u2net -m u2netp --report report.html
    """
    samples = _spread(find_samples(dataset), limit)
    results, failures = [], 0
    for model in models:
        settings = parse_settings(RemoverSettings, {"model": model, "only_mask": True, **given(options)})
        scores, failed = score_model(settings, samples, save_masks / Path(model).stem if save_masks else None)
        results.append(scores)
        failures += failed
    click.echo(markdown_table(results))
    for result in results:
        _print_tags(result)
    if report is not None:
        write_html_report(report, results, title=f"{dataset.name}: {len(samples)} photos")
        click.echo(f"report: {report}", err=True)
    click.echo(json.dumps(_summary(dataset, results, failures)))
    return 1 if failures else 0


def score_model(settings: RemoverSettings, samples: Sequence[Sample], keep: Path | None) -> tuple[ModelScores, int]:
    """Score one model on all samples, keeping the masks in a folder if one is given; also count what failed."""
    with download_progress() as progress:
        remover = BackgroundRemover.from_settings(settings, progress=progress)
    cases, failed = [], 0
    with photo_progress(len(samples), shown=sys.stderr.isatty()) as advance:
        for sample, removal in zip(samples, remover.remove_many(sample.image for sample in samples), strict=True):
            cases.append(_case(sample, removal, keep))
            if isinstance(removal, CutrayError):
                failed += 1
                click.echo(f"{sample.image}: {removal}", err=True)
            advance(failed)
    return ModelScores(settings.model, cases), failed


def _case(sample: Sample, removal: Removal | CutrayError, keep: Path | None) -> Case:
    """Score one photo; without a result it counts as if nothing had been found."""
    if isinstance(removal, CutrayError):
        truth = load_truth(sample.truth)
        return Case(sample, score(np.zeros_like(truth), truth))
    mask = removal.mask.astype(np.float32) / 255.0
    path = None
    if keep is not None:
        path = keep / f"{sample.stem}.png"
        write_atomically(path, encode_image(removal.mask, "PNG"), overwrite=True)
    return Case(sample, score(mask, load_truth(sample.truth, shape=mask.shape)), path)


def _spread(samples: list[Sample], limit: int | None) -> list[Sample]:
    """Take evenly spaced samples."""
    if limit is None or limit >= len(samples):
        return samples
    return [samples[index * len(samples) // limit] for index in range(limit)]


def _print_tags(result: ModelScores) -> None:
    """Print one row per tag."""
    tags = sorted({tag for case in result.cases for tag in case.sample.tags})
    if not tags:
        return
    click.echo(f"\n{result.name} by tag\n")
    click.echo("| tag | n | " + " | ".join(_SHORT) + " | IoU, 95 % interval |")
    click.echo("|---" * (len(_SHORT) + 3) + "|")
    for tag in tags:
        scores = [case.scores for case in result.cases if tag in case.sample.tags]
        means = summarise(scores)
        low, high = bootstrap_interval([one.iou for one in scores])
        row = " | ".join(f"{means[name]:.4f}" for name in _SHORT)
        click.echo(f"| {tag} | {len(scores)} | {row} | {low:.3f}–{high:.3f} |")


def _summary(dataset: Path, results: Sequence[ModelScores], failures: int) -> dict[str, Any]:
    """Collect what a program wants to know."""
    means = {result.name: summarise([case.scores for case in result.cases]) for result in results}
    plain = {
        name: {key: None if math.isnan(value) else round(value, 5) for key, value in row.items()}
        for name, row in means.items()
    }
    return {"job": "evaluate", "dataset": str(dataset), "failures": failures, "models": plain}


if __name__ == "__main__":
    sys.exit(run(evaluate))
