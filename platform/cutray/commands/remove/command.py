"""The ``remove`` verb: its options, and which way the photos take."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutray.commands.remove.outputs import RemovalTask, assign_outputs
from cutray.config import (
    EngineSettings,
    InputLimits,
    MattingSettings,
    OutputSettings,
    RemoverSettings,
    parse_settings,
)
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.errors import CutrayError, InputError, OptionError, OutputExistsError

if TYPE_CHECKING:
    from cutray.remover import BackgroundRemover, Removal


@click.command(cls=GroupedCommand, epilog="Exit code: 0 all done, 1 some failed or have no subject, 2 wrong usage.")
@click.argument("sources", nargs=-1, required=True, metavar="PHOTO|FOLDER|-...")
@click.option("-o", "--output", type=click.Path(), help="File, or folder for several photos; - for standard output.")
@settings_options(OutputSettings, MattingSettings, EngineSettings, InputLimits)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace results that exist. Without it they are left alone and counted as failed.",
)
@click.option("--skip-existing", is_flag=True, help="Pass over photos whose result exists.")
@click.option("--allow-empty", is_flag=True, help="Write a fully transparent picture where no subject is found.")
@click.option("--explain", type=click.Path(path_type=Path), help="Draw the edge cases of one photo into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print a report as JSON on standard output.")
def remove(
    sources: tuple[str, ...],
    output: str | None,
    overwrite: bool,
    skip_existing: bool,
    allow_empty: bool,
    explain: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Cut the subject out of photos.

    \b
    cutray remove photo.jpg                                 photo-cutout.png
    cutray remove photo.jpg -o out.webp --background white  on white
    cutray remove photo.jpg -o out.jpg --background beach.jpg
    cutray remove photo.jpg --crop --crop-margin 5%         cropped to the subject
    cutray remove photo.jpg -om                             the mask alone
    cutray remove photo.jpg --quality best                  finest edges; fast and balanced cost less
    cutray remove photos/ -o cutouts/                       a folder, its tree mirrored
    cutray remove photo.jpg --explain why.png               and which hard edges it has, and why
    cat photo.jpg | cutray remove - > cutout.png            a pipe
    """
    settings = parse_settings(RemoverSettings, given(options))
    if explain is not None and ("-" in [*sources, output] or len(sources) != 1 or Path(sources[0]).is_dir()):
        raise OptionError(got="--explain for a pipe or several photos", allowed="one photo that is a file")
    if "-" in sources:
        return _pipe(sources, output, settings, overwrite, allow_empty)
    if output == "-":
        return _to_stdout(sources, settings, allow_empty)
    tasks = assign_outputs(
        [Path(source) for source in sources], output, _suffix(settings), "-mask" if settings.only_mask else "-cutout"
    )
    if not tasks:
        raise InputError(got=f"no photos in {', '.join(sources)}", allowed="folders with photos", fix="check the path")
    if skip_existing:
        tasks = [task for task in tasks if not task.destination.exists()]
    rows = _run(tasks, settings, overwrite, allow_empty, explain, quiet=as_json) if tasks else []
    failed = sum(row["status"] != "ok" for row in rows)
    if as_json:
        click.echo(json.dumps({"images": rows, "ok": len(rows) - failed, "failed": failed}, indent=2))
    else:
        _summarise(rows)
    return 1 if failed else 0


