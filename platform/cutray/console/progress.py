"""What a person sees while waiting. Everything goes to standard error, which is never part of a pipe's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

# rich takes as long to import as a photo to decode, and is needed only where something is shown.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


def error_console() -> Console:
    """Return the console on standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def download_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each file that is downloaded; yields the callback that the weights report to."""
    progress: Progress | None = None
    tasks: dict[str, TaskID] = {}

    def report(name: str, done: int, total: int | None) -> None:
        nonlocal progress
        if progress is None:  # only now: a bar that shows nothing would still leave an empty line in a log
            progress = _download_bar()
            progress.start()
        if name not in tasks:
            tasks[name] = progress.add_task(f"fetching {name}", total=total)
        progress.update(tasks[name], completed=done, total=total)

    try:
        yield report
    finally:
        if progress is not None:
            progress.stop()


def _download_bar() -> Progress:
    """Return the bar of downloads."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=error_console(), transient=True)


@contextmanager
def photo_progress(total: int, *, shown: bool) -> Iterator[Callable[..., None]]:
    """Show a bar with photos per second and the time left.

    Yields:
        A callback for each photo that is done. It takes the number of failures so far, and, where it is known, the
        share of photos with refined edges.
    """
    if not shown:
        yield lambda *_: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("removing backgrounds"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} photos/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed{task.fields[refined]}"),
    )
    with Progress(*columns, console=error_console(), transient=True) as progress:
        task = progress.add_task("", total=total, failed=0, rate=0.0, refined="")

        def advance(failed: int, refined_share: float | None = None) -> None:
            elapsed = progress.tasks[0].elapsed or 1e-9
            refined = "" if refined_share is None else f", {refined_share:.0%} refined"
            rate = (progress.tasks[0].completed + 1) / elapsed
            progress.update(task, advance=1, failed=failed, refined=refined, rate=rate)

        yield advance
