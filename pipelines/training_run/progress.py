"""Shows how a training run goes."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from cutray.config import TrainSettings

_LINE_EVERY_S = 30.0


@contextmanager
def show_progress(settings: TrainSettings) -> Iterator[Any]:
    """Show how it goes, as a bar or as a line every half minute; yields the actor to report to."""
    import ray
    from ray.exceptions import GetTimeoutError
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from cutray.console.progress import error_console
    from cutray.training.progress import start_progress_actor

    actor = start_progress_actor()
    over = threading.Event()
    shown = sys.stderr.isatty()
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.fields[line]}"), TimeRemainingColumn())
    bar = Progress(*columns, console=error_console(), transient=True, disable=not shown)
    task = bar.add_task("", total=1.0, line="starting")

    reporter = _Reporter(settings.optim.epochs, None if shown else 0.0)

    def watch() -> None:
        while not over.wait(0.5):
            try:
                latest, problems = ray.get(actor.read.remote(), timeout=30)
            except GetTimeoutError:  # a busy machine; the run itself goes on
                continue
            for problem in problems:
                warnings.warn(problem, stacklevel=1)
            if latest:
                line = reporter.take(latest)
                bar.update(task, completed=latest.get("progress", 0.0), line=line)

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    with bar:
        thread.start()
        try:
            yield actor
        finally:
            over.set()
            thread.join(5)


def report_lines(settings: TrainSettings) -> Callable[[dict[str, Any]], None]:
    """Return a callback for a run in this process that writes a line every half minute, and one for each epoch."""
    reporter = _Reporter(settings.optim.epochs, 0.0)

    def take(latest: dict[str, Any]) -> None:
        for problem in latest.get("warnings", ()):
            warnings.warn(problem, stacklevel=1)
        reporter.take(latest)

    return take


class _Reporter:
    """Turns the latest figures into lines; epochs are counted from 1."""

    def __init__(self, epochs: int, last_line_s: float | None) -> None:
        """Begin.

        Args:
            epochs: How many the run has.
            last_line_s: Time of the last line; None writes lines for new scores alone, since a bar shows the rest.
        """
        self._epochs, self._last_line_s = epochs, last_line_s
        self._started: tuple[float, float] | None = None
        self._told = -1
        self._start_told = False

    def take(self, latest: dict[str, Any]) -> str:
        """Write what is new to standard error, and return one line on how it goes."""
        if "start" in latest and not self._start_told:
            self._start_told = True
            click.echo(f"before training: {_scores(latest['start'])}", err=True)
        if "progress" not in latest:
            return "the first steps"
        now = time.monotonic()
        self._started = self._started or (now, latest["progress"])
        line = (
            f"epoch {min(latest['epoch'] + 1, self._epochs)}/{self._epochs}, step {latest['step']}/{latest['steps']}, "
            f"loss {latest['loss']:.3f}, {latest['images_per_s']:.1f} images/s"
        )
        last = latest["last"]
        if last and last["epoch"] > self._told:
            self._told = int(last["epoch"])
            click.echo(f"epoch {self._told + 1}: loss {last['loss']:.4f}, {_scores(last)}", err=True)
        elif self._last_line_s is not None and now - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = now
            click.echo(line + self._time_left(now, latest["progress"]), err=True)
        return line + (f", {_scores(last)}" if last else "")

    def _time_left(self, now: float, progress: float) -> str:
        """Estimate how long it will take, from the pace so far."""
        since, begun = self._started or (now, progress)
        if progress <= begun:
            return ""
        minutes = (now - since) / (progress - begun) * (1 - progress) / 60
        return f", about {minutes:.0f} minutes left" if minutes >= 1 else ", less than a minute left"


def _scores(scores: dict[str, float]) -> str:
    """Write the scores of a validation."""
    return f"IoU {scores['iou']:.4f}, MAE {scores['mae']:.4f}"
