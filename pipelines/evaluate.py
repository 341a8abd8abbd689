"""The evaluation: a model's masks against known ones, as a table, a page to look through and one JSON line."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cutray.config import EngineSettings, InputLimits, MattingSettings, ReadingSettings, RemoverSettings, parse_settings
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.console.run import run
from cutray.evaluation.comparison import plain_means
from cutray.evaluation.masks import MaskEncoding
from cutray.evaluation.metrics import summarise
from cutray.evaluation.report import ModelScores, markdown_table, write_html_report
from cutray.evaluation.uncertainty import bootstrap_interval
from cutray.models.preset_networks import name_networks
from cutray.preflight import check_new_file
from pipelines.scoring import mask_name, score_model, scored_samples, warn_if_seen

_SHORT = ("iou", "dice", "mae_binary", "weighted_f", "f_max", "s_measure", "e_max", "boundary_iou", "boundary_f_3px")


@click.command(cls=GroupedCommand)
@click.argument("dataset", type=click.Path(path_type=Path))
@settings_options(MattingSettings, EngineSettings, ReadingSettings, InputLimits, exclude=["model"])
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    help="Model; several are compared. Without it what `cutray remove` takes with the same quality.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Use that many photos, spread over the whole set.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a page with tables and the worst cases (HTML).")
@click.option("--overwrite", is_flag=True, help="Replace the report and masks if they exist.")
@click.option(
    "--save-masks", type=click.Path(path_type=Path), help="Keep the masks in this folder, one sub-folder per model."
)
@click.option(
    "--subject-value",
    "subject_values",
    type=float,
    multiple=True,
    help="Value in the masks that is the subject, where they hold class numbers or are inverted; several are allowed.",
)
@click.option("--ignore-value", type=float, help="Value in the masks that means unknown, left out of the scores.")
def evaluate(
    dataset: Path,
    models: tuple[str, ...],
    limit: int | None,
    report: Path | None,
    overwrite: bool,
    save_masks: Path | None,
    subject_values: tuple[float, ...],
    ignore_value: float | None,
    **options: Any,
) -> int:
    """Measure models on a folder with images/ and masks/ (DUTS, DIS5K, ECSSD and HKU-IS names are known too).

    Masks of 0 and 255, of 0 and 1, in 8 or 16 bits, with a palette or as an alpha channel are recognised; what can
    mean several things is refused. Masks may lie on the photos as stored, or as one sees them (EXIF orientation). A
    photo that cannot be read counts as an empty mask. Files in tags/, one stem a line, give a table per tag.

    \b
    cutray evaluate data/ecssd
    cutray evaluate data/ecssd -m u2net -m u2netp --report report.html
    cutray evaluate data/voc --subject-value 15             one class of many
    cutray evaluate data/trimaps --ignore-value 128         pixels that are unknown
    """
    if report is not None:
        check_new_file(report, overwrite=overwrite)
    models = tuple(dict.fromkeys(models)) or (name_networks(parse_settings(RemoverSettings, given(options))).model,)
    settings = {
        model: parse_settings(RemoverSettings, {"model": model, "only_mask": True, **given(options)})
        for model in models
    }
    for model in models:
        warn_if_seen(model, dataset)
    wish = MaskEncoding(None, subject_values, ignore_value)
    samples = scored_samples(dataset, settings[models[0]], wish=wish, limit=limit)
    results, failures = [], 0
    with tempfile.TemporaryDirectory() as temporary:
        # The report shows the masks of the worst cases, whether they are to be kept or not.
        parent = save_masks or (Path(temporary) if report is not None else None)
        folders = _mask_folders(models, parent) if parent is not None else {}
        for folder in folders.values():
            for sample in samples:
                check_new_file(folder / mask_name(sample), overwrite=overwrite)
        for model in models:
            scores, failed = score_model(settings[model], samples, folders.get(model), name=model)
            results.append(scores)
            failures += failed
        click.echo(markdown_table(results))
        for result in results:
            _print_tags(result)
        if report is not None:
            title = f"{dataset.name}: {len(samples)} photos"
            write_html_report(report, results, title=title, limits=settings[models[0]])
            click.echo(f"report: {report}", err=True)
    click.echo(json.dumps(_summary(dataset, results, failures)))
    return 1 if failures else 0


def _mask_folders(models: Sequence[str], parent: Path) -> dict[str, Path]:
    """Give each model a folder for its masks; models whose files have the same name do not share one."""
    stems = [Path(model).stem for model in models]
    return {
        model: parent / (stem if stems.count(stem) == 1 else f"{number}-{stem}")
        for number, (model, stem) in enumerate(zip(models, stems, strict=True), 1)
    }


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
    return {"job": "evaluate", "dataset": str(dataset), "failures": failures, "models": plain_means(results)}


if __name__ == "__main__":
    sys.exit(run(evaluate))
