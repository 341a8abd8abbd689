"""What a person sees while waiting. Everything goes to standard error, which is never part of a pipe's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


def error_console() -> Console:
    """Return the console on standard error."""
    return Console(stderr=True, highlight=False)


@contextmanager
def download_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each file that is downloaded; yields the callback that the weights report to."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=error_console(), transient=True)
    tasks: dict[str, TaskID] = {}

    def report(name: str, done: int, total: int | None) -> None:
        progress.start()  # only now: a bar that shows nothing would still leave an empty line in a log
        if name not in tasks:
            tasks[name] = progress.add_task(f"fetching {name}", total=total)
        progress.update(tasks[name], completed=done, total=total)

    try:
        yield report
    finally:
        if tasks:
            progress.stop()


@contextmanager
def photo_progress(total: int, *, shown: bool) -> Iterator[Callable[..., None]]:
    """Show a bar with photos per second and the time left.

    Yields:
        A callback for each photo that is done. It takes the number of failures so far, and, where it is known, the
        share of photos with refined edges.
    """
    columns = (
        TextColumn("removing backgrounds"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} photos/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed{task.fields[refined]}"),
    )
    with Progress(*columns, console=error_console(), transient=True, disable=not shown) as progress:
        task = progress.add_task("", total=total, failed=0, rate=0.0, refined="")

        def advance(failed: int, refined_share: float | None = None) -> None:
            elapsed = progress.tasks[0].elapsed or 1e-9
            refined = "" if refined_share is None else f", {refined_share:.0%} refined"
            rate = (progress.tasks[0].completed + 1) / elapsed
            progress.update(task, advance=1, failed=failed, refined=refined, rate=rate)

        yield advance
