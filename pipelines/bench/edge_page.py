"""Writes the edge benchmark's results as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cutray.evaluation.edge_cases import EdgeScores
from cutray.evaluation.uncertainty import bootstrap_interval
from pipelines.bench.edge_trials import BINS, REAL

CONTROL, EMPTY = "ordinary", "empty"
# An empty scene counts as left empty if the sum of its alpha is below this share of its pixels.
_NOTHING_LEFT = 1e-3


@dataclass(frozen=True, slots=True)
class Result:
    """What one row did with one trial.

    Attributes:
        name: The trial's name.
        case: The trial's case.
        level: The trial's difficulty.
        scores: Its scores; None for an empty scene.
        left: Share of an empty scene's pixels that was not removed.
    """

    name: str
    case: str
    level: int
    scores: EdgeScores | None
    left: float = 0.0


Rows = Mapping[str, Sequence[Result]]


def write_page(rows: Rows, head: Sequence[str]) -> str:
    """Write all tables.

    Args:
        rows: Results by the name of the row, every row with the same trials.
        head: Lines that say how to repeat the run.

    Returns:
        Markdown.
    """
    first = next(iter(rows.values()))
    cases = list(dict.fromkeys(result.case for result in first if result.case != EMPTY))
    lines = [*head]
    if cases:
        lines += ["", "## Done right", "", *_success_table(rows, cases)]
    if any(result.case == EMPTY for result in first):
        lines += ["", "## Controls", "", *_control_table(rows)]
    for case in cases:
        lines += ["", f"## {case.replace('_', ' ')}", "", *_error_table(rows, case)]
        if case != REAL:
            lines += ["", *_level_table(rows, case)]
    return "\n".join(lines) + "\n"


def success_rate(results: Sequence[Result], case: str) -> tuple[float, float, float]:
    """Return the share of a case done right and its 95 % interval, in [0, 1]."""
    values = [float(scores.success) for scores in _scores(results, case)]
    return float(np.mean(values)), *bootstrap_interval(values)


def share_left_empty(results: Sequence[Result]) -> float:
    """Return the share of empty scenes in which next to nothing was left, in [0, 1]."""
    return float(np.mean([result.left < _NOTHING_LEFT for result in results if result.case == EMPTY]))


def _scores(results: Sequence[Result], case: str) -> list[EdgeScores]:
    """Pick the scores of a case."""
    return [result.scores for result in results if result.case == case and result.scores is not None]


def _table(heading: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Write a table whose first column is text and whose others are numbers."""
    lines = ["| " + " | ".join(heading) + " |", "|---" + "|--:" * (len(heading) - 1) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in body]


def _success_table(rows: Rows, cases: Sequence[str]) -> list[str]:
    """Share done right, in percent with its interval, per row and case."""
    body = []
    for name, results in rows.items():
        cells = []
        for case in cases:
            rate, low, high = success_rate(results, case)
            cells.append(f"{100 * rate:.0f} [{100 * low:.0f}, {100 * high:.0f}]")
        body.append([name, *cells])
    return _table(["row", *(case.replace("_", " ") for case in cases)], body)


def _control_table(rows: Rows) -> list[str]:
    """What must not get worse: ordinary subjects, where they were drawn too, and empty scenes."""
    with_subjects = any(_scores(next(iter(rows.values())), CONTROL))
    heading = ["MAE of ordinary subjects", "against the coarse alpha"] if with_subjects else []
    body = []
    for name, results in rows.items():
        cells = []
        if with_subjects:
            control = _scores(results, CONTROL)
            mae, coarse = (float(np.mean([getattr(one, key) for one in control])) for key in ("mae", "mae_coarse"))
            cells = [f"{mae:.5f}", f"{100 * (mae / coarse - 1):+.1f} %"]
        body.append([name, *cells, f"{100 * share_left_empty(results):.0f} %"])
    return _table(["row", *heading, "empty scenes left empty"], body)


def _error_table(rows: Rows, case: str) -> list[str]:
    """Mean errors of a case."""
    columns = {
        "SAD": ("sad", 2),
        "MSE e-3": ("mse", 2),
        "MSE in the band": ("mse_band", 1),
        "Grad": ("grad", 2),
        "boundary IoU, .2 %": ("boundary_iou", 3),
        "outline within 3 px": ("boundary_f", 3),
        "holes kept open": ("holes_open", 3),
    }
    body = []
    for name, results in rows.items():
        scores = _scores(results, case)
        body.append([name, *(_mean([getattr(one, key) for one in scores], digits) for key, digits in columns.values())])
    return _table(["row", *columns], body)


def _mean(values: Sequence[float], digits: int) -> str:
    """Write the mean of the values that are defined; a dash where none is."""
    known = [value for value in values if not np.isnan(value)]
    return f"{np.mean(known):.{digits}f}" if known else "–"


def _level_table(rows: Rows, case: str) -> list[str]:
    """Share done right by difficulty."""
    body = []
    for name, results in rows.items():
        by_level: dict[int, list[bool]] = defaultdict(list)
        for result in results:
            if result.case == case and result.scores is not None:
                by_level[result.level].append(result.scores.success)
        shares = (by_level[level] for level in range(BINS))
        body.append([name, *(f"{100 * float(np.mean(share)):.0f}" if share else "–" for share in shares)])
    return _table(["done right, %", "easiest", "2", "3", "4", "hardest"], body)
