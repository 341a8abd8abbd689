"""The report of an evaluation: a Markdown table and a page of HTML that needs no other file."""

from __future__ import annotations

import contextlib
import html
import math
from collections.abc import Sequence
from pathlib import Path

from cutray.config import InputLimits
from cutray.errors import DatasetError, InputError, OutputError
from cutray.evaluation.comparison import (
    METRICS,
    Case,
    Metric,
    ModelScores,
    check_comparable,
    per_picture,
    summary_rows,
    tag_rows,
)
from cutray.evaluation.datasets import load_truth, read_truth
from cutray.evaluation.figures import (
    SERIES_COLORS,
    alpha_uri,
    difference_uri,
    histogram_svg,
    photo_uri,
    resize_alpha,
    shrink_alpha,
)
from cutray.evaluation.html_page import html_page, html_table

__all__ = ["METRICS", "Case", "Metric", "ModelScores", "markdown_table", "write_html_report"]

TAG_METRICS = ("iou", "weighted_f", "s_measure", "mae", "boundary_iou_fine")
PICTURE_HEIGHT_PX = 200

_STYLE = "figure img{display:block}.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}"

_NOTES = (
    "Means over pictures; brackets hold the 95 % bootstrap interval of the mean, of the paired difference in the"
    " last columns. Max F and max E are the maximum of the mean curve. IoU, Dice and the boundary scores binarise at"
    " 0.5; F uses β² = 0.3, weighted F β² = 1. The band is the soft part of a truth and its surroundings. Predictions"
    " are never stretched to the full range."
)


def markdown_table(models: Sequence[ModelScores], *, metrics: Sequence[str] = tuple(METRICS)) -> str:
    """Write the means with their 95 % intervals as a Markdown table, one row per metric.

    With two or more models, further columns hold the paired differences to the first one.

    Args:
        models: Models scored on the same pictures.
        metrics: Keys of `METRICS`, in order of the rows.

    Returns:
        The table, ending with a line break.

    Raises:
        InputError: The models were not scored on the same pictures, or a metric is unknown.
    """
    _check(models, metrics)
    heading, *rows = summary_rows(models, metrics)
    lines = [heading, ["---"] + ["---:"] * (len(heading) - 1), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def write_html_report(
    path: Path,
    models: Sequence[ModelScores],
    *,
    title: str,
    worst: int = 12,
    rank_by: str = "iou",
    metrics: Sequence[str] = tuple(METRICS),
    limits: InputLimits | None = None,
) -> None:
    """Write summary, tags, spread and worst cases as one page without outside resources.

    Args:
        path: Where the page goes; folders are made, an existing file is replaced.
        models: Models scored on the same pictures; two are shown side by side.
        title: Heading of the page.
        worst: Number of worst cases with pictures; a case ranks by its worst model.
        rank_by: Key of `METRICS` that orders the cases and is drawn as a histogram.
        metrics: Keys of `METRICS` in the summary.
        limits: What a photo of a worst case may cost, as in the evaluation; one that cannot be read is left out.

    Raises:
        InputError: The models were not scored on the same pictures, or a metric is unknown.
        DatasetError: A truth or prediction of a worst case cannot be read.
        OutputError: The page cannot be written.
    """
    _check(models, [*metrics, rank_by])
    label = METRICS[rank_by].label
    series = {model.name: per_picture(model.cases, rank_by) for model in models}
    tags = tag_rows(models, TAG_METRICS)
    names, limits = [model.name for model in models], limits or InputLimits()
    parts = [
        f"<p>{len(models[0].cases)} pictures. {html.escape(_NOTES)}</p>",
        f"<h2>Summary</h2>{html_table(summary_rows(models, metrics), figures=True)}",
        f"<h2>By tag</h2>{html_table(tags, figures=True)}" if len(tags) > 1 else "",
        f"<h2>Spread of {html.escape(label)}</h2>{histogram_svg(series, label)}<p>{_keys(models)}</p>",
        f"<h2>Worst cases by {html.escape(label)}</h2>" if worst > 0 else "",
        *(_case_html(names, cases, rank_by, limits) for cases in _worst(models, rank_by, worst)),
    ]
    page = html_page(title, parts, _STYLE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(got=f"{path} cannot be written ({error})", fix="choose a writable path") from error


def _check(models: Sequence[ModelScores], metrics: Sequence[str]) -> None:
    """Refuse unknown metrics and models that cannot be compared."""
    unknown = sorted(set(metrics) - METRICS.keys())
    if unknown:
        raise InputError(got=f"unknown metrics {', '.join(unknown)}", allowed=f"metrics are {', '.join(METRICS)}")
    check_comparable(models)


def _worst(models: Sequence[ModelScores], metric: str, amount: int) -> list[list[Case]]:
    """Return the cases of the worst pictures, one per model each, worst first."""
    sign = 1 if METRICS[metric].higher_is_better else -1
    by_model = [sorted(model.cases, key=lambda case: case.sample.stem) for model in models]
    values = [sign * per_picture(cases, metric) for cases in by_model]
    ranks = [(min(column[i] for column in values), i) for i in range(len(by_model[0]))]
    # A picture for which the metric is not defined has no rank.
    order = [i for value, i in sorted(ranks) if not math.isnan(value)][: max(amount, 0)]
    return [[cases[i] for cases in by_model] for i in order]


def _case_html(names: Sequence[str], cases: Sequence[Case], metric: str, limits: InputLimits) -> str:
    """Show one picture with its truth and every model's prediction and difference."""
    sample = cases[0].sample
    truth = shrink_alpha(read_truth(sample), PICTURE_HEIGHT_PX)
    size_px = (truth.shape[1], truth.shape[0])
    shown = []
    with contextlib.suppress(DatasetError):  # such a photo is scored as well, as an empty mask
        shown.append((photo_uri(sample.image, size_px, limits), "image"))
    shown.append((alpha_uri(truth), "truth"))
    for name, case in zip(names, cases, strict=True):
        if case.prediction is not None:
            alpha = resize_alpha(shrink_alpha(load_truth(case.prediction), PICTURE_HEIGHT_PX), size_px)
            value = per_picture([case], metric)[0]
            shown.append((alpha_uri(alpha), f"{name}: {value:.{METRICS[metric].digits}f}"))
            shown.append((difference_uri(alpha, truth), "difference: red too much, blue missing"))
    figures = "".join(
        f'<figure><img src="{uri}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        for uri, caption in ((uri, html.escape(text)) for uri, text in shown)
    )
    tags = f" ({', '.join(sorted(sample.tags))})" if sample.tags else ""
    return f"<h3>{html.escape(sample.stem + tags)}</h3><div>{figures}</div>"


def _keys(models: Sequence[ModelScores]) -> str:
    """Name the colors of the histogram."""
    colors = (SERIES_COLORS[index % len(SERIES_COLORS)] for index in range(len(models)))
    return "".join(
        f'<span class="key" style="background:{color}"></span>{html.escape(model.name)}'
        for color, model in zip(colors, models, strict=True)
    )
