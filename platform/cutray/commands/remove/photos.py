"""Remove the background of one photo after another; a bad photo is a row with its reason and never ends the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cutray.commands.remove.outputs import RemovalTask
from cutray.config import RemoverSettings
from cutray.errors import CutrayError, OutputExistsError
from cutray.imaging.provenance import is_result
from cutray.ordered import run_in_order

if TYPE_CHECKING:
    from cutray.options import FormatName, PhotoOptions
    from cutray.remover import BackgroundRemover

Row = dict[str, Any]
_AT_A_TIME = 2


@dataclass(frozen=True, slots=True)
class Existing:
    """Tasks whose output exists, told apart.

    Attributes:
        todo: Tasks that can be done.
        done: Tasks that an earlier run has done, or that were to be skipped if their output exists.
        blocked: Tasks whose output is somebody else's file, or older than the photo.
    """

    todo: list[RemovalTask]
    done: list[RemovalTask]
    blocked: list[RemovalTask]


def load_remover(settings: RemoverSettings, photos: int | None = None) -> BackgroundRemover:
    """Load the model, with a bar if it has to be downloaded.

    Args:
        settings: All settings.
        photos: How many there are to do, if that is known.
    """
    from cutray.console.progress import download_progress
    from cutray.freed_memory import keep_freed_memory
    from cutray.models.weights import resolve
    from cutray.segmenter import Segmenter, settle_settings

    keep_freed_memory()
    settings = settle_settings(settings)
    with download_progress() as report:
        weights = resolve(settings.model, offline=settings.offline, progress=report)
    with ThreadPoolExecutor(1, "engine") as pool:
        loading = pool.submit(Segmenter.of, weights, settings, photos)
        # Meanwhile: what a photo needs besides the network.
        import cutray.matting.detect
        import cutray.matting.refine  # noqa: F401
        from cutray.remover import BackgroundRemover

        return BackgroundRemover.from_settings(settings, segmenter=loading.result())


def sort_by_existing(tasks: Sequence[RemovalTask], *, overwrite: bool, skip_existing: bool, several: bool) -> Existing:
    """Look which outputs exist, before any work.

    Args:
        tasks: What is to be done.
        overwrite: Replace what exists.
        skip_existing: Pass over photos whose output exists.
        several: Whether several photos were named; the results of an earlier run are passed over then.
    """
    found = Existing([], [], [])
    for task in tasks:
        # A device or a pipe can be written to again and again; a link that leads nowhere is a name that is taken.
        dangling = os.path.islink(task.destination) and not os.path.exists(task.destination)
        if overwrite or not (dangling or os.path.isfile(task.destination)):
            found.todo.append(task)
        elif skip_existing or (several and _is_done(task)):
            found.done.append(task)
        else:
            found.blocked.append(task)
    return found


def _is_done(task: RemovalTask) -> bool:
    """Whether the output was made by Cutray since the photo, or the file with its hints, was last changed."""
    from cutray.hints_file import hints_name

    try:
        made = os.stat(task.destination).st_mtime
        hints = hints_name(os.fspath(task.source))
        newer = made >= os.stat(task.source).st_mtime and not (os.path.isfile(hints) and os.stat(hints).st_mtime > made)
    except OSError:
        return False
    return newer and is_result(task.destination)


def blocked_rows(tasks: Iterable[RemovalTask]) -> list[Row]:
    """Return the rows of photos whose output is somebody else's file."""
    return [
        {
            "source": str(task.source),
            "output": None,
            "status": "failed",
            "code": OutputExistsError.code,
            "reason": str(output_exists([task])),
        }
        for task in tasks
    ]


