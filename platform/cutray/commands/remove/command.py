"""The ``remove`` verb: its options, what is checked before any work, and which way the photos take."""

from __future__ import annotations

import os
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import click

from cutray.commands.remove import photos, summary
from cutray.commands.remove.checks import RemoveOptions, check_options, check_settings
from cutray.commands.remove.outputs import Naming, assign_outputs
from cutray.commands.remove.photos import Existing, Row
from cutray.commands.remove.pipe import STDIN, STDOUT, print_piped, remove_piped
from cutray.commands.remove.watch import FolderWatch, stop_on_signal, watch_folder
from cutray.config import (
    CanvasSettings,
    EngineSettings,
    HintSettings,
    InputLimits,
    MattingSettings,
    OutputSettings,
    ReadingSettings,
    RemoverSettings,
    parse_settings,
)
from cutray.console.options import GroupedCommand, given, settings_options
from cutray.errors import InputError


@click.command(cls=GroupedCommand, epilog="Exit code: 0 all done, 1 some failed or have no subject, 2 wrong usage.")
@click.argument("sources", nargs=-1, required=True, metavar="PHOTO|FOLDER|-...")
@click.option("-o", "--output", type=click.Path(), help="File, or folder for several photos; - for standard output.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist. Without it they are left alone.")
@click.option("--skip-existing", is_flag=True, help="Pass over photos whose output exists, whatever made it.")
@click.option("--include-results", is_flag=True, help="Take pictures that Cutray made as photos, too.")
@click.option("--allow-empty", is_flag=True, help="Write a fully transparent picture where no subject is found.")
@click.option("--watch", is_flag=True, help="Go on with new photos of the folder as they come, until Ctrl+C.")
@click.option("--explain", type=click.Path(path_type=Path), help="Draw the edge cases of one photo into this file.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a row per photo into this file (.csv or .json).")
@click.option("--json", "as_json", is_flag=True, help="Print a report as JSON on standard output.")
@settings_options(
    OutputSettings, CanvasSettings, HintSettings, MattingSettings, EngineSettings, ReadingSettings, InputLimits
)
def remove(sources: tuple[str, ...], **options: Any) -> int:
    """Cut the subject out of photos.

    Several photos: what an earlier run has done is left as it is, and pictures that Cutray made are not taken as
    photos, so that the same command again does only what is new.

    \b
    cutray remove photo.jpg                                 photo-cutout.png
    cutray remove photo.jpg -o out.webp --background white  on white
    cutray remove photo.jpg -o out.jpg --background beach.jpg
    cutray remove photo.jpg --crop --crop-margin 5%         cropped to the subject
    cutray remove photo.jpg -om                             the mask alone
    cutray remove photo.jpg --quality best                  finest edges; fast and balanced cost less
    cutray remove photos/ -o cutouts/                       a folder, its tree mirrored
    cutray remove photos/ -o cutouts/ --report report.csv   and a table of what became of each photo
    cutray remove photos/ -o cutouts/ --watch               new photos, too, as they come
    cutray remove photo.jpg --explain why.png               and which hard edges it has, and why
    cat photo.jpg | cutray remove - > cutout.png            a pipe
    cat *.jpg | cutray remove - -o cutouts/                 several photos in a pipe
    """
    chosen = RemoveOptions(**{name: options.pop(name) for name in RemoveOptions.__dataclass_fields__})
    settings = parse_settings(RemoverSettings, given(options))
    check_options(sources, chosen)
    if sources[0] in STDIN or chosen.output in STDOUT:
        return _remove_piped(sources, chosen, settings)
    naming = Naming(_suffix(settings), "-mask" if settings.only_mask else "-cutout", chosen.include_results)
    if chosen.watch:
        return _watch(Path(sources[0]), chosen, settings, naming)
    assignment = assign_outputs([Path(source) for source in sources], chosen.output, naming)
    if not assignment.tasks and not assignment.results:
        raise InputError(got=f"no photos in {', '.join(sources)}", allowed="folders with photos", fix="check the path")
    check_settings(settings, [task.destination for task in assignment.tasks])
    several = len(sources) > 1 or os.path.isdir(sources[0])
    existing = photos.sort_by_existing(
        assignment.tasks, overwrite=chosen.overwrite, skip_existing=chosen.skip_existing, several=several
    )
    if existing.blocked and not existing.todo and not existing.done:
        raise photos.output_exists(existing.blocked)
    rows = _run(existing, chosen, settings)
    return _finish(rows, chosen, len(existing.done), results=len(assignment.results), totals=several)


