"""Photos from standard input, and results to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from cutray.commands.remove.outputs import RemovalTask
from cutray.commands.remove.photos import Row, format_of, load_remover, output_exists, remove_one, sort_by_existing
from cutray.config import RemoverSettings
from cutray.console.text import printable
from cutray.errors import InputError, OptionError

# What stands for standard input and output on a command line.
STDIN = frozenset({"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"})
STDOUT = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})


def remove_piped(
    sources: Sequence[str],
    output: str | None,
    settings: RemoverSettings,
    suffix: str,
    *,
    overwrite: bool,
    allow_empty: bool,
) -> list[Row]:
    """Do what comes from standard input or goes to standard output.

    Several pictures may follow each other in the input; their results follow each other in the output, or get
    numbers as names in a folder.

    Args:
        sources: Standard input alone, or one file for standard output.
        output: File, folder, or standard output, which is also the default for what comes from a pipe.
        settings: All settings.
        suffix: Ending of results that get a name of their own.
        overwrite: Replace a file that exists.
        allow_empty: Write a transparent picture where there is no subject.

    Returns:
        A row for each picture.

    Raises:
        OptionError: The combination is not possible, or several pictures are to go into one file.
        InputError: There is nothing in the pipe.
        OutputExistsError: The output exists.
    """
    to_stdout = output is None or output in STDOUT
    if to_stdout and sys.stdout.isatty():
        raise OptionError(got="a picture for the terminal", allowed="a file or a pipe", fix="add -o FILE or > FILE")
    if sources[0] not in STDIN:
        pictures: list[Path | bytes] = [Path(sources[0])]
    else:
        pictures = list(_read_pictures(settings))
    destinations = _destinations(len(pictures), None if to_stdout else output, suffix, overwrite=overwrite)
    remover = load_remover(settings, len(pictures))
    rows = []
    for index, (picture, destination) in enumerate(zip(pictures, destinations, strict=True), start=1):
        name = f"picture {index} of the pipe" if isinstance(picture, bytes) else str(picture)
        named = settings.format if destination is None else format_of(settings, destination)

        def write(data: bytes, path: Path | None = destination) -> str:
            return _write(path, data, overwrite=overwrite)

        rows.append(remove_one(remover, name, picture, named, write, allow_empty=allow_empty))
    return rows


def print_piped(rows: Sequence[Row]) -> None:
    """Say on standard error what went wrong and what is to be known; standard output may hold the pictures."""
    for row in rows:
        name = f"{printable(row['source'])}: " if len(rows) > 1 else ""
        for note in row.get("notes", ()):
            click.echo(f"cutray: {name}note: {note}", err=True)
        if row["status"] != "ok":
            click.echo(f"cutray: {name}{printable(row['reason'])}", err=True)


def _read_pictures(settings: RemoverSettings) -> list[bytes]:
    """Read standard input to its end, or to the first picture that is larger than any that is taken."""
    from cutray.imaging.picture_stream import HEAD_BYTES, split_pictures

    pictures: list[bytes] = []
    rest = b""  # the last picture so far, which may go on
    enough = settings.max_bytes + HEAD_BYTES  # the largest picture, and what tells that another one follows
    while len(rest) < enough:
        block = sys.stdin.buffer.read(enough - len(rest))
        if not block:
            break
        *whole, rest = split_pictures(rest + block)
        pictures += whole
    pictures += [rest] if rest else []
    if not pictures:
        raise InputError(got="nothing came through the pipe", allowed="a picture", fix="check the command before it")
    return pictures


def _destinations(count: int, output: str | None, suffix: str, *, overwrite: bool) -> list[Path | None]:
    """Give each picture a file, or None for standard output."""
    if output is None:
        return [None] * count
    if output.endswith("/") or os.path.isdir(output):
        files = [Path(output) / f"{index}{suffix}" for index in range(1, count + 1)]
    elif count > 1:
        raise OptionError(
            got=f"{count} pictures in the pipe, and one file for their results",
            allowed="a folder, or standard output, where they follow each other",
            fix=f"name a folder: -o {output}/",
        )
    else:
        files = [Path(output)]
    tasks = [RemovalTask(Path("-"), file) for file in files]
    existing = sort_by_existing(tasks, overwrite=overwrite, skip_existing=False, several=False)
    if existing.blocked:
        raise output_exists(existing.blocked)
    return list(files)


def _write(path: Path | None, data: bytes, *, overwrite: bool) -> str:
    """Write a result to its file or to standard output."""
    from cutray.imaging.files import write_atomically

    if path is not None:
        write_atomically(path, data, overwrite=overwrite)
        return str(path)
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return "-"