def _run(
    tasks: list[RemovalTask],
    settings: RemoverSettings,
    overwrite: bool,
    allow_empty: bool,
    explain: Path | None,
    *,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Work through the tasks; a bad photo is a row with its reason and never ends the run."""
    from cutray.console.progress import photo_progress

    remover = _load(settings)
    rows: list[dict[str, Any]] = []
    with photo_progress(len(tasks), shown=len(tasks) > 1 and not quiet and sys.stderr.isatty()) as advance:
        for task in tasks:
            rows.append(_run_one(remover, task, overwrite, allow_empty))
            advance(sum(row["status"] != "ok" for row in rows))
    if explain is not None and "code" not in rows[0]:
        from cutray.commands.remove.explain import write_explanation

        write_explanation(remover, tasks[0].source, explain, overwrite=overwrite)
    return rows


def _run_one(remover: BackgroundRemover, task: RemovalTask, overwrite: bool, allow_empty: bool) -> dict[str, Any]:
    """Do one photo and say in a row how it went."""
    from cutray.imaging.files import write_atomically

    row: dict[str, Any] = {"source": str(task.source), "output": None, "status": "failed"}
    try:
        if task.destination.exists() and not overwrite:
            raise _exists(task.destination)
        removal = remover.remove_background(task.source, format=_format_of(remover.settings, task.destination))
        row |= asdict(removal.report)
        if not removal.report.subject_found and not allow_empty:
            return row | {"status": "no_subject", "reason": _no_subject(removal)}
        write_atomically(task.destination, removal.data, overwrite=overwrite)
        return row | {"status": "ok", "output": str(task.destination)}
    except OSError as error:  # a full disk or a vanished folder concerns this photo; the next one may do
        return row | {"code": "io", "reason": f"{error}"}
    except CutrayError as error:
        return row | {"code": error.code, "reason": str(error)}


def _pipe(
    sources: tuple[str, ...], output: str | None, settings: RemoverSettings, overwrite: bool, allow_empty: bool
) -> int:
    """Read one photo from standard input."""
    from cutray.imaging.files import write_atomically

    if len(sources) > 1:
        raise OptionError(
            got="- together with other photos", allowed="standard input alone", fix="give the photos on their own"
        )
    to_stdout = output is None or output == "-"
    data = sys.stdin.buffer.read(settings.max_bytes + 1)
    named = settings.format if output is None or to_stdout else _format_of(settings, Path(output))
    removal = _load(settings).remove_background(data, format=named)
    if not removal.report.subject_found and not allow_empty:
        click.echo(f"cutray: {_no_subject(removal)}", err=True)
        return 1
    if to_stdout:
        _emit(removal.data)
    elif output is not None:
        write_atomically(output, removal.data, overwrite=overwrite)
    return 0


def _to_stdout(sources: tuple[str, ...], settings: RemoverSettings, allow_empty: bool) -> int:
    """Send one photo's result to standard output."""
    if len(sources) != 1 or Path(sources[0]).is_dir():
        raise OptionError(got="several photos for standard output", allowed="one photo", fix="name a folder after -o")
    removal = _load(settings).remove_background(sources[0])
    if not removal.report.subject_found and not allow_empty:
        click.echo(f"cutray: {_no_subject(removal)}", err=True)
        return 1
    _emit(removal.data)
    return 0


def _emit(data: bytes) -> None:
    """Write bytes to standard output, unless that is a terminal, which they would garble."""
    if sys.stdout.isatty():
        raise OptionError(got="a picture for the terminal", allowed="a file or a pipe", fix="add -o FILE or > FILE")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _load(settings: RemoverSettings) -> BackgroundRemover:
    """Load the model, with a bar if it has to be downloaded."""
    from cutray.console.progress import download_progress
    from cutray.remover import BackgroundRemover

    with download_progress() as report:
        return BackgroundRemover.from_settings(settings, progress=report)


def _suffix(settings: RemoverSettings) -> str:
    """Ending of results that get a name of their own."""
    return {"auto": ".png", "jpeg": ".jpg"}.get(settings.format, f".{settings.format}")


def _format_of(settings: RemoverSettings, destination: Path) -> str:
    """Format of an output file: what was asked for, else what its name says."""
    from cutray.imaging.encode import parse_format

    return settings.format if settings.format != "auto" else parse_format(destination).lower()


def _exists(path: Path) -> OutputExistsError:
    """The error for a result that is there already."""
    return OutputExistsError(
        got=f"{str(path)!r} exists",
        allowed="a new file",
        fix="add --overwrite to replace it or --skip-existing to pass over it",
    )


def _no_subject(removal: Removal) -> str:
    """Say that the scene looks empty."""
    return f"no subject found (confidence {removal.report.confidence:.2f}); --allow-empty writes the empty cutout"


def _summarise(rows: list[dict[str, Any]]) -> None:
    """Tell a person what was written and what was not."""
    for row in rows:
        if row["status"] != "ok":
            click.echo(f"{row['source']}: {row['reason']}", err=True)
    done = [row for row in rows if row["status"] == "ok"]
    for row in done if len(rows) <= 10 else []:
        click.echo(row["output"])
    if len(rows) > 1:
        click.echo(f"{len(done)} done, {len(rows) - len(done)} not", err=True)