def _run(existing: Existing, chosen: RemoveOptions, settings: RemoverSettings) -> list[Row]:
    """Do what is to do; nothing is loaded if that is nothing."""
    blocked = photos.blocked_rows(existing.blocked)
    if not existing.todo:
        return blocked
    total = len(existing.todo)
    remover = photos.load_remover(settings, total)
    work = photos.remove_files(remover, existing.todo, allow_empty=chosen.allow_empty, overwrite=chosen.overwrite)
    rows = photos.run_with_bar(work, total, shown=total > 1 and not chosen.as_json)
    if chosen.explain is not None and "code" not in rows[0]:
        from cutray.commands.remove.explain import write_explanation

        write_explanation(remover, existing.todo[0].source, chosen.explain, overwrite=chosen.overwrite)
    return rows + blocked


def _watch(source: Path, chosen: RemoveOptions, settings: RemoverSettings, naming: Naming) -> int:
    """Do photos as they come."""
    check_settings(settings, [Path(chosen.output or ".") / f"x{naming.suffix}"])
    watch = FolderWatch(source, chosen.output, naming, chosen.overwrite, chosen.skip_existing)
    remover = photos.load_remover(settings)
    rows: list[Row] = []
    done_before = 0

    with stop_on_signal() as stop:

        def handle(found: Existing) -> None:
            nonlocal done_before
            done_before += len(found.done)
            todo = takewhile(lambda _: not stop.is_set(), found.todo)
            work = photos.remove_files(remover, todo, allow_empty=chosen.allow_empty, overwrite=chosen.overwrite)
            for row in chain(photos.blocked_rows(found.blocked), work):
                rows.append(row)
                if not chosen.as_json:
                    summary.print_row(row)

        click.echo(f"watching {source}; Ctrl+C ends", err=True)
        watch_folder(watch, handle, stop)
    return _finish(rows, chosen, done_before, told=True)


def _remove_piped(sources: tuple[str, ...], chosen: RemoveOptions, settings: RemoverSettings) -> int:
    """Do what comes from a pipe or goes to one."""
    to_file = None if chosen.output is None or chosen.output in STDOUT else Path(chosen.output)
    is_folder = to_file is not None and (os.path.isdir(to_file) or str(chosen.output).endswith("/"))
    check_settings(settings, [Path(f"x{_suffix(settings)}") if to_file is None or is_folder else to_file])
    rows = remove_piped(
        sources,
        chosen.output,
        settings,
        _suffix(settings),
        overwrite=chosen.overwrite,
        allow_empty=chosen.allow_empty,
    )
    if chosen.report is not None:
        summary.write_report(chosen.report, rows, 0, overwrite=chosen.overwrite)
    if chosen.as_json:
        click.echo(summary.json_report(rows, 0))
    else:
        print_piped(rows)
    return 1 if photos.count_unfinished(rows) else 0


def _finish(
    rows: list[Row], chosen: RemoveOptions, skipped: int, *, results: int = 0, told: bool = False, totals: bool = True
) -> int:
    """Write and print what became of the photos; return the exit code."""
    if chosen.report is not None:
        summary.write_report(chosen.report, rows, skipped, overwrite=chosen.overwrite)
    if chosen.as_json:
        click.echo(summary.json_report(rows, skipped))
    else:
        if not told:
            for row in rows:
                summary.print_row(row, output=len(rows) <= summary.MOST_LISTED)
        if totals:
            summary.print_totals(rows, skipped=skipped, results=results)
    return 1 if photos.count_unfinished(rows) else 0


def _suffix(settings: RemoverSettings) -> str:
    """Ending of results that get a name of their own."""
    return {"auto": ".png", "jpeg": ".jpg"}.get(settings.format, f".{settings.format}")
