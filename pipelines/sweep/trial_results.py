"""What came of each trial, as it is kept in a file beside the search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SWEEP, TRIALS, RUNS = "sweep.json", "trials.json", "trials"


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What one trial came to.

    Attributes:
        number: Its place in the order of start, from 1.
        trial_id: Its name in Ray Tune and, in training, its folder's.
        chosen: Value by path.
        status: waiting, running, finished or failed.
        score: Its best score so far, or None.
        scores: All it reported last.
        rounds: Rounds it has done.
        seconds: How long it took.
        error: Why it failed, in one line, or empty.
    """

    number: int
    trial_id: str
    chosen: dict[str, Any]
    status: str
    score: float | None
    scores: dict[str, float]
    rounds: int
    seconds: float
    error: str = ""


def ranked(trial_results: list[TrialResult], mode: str) -> list[TrialResult]:
    """Put the best first, those without a score last."""
    sign = -1.0 if mode == "max" else 1.0
    return sorted(trial_results, key=lambda one: (one.score is None, sign * (one.score or 0.0), one.number))


def format_choices(chosen: Mapping[str, Any]) -> str:
    """Write values for people."""
    parts = (f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}" for path, value in chosen.items())
    return ", ".join(parts) or "as they are"


def read_trial_results(folder: Path) -> list[TrialResult]:
    """Read the list of trials."""
    return [TrialResult(**entry) for entry in json.loads((folder / TRIALS).read_text())]