def output_exists(tasks: Sequence[RemovalTask]) -> OutputExistsError:
    """The error for results that are there already."""
    outdated = all(is_result(task.destination) and not _is_done(task) for task in tasks)
    names = ", ".join(repr(str(task.destination)) for task in tasks[:3])
    more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
    return OutputExistsError(
        got=f"{names}{more} {'exists' if len(tasks) == 1 else 'exist'}"
        + (", made before the photo or its hints changed" if outdated else ""),
        allowed="new files",
        fix="add --overwrite to replace it or --skip-existing to pass over it",
    )


def remove_files(
    remover: BackgroundRemover, tasks: Iterable[RemovalTask], *, allow_empty: bool, overwrite: bool
) -> Iterator[Row]:
    """Work through files, one photo ahead: it is decoded while the network is busy with the one before it.

    Args:
        remover: The loaded remover.
        tasks: Photos and their results.
        allow_empty: Write a transparent picture where there is no subject.
        overwrite: Replace what exists.

    Yields:
        A row for each: ``status`` is ok, no_subject or failed; with the report, or a code and a reason.
    """
    from cutray.imaging.files import write_atomically

    def remove_file(task: RemovalTask) -> Row:
        def write(data: bytes) -> str:
            write_atomically(task.destination, data, overwrite=overwrite)
            return str(task.destination)

        named = format_of(remover.settings, task.destination)
        return remove_one(remover, str(task.source), task.source, named, write, allow_empty=allow_empty)

    with ThreadPoolExecutor(_AT_A_TIME, "photo") as pool:
        yield from run_in_order(pool, (partial(remove_file, task) for task in tasks), _AT_A_TIME - 1)


def remove_one(
    remover: BackgroundRemover,
    name: str,
    photo: Path | bytes,
    format_name: str,
    write: Callable[[bytes], str],
    *,
    allow_empty: bool,
) -> Row:
    """Remove one background and say in a row how it went.

    Args:
        remover: The loaded remover.
        name: What the photo is called in the row.
        photo: Its path or its bytes.
        format_name: Format of the result.
        write: Takes the encoded result and returns where it went.
        allow_empty: Write a transparent picture where there is no subject.
    """
    from cutray.hints_file import hints_beside

    row: Row = {"source": name, "output": None, "status": "failed"}
    try:
        options: PhotoOptions = {} if isinstance(photo, bytes) else hints_beside(photo)
        options["format"] = cast("FormatName", format_name)
        removal = remover.remove_background(photo, **options)
        row |= asdict(removal.report)
        if not removal.report.subject_found and not allow_empty:
            return row | {"status": "no_subject", "reason": _no_subject(removal.report.confidence)}
        return row | {"output": write(removal.data), "status": "ok"}
    except BrokenPipeError:  # whoever read the results has gone: this ends the run
        raise
    except OSError as error:  # a full disk or a vanished folder concerns this photo; the next one may do
        return row | {"code": "io", "reason": f"{error}"}
    except CutrayError as error:
        return row | {"code": error.code, "reason": str(error)}


def format_of(settings: RemoverSettings, destination: Path) -> str:
    """Format of an output file: what was asked for, else what its name says."""
    from cutray.imaging.encode import format_of_output

    return settings.format if settings.format != "auto" else format_of_output(destination).lower()


def count_unfinished(rows: Iterable[Row]) -> int:
    """Count the rows of photos that failed or have no subject."""
    return sum(row["status"] != "ok" for row in rows)


def run_with_bar(rows: Iterator[Row], total: int, *, shown: bool) -> list[Row]:
    """Collect rows while a bar shows how far the work is.

    Args:
        rows: From ``remove_files``.
        total: Their number.
        shown: Whether a bar is wanted; it needs a terminal, too.
    """
    from cutray.console.progress import photo_progress

    done: list[Row] = []
    with photo_progress(total, shown=shown and sys.stderr.isatty()) as advance:
        for row in rows:
            done.append(row)
            advance(count_unfinished(done))
    return done


def _no_subject(confidence: float) -> str:
    """Say that the scene looks empty."""
    return f"no subject found (confidence {confidence:.2f}); --allow-empty writes the empty cutout"
