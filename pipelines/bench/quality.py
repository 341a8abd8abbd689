"""The quality benchmark: cutouts of several models, settings and rembg on photos with known alphas, in one run."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from cutray.config import RemoverSettings, parse_settings
from cutray.console.progress import photo_progress
from cutray.errors import OptionError
from cutray.evaluation.comparison import plain_means
from cutray.evaluation.datasets import Sample, read_ignored, read_truth
from cutray.evaluation.masks import MaskEncoding
from cutray.evaluation.metrics import score
from cutray.evaluation.report import Case, ModelScores, write_html_report
from cutray.imaging.files import write_atomically
from cutray.preflight import check_new_file
from pipelines.bench.pages import overwrite_option
from pipelines.bench.quality_rows import QualityRow, our_row, their_row
from pipelines.bench.quality_tables import SetResult, overall_table, set_table
from pipelines.scoring import mask_name, scored_samples, warn_if_seen

_DEFAULT_ROWS = ("fast: quality=fast", "balanced:", "best: quality=best")


@click.command("quality")
@click.argument("datasets", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--row",
    "row_texts",
    multiple=True,
    default=_DEFAULT_ROWS,
    help='A name and settings of the remover, e.g. "vote: model=u2net+isnet"; the first one is compared with.',
)
@click.option("--rembg-python", type=click.Path(path_type=Path), help="Interpreter that has rembg.")
@click.option(
    "--rembg",
    "peers",
    multiple=True,
    help='Model of rembg, e.g. u2net; "u2net -a" asks for its alpha matting. Needs --rembg-python.',
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Use that many photos of each set, spread over the whole set."
)
@click.option(
    "--ignore-value",
    "ignored",
    multiple=True,
    help="SET=VALUE: value in the masks of a set that means unknown, e.g. grabcut=128.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the tables to this file (Markdown).")
@click.option("--pages", type=click.Path(path_type=Path), help="Write a page with the worst cases of each set (HTML).")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Keep the masks in this folder; a later run with the same rows goes on from there.",
)
@click.option("--busy", is_flag=True, help="The machine had other work: write no seconds into the tables.")
@overwrite_option
def quality(
    datasets: tuple[Path, ...],
    row_texts: tuple[str, ...],
    rembg_python: Path | None,
    peers: tuple[str, ...],
    limit: int | None,
    ignored: tuple[str, ...],
    output: Path | None,
    pages: Path | None,
    keep: Path | None,
    busy: bool,
    overwrite: bool,
) -> None:
    """Compare cutouts on photos with known alphas, side by side with rembg.

    Each row runs in a process of its own, so that its memory is known. All take turns, photo by photo. Seconds are from
    a photo's bytes to those of the result. What --keep has kept is not cut out again, not even by a changed program of
    the same version: name another folder then.

    \b
    cutray bench quality data/am2k data/cars
    cutray bench quality data/am2k --row "balanced:" --row "vote: model=u2net+isnet"
    cutray bench quality data/am2k --rembg-python .venv-rembg/bin/python --rembg u2net --rembg "u2net -a"
    cutray bench quality data/* --ignore-value grabcut=128 -o quality.md --pages out/quality
    """
    targets = {folder: None if pages is None else pages / f"{folder.resolve().name}.html" for folder in datasets}
    for path in (output, *targets.values()):
        if path is not None:
            check_new_file(path, overwrite=overwrite)
    if peers and rembg_python is None:
        raise OptionError(got="--rembg without --rembg-python", fix="name the interpreter that has rembg")
    unknown = _unknown_values(ignored, [folder.resolve().name for folder in datasets])
    results = []
    with ExitStack() as stack:
        rows = [our_row(text, stack) for text in row_texts]
        if rembg_python is not None:
            rows += [their_row(rembg_python, peer, stack) for peer in peers]
        place = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for folder, page in targets.items():
            name = folder.resolve().name
            for row in rows:
                warn_if_seen(row.model, folder)
            checking = parse_settings(RemoverSettings, {"model": rows[0].model})
            wish = MaskEncoding(None, (), unknown.get(name))
            samples = scored_samples(folder, checking, wish=wish, limit=limit)
            scores = _score_set(rows, samples, place / name)
            results.append(SetResult(name, scores))
            if page is not None:
                write_html_report(page, scores, title=f"{name}: {len(samples)} photos", rank_by="sad")
    costs = {row.name: (0.0 if busy else statistics.median(row.seconds), row.peak_bytes) for row in rows}
    text = "\n".join([overall_table(results, costs), *map(set_table, results)])
    click.echo(text)
    if output is not None:
        write_atomically(output, text.encode(), overwrite=overwrite)
    click.echo(
        json.dumps({"job": "bench quality", "sets": {result.name: plain_means(result.rows) for result in results}})
    )


def _score_set(rows: Sequence[QualityRow], samples: Sequence[Sample], place: Path) -> list[ModelScores]:
    """Have every row cut out every photo, and score what comes back."""
    cases: dict[str, list[Case]] = {row.name: [] for row in rows}
    with photo_progress(len(samples), shown=sys.stderr.isatty()) as advance:
        for sample in samples:
            truth, ignored = read_truth(sample), read_ignored(sample)
            for row in rows:
                path = place / row.identity / mask_name(sample)
                alpha = row.cut_out(sample, path)
                cases[row.name].append(Case(sample, score(alpha, truth, ignored), path))
            advance(0)
    return [ModelScores(name, scored) for name, scored in cases.items()]


def _unknown_values(texts: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Read ``SET=VALUE``."""
    values = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or name not in names or not value.replace(".", "", 1).isdigit():
            raise OptionError(
                got=f"--ignore-value {text}", allowed=f"SET=VALUE, where SET is one of {', '.join(names)}"
            )
        values[name] = float(value)
    return values
