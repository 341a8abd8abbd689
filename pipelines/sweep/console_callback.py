"""What a person sees while a search runs, and the list of its trials that is kept beside it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.tune import Callback

from cutray.imaging.files import write_atomically
from pipelines.sweep.trial_results import TRIALS, TrialResult, format_choices, ranked
from pipelines.sweep.trials import ROUNDS

_SHOWN = 12


_STATUS = {"PENDING": "waiting", "RUNNING": "running", "PAUSED": "waiting", "TERMINATED": "finished", "ERROR": "failed"}


class ConsoleCallback(Callback):
    """Ray Tune tells it about every trial. It is kept with the search's state, so it holds nothing that is open."""

    def __init__(self, folder: str, metric: str, mode: str, trials: int) -> None:
        """Remember what is searched for.

        Args:
            folder: The sweep's folder.
            metric: Score that decides.
            mode: max or min.
            trials: How many there will be.
        """
        self._folder, self._metric, self._mode = folder, metric, mode
        self._trials = trials
        self._live: Any = None
        self._told: set[str] = set()
        self._started = time.time()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {**self.__dict__, "_live": None}

    def setup(self, *_: Any, **__: Any) -> None:
        """Begin, or begin again after a crash."""
        self._started = time.time()
        if sys.stderr.isatty():
            from rich.live import Live

            from cutray.console.progress import error_console

            self._live = Live(console=error_console(), refresh_per_second=2, transient=True)
            self._live.start()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002 (Ray's signature)
        """Show it."""
        self._show(trials)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:  # noqa: ARG002 (Ray's signature)
        """Show it."""
        self._show(trials)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002 (Ray's signature)
        """Show and keep it."""
        self._show(trials)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002 (Ray's signature)
        """Show and keep it."""
        self._show(trials)

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        """Keep the list and leave the screen to others."""
        self._show(trials)
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, trials: list[Any]) -> None:
        """Write the list down and show the best of it."""
        trial_results = [self._trial_result(number, trial) for number, trial in enumerate(trials, 1)]
        data = json.dumps([asdict(trial_result) for trial_result in trial_results], indent=1)
        write_atomically(Path(self._folder) / TRIALS, data.encode(), overwrite=True)
        if self._live is not None:
            self._live.update(self._table(trial_results))
            return
        for trial_result in trial_results:
            if trial_result.status in ("finished", "failed") and trial_result.trial_id not in self._told:
                self._told.add(trial_result.trial_id)
                print(self._line(trial_result), file=sys.stderr, flush=True)

    def _trial_result(self, number: int, trial: Any) -> TrialResult:
        """Read what Ray Tune knows of a trial."""
        last = trial.last_result or {}
        known = trial.metric_analysis.get(self._metric, {})
        numbers = {name: value for name, value in last.items() if isinstance(value, int | float) and "/" not in name}
        error = str(trial.get_pickled_error() or trial.get_error() or "") if trial.status == "ERROR" else ""
        return TrialResult(
            number=number,
            trial_id=trial.trial_id,
            chosen=dict(trial.config),
            status=_STATUS.get(trial.status, trial.status.lower()),
            score=known.get(self._mode),
            scores={name: float(value) for name, value in numbers.items() if name not in _RAY_METRICS},
            rounds=int(last.get(ROUNDS, 0)),
            seconds=float(last.get("time_total_s", 0.0)),
            error=error.strip().splitlines()[-1][:300] if error.strip() else "",
        )

    def _line(self, trial_result: TrialResult) -> str:
        """Say in one line what came of a trial."""
        score = "no score" if trial_result.score is None else f"{self._metric} {trial_result.score:.4f}"
        ending = f", failed: {trial_result.error}" if trial_result.status == "failed" else ""
        return f"trial {trial_result.number} of {self._trials}: {score}, {format_choices(trial_result.chosen)}{ending}"

    def _table(self, trial_results: list[TrialResult]) -> Any:
        """Lay out the best trials, and how long it will take."""
        from rich.table import Table

        over = [one for one in trial_results if one.status in ("finished", "failed")]
        passed = time.time() - self._started
        left = passed / len(over) * (self._trials - len(over)) if over else None
        ending = "" if left is None else f", about {left / 60:.0f} min to go"
        title = f"{len(over)} of {self._trials} trials, {passed / 60:.1f} min{ending}"
        table = Table("trial", self._metric, "rounds", "", "settings", title=title, title_justify="left")
        for one in ranked(trial_results, self._mode)[:_SHOWN]:
            score = "" if one.score is None else f"{one.score:.4f}"
            table.add_row(str(one.number), score, str(one.rounds), one.status, format_choices(one.chosen))
        return table


# Ray's own figures, which say nothing about a trial's quality.
_RAY_METRICS = frozenset(
    {"timestamp", "done", "training_iteration", "time_this_iter_s", "time_total_s", "pid", "time_since_restore"}
    | {"iterations_since_restore", "should_checkpoint", "epoch", ROUNDS}
)
