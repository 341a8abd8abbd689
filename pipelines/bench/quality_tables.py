"""The tables of the quality benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from cutray.engines.hardware import inspect_hardware
from cutray.evaluation.comparison import METRICS, ModelScores, per_picture, with_interval
from cutray.evaluation.metrics import summarise
from pipelines.bench.pages import describe_machine

_COLUMNS = (
    "sad",
    "mse",
    "grad",
    "boundary_iou_fine",
    "mae",
    "iou",
    "weighted_f",
    "boundary_f_3px",
    "missing",
    "extra",
    "holes_open",
)
# Photos on which two rows differ by less than this IoU count as equal.
_EQUAL = 0.002
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SetResult:
    """What all rows scored on one set.

    Attributes:
        name: Of the set.
        rows: The first one is what the others are compared with.
    """

    name: str
    rows: Sequence[ModelScores]


def set_table(result: SetResult) -> str:
    """Write the means of a set, one line per row, with the interval of the difference of the IoU to the first row.

    Args:
        result: What all rows scored.

    Returns:
        Markdown: a heading and a table.
    """
    heads = [f"{METRICS[name].label} {'↑' if METRICS[name].higher_is_better else '↓'}" for name in _COLUMNS]
    lines = [
        f"## {result.name}, {len(result.rows[0].cases)} photos",
        "",
        f"| | {' | '.join(heads)} | IoU against {result.rows[0].name} | better, worse |",
        "|---" + "|--:" * (len(heads) + 2) + "|",
    ]
    base = per_picture(result.rows[0].cases, "iou")
    for row in result.rows:
        means = summarise([case.scores for case in row.cases])
        cells = ["–" if np.isnan(means[name]) else f"{means[name]:.{METRICS[name].digits}f}" for name in _COLUMNS]
        difference = per_picture(row.cases, "iou") - base
        cells += ["", ""] if row is result.rows[0] else [with_interval(difference, 4, "+"), _wins(difference)]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def overall_table(results: Sequence[SetResult], costs: Mapping[str, tuple[float, int]]) -> str:
    """Write one line per row over all sets together, and what is needed to repeat the run.

    Args:
        results: One per set, all with the same rows.
        costs: Median seconds per photo, and peak memory in bytes, by row; 0 for what is not known.

    Returns:
        Markdown: a heading, a paragraph and a table.
    """
    hardware = inspect_hardware()
    photos = sum(len(result.rows[0].cases) for result in results)
    names = [row.name for row in results[0].rows]
    lines = [
        "# Cutouts",
        "",
        f"Written by `cutray bench quality`. {photos} photos of {len(results)} sets. "
        f"{describe_machine(hardware)} cutray {version('cutray')}. SAD and MSE are the mean over the sets of the "
        f"ratio to {names[0]}. Brackets hold 95 % bootstrap intervals over photos.",
        "",
        f"| | SAD | MSE | IoU | IoU against {names[0]} | better, worse | median s per photo | memory, MB |",
        "|---" + "|--:" * 7 + "|",
    ]
    base = _column(results, 0, "iou")
    for index, name in enumerate(names):
        iou = _column(results, index, "iou")
        difference = iou - base
        compared = ["", ""] if index == 0 else [with_interval(difference, 4, "+"), _wins(difference)]
        seconds, peak_bytes = costs[name]
        cells = [
            *(f"{_mean_ratio(results, index, metric):.3f}" for metric in ("sad", "mse")),
            f"{np.nanmean(iou):.4f}",
            *compared,
            f"{seconds:.2f}" if seconds else "–",
            f"{peak_bytes / _MIB:.0f}" if peak_bytes else "–",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _column(results: Sequence[SetResult], index: int, metric: str) -> np.ndarray:
    """Return a metric of one row for all photos of all sets."""
    return np.concatenate([per_picture(result.rows[index].cases, metric) for result in results])


def _mean_ratio(results: Sequence[SetResult], index: int, metric: str) -> float:
    """Average over the sets how large a row's mean error is against that of the first row."""
    means = [[float(np.nanmean(per_picture(result.rows[at].cases, metric))) for at in (index, 0)] for result in results]
    return sum(mean / max(base, 1e-9) for mean, base in means) / len(means)


def _wins(difference: np.ndarray) -> str:
    """Count the photos on which a row is better and worse."""
    return f"{int((difference > _EQUAL).sum())}, {int((difference < -_EQUAL).sum())}"
