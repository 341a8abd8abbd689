"""What a run of ``cutray remove`` says at its end, to people and to programs."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from cutray.commands.remove.photos import Row, count_unfinished
from cutray.console.text import printable
from cutray.errors import OptionError

# Results below this confidence are listed for a look, the least sure ones first.
_DOUBTFUL_CONFIDENCE = 0.7
MOST_LISTED = 10
_COLUMNS = (
    "source",
    "output",
    "status",
    "confidence",
    "area_fraction",
    "width_px",
    "height_px",
    "code",
    "reason",
    "notes",
)


def print_row(row: Row, *, output: bool = True) -> None:
    """Say what became of a photo: its result on standard output, notes and reasons on standard error.

    Args:
        row: From ``remove_files``.
        output: Whether the result's name is printed.
    """
    name = printable(row["source"])
    for note in row.get("notes", ()):
        click.echo(f"{name}: note: {note}", err=True)
    if row["status"] != "ok":
        click.echo(f"{name}: {printable(row['reason'])}", err=True)
    elif output:
        click.echo(printable(row["output"]))


def print_totals(rows: Sequence[Row], *, skipped: int = 0, results: int = 0) -> None:
    """Tell a person how many photos were done, what was passed over, and what to look at.

    Args:
        rows: One for each photo.
        skipped: Photos that were passed over because their result is there.
        results: Pictures that were passed over because Cutray made them.
    """
    written = [row for row in rows if row["status"] == "ok"]
    click.echo(_counts(rows, written, skipped, results), err=True)
    doubtful = sorted((row["confidence"], row["source"]) for row in written if row["confidence"] < _DOUBTFUL_CONFIDENCE)
    if doubtful:
        shown = ", ".join(f"{printable(name)} ({confidence:.2f})" for confidence, name in doubtful[:MOST_LISTED])
        more = f" and {len(doubtful) - MOST_LISTED} more" if len(doubtful) > MOST_LISTED else ""
        click.echo(f"least sure, worth a look (confidence): {shown}{more}", err=True)


def _counts(rows: Sequence[Row], written: Sequence[Row], skipped: int, results: int) -> str:
    """Say in a line how many photos were done, where they are, and what was passed over."""
    parts = [f"{len(written)} done, {count_unfinished(rows)} not"] if rows else ["nothing new"]
    if written:
        parts.append(f"results in {printable(_common_folder([row['output'] for row in written]))}")
    if skipped:
        parts.append(f"{skipped} left as they are, because their results exist (--overwrite does them again)")
    if results:
        parts.append(f"{results} results of Cutray not taken as photos (--include-results takes them)")
    return "; ".join(parts)


def _common_folder(paths: Sequence[str]) -> str:
    """Name the folder that holds all files or all of their folders, or every folder where there is none."""
    folders = {os.path.dirname(path) for path in paths}
    if len({os.path.isabs(folder) for folder in folders}) > 1:
        folders = {os.path.abspath(folder) for folder in folders}
    try:
        return os.path.join(os.path.commonpath(folders) or os.curdir, "")
    except ValueError:  # on several drives of Windows
        return ", ".join(os.path.join(folder, "") for folder in sorted(folders))


def json_report(rows: Sequence[Row], skipped: int) -> str:
    """Return what happened as a JSON document.

    Args:
        rows: One for each photo.
        skipped: Photos that were passed over because their result is there.
    """
    failed = count_unfinished(rows)
    return json.dumps({"images": rows, "ok": len(rows) - failed, "failed": failed, "skipped": skipped}, indent=2)


def check_report_name(path: Path) -> None:
    """Check the ending of a report's file.

    Raises:
        OptionError: It is neither .json nor .csv.
    """
    if path.suffix.lower() not in (".json", ".csv"):
        raise OptionError(got=f"a report named {str(path)!r}", allowed="an ending of .json or .csv", fix="choose one")


def write_report(path: Path, rows: Sequence[Row], skipped: int, *, overwrite: bool) -> None:
    """Write one row for each photo into a file, as JSON or CSV by its ending.

    Args:
        path: The file.
        rows: One for each photo.
        skipped: Photos that were passed over because their result is there.
        overwrite: Replace the file if it exists.

    Raises:
        OutputError: The file cannot be written.
    """
    from cutray.imaging.files import write_atomically

    if path.suffix.lower() == ".json":
        text = json_report(rows, skipped) + "\n"
    else:
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "notes": "; ".join(row.get("notes", ()))} for row in rows)
        text = table.getvalue()
    write_atomically(path, text.encode(errors="backslashreplace"), overwrite=overwrite)
