"""Decide which file each photo's result goes to, before any work is done."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cutray.errors import InputError, OptionError, OutputError
from cutray.imaging.photo_files import PHOTO_SUFFIXES


@dataclass(frozen=True, slots=True)
class RemovalTask:
    """One photo and the file that its result goes to."""

    source: Path
    destination: Path


def assign_outputs(sources: Sequence[Path], output: str | Path | None, suffix: str, ending: str) -> list[RemovalTask]:
    """Match every photo with an output that no other photo has.

    Args:
        sources: Photos and folders; folders are searched to the bottom.
        output: File for one photo, folder for several, or None for names next to the originals. A text that ends
            in a slash is a folder, which need not exist.
        suffix: Ending of the outputs, with its dot.
        ending: Added to the stem of a result that lies next to its photo, such as ``-cutout``.

    Returns:
        Tasks in a stable order.

    Raises:
        InputError: A source does not exist.
        OptionError: Several photos for one output file.
        OutputError: An output would overwrite one of the photos.
    """
    for source in sources:
        if not source.exists():
            raise InputError(got=f"{str(source)!r} does not exist", allowed="photos and folders", fix="check the path")
    into_folder = output is not None and (os.path.isdir(output) or str(output).endswith(("/", os.sep)))
    output = None if output is None else Path(output)
    if output is not None and len(sources) == 1 and not sources[0].is_dir() and not into_folder:
        return _check_collisions([RemovalTask(sources[0], output)])
    if output is not None and output.is_file():
        raise OptionError(
            got=f"several photos, and the file {str(output)!r} for their results",
            allowed="a folder",
            fix="name a folder after -o",
        )
    tasks: list[RemovalTask] = []
    for source in sources:
        if source.is_dir():
            root = output if output is not None else _beside(source, ending + "s")
            found = list(_photos_in(source, root))
            tasks += [RemovalTask(photo, root / photo.relative_to(source).with_suffix(suffix)) for photo in found]
        elif output is not None:
            tasks.append(RemovalTask(source, output / (source.stem + suffix)))
        else:
            tasks.append(RemovalTask(source, source.with_name(source.stem + ending + suffix)))
    return _check_collisions(_separate_names(tasks, suffix))


def _beside(folder: Path, ending: str) -> Path:
    """Name the folder next to another one; ``.`` and ``..`` have no name of their own to put an ending on."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(named.name + ending)


def _photos_in(folder: Path, output: Path) -> Iterator[Path]:
    """Find photos to the bottom of a folder, except in the output folder; links are not followed into loops."""
    here = output.resolve()
    for current, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if (Path(current) / name).resolve() != here and not name.startswith(".")
        )
        for name in sorted(files):
            path = Path(current) / name
            if path.suffix.lower() in PHOTO_SUFFIXES and not name.startswith(".") and path.is_file():
                yield path


def _separate_names(tasks: list[RemovalTask], suffix: str) -> list[RemovalTask]:
    """Drop photos that are named twice, and give results that would share a name (a.jpg, a.png) names of their own.

    They keep the old ending (a.jpg.png), and get a number where that is not enough (x/a.jpg and y/a.jpg).
    """
    first: dict[str, RemovalTask] = {}
    for task in tasks:
        first.setdefault(os.path.abspath(task.source), task)
    tasks = list(first.values())
    wanted = Counter(_key(task.destination) for task in tasks)
    taken = {name for name, times in wanted.items() if times == 1}
    result = []
    for task in tasks:
        destination = task.destination
        if wanted[_key(destination)] > 1:
            stem, number = destination.stem + task.source.suffix, 1
            destination = destination.with_name(stem + suffix)
            while _key(destination) in taken:
                number += 1
                destination = destination.with_name(f"{stem}-{number}{suffix}")
            taken.add(_key(destination))
        result.append(RemovalTask(task.source, destination))
    return result


def _key(path: Path) -> str:
    """Names that differ in case alone are one file on some systems."""
    return str(path).casefold()


def _check_collisions(tasks: list[RemovalTask]) -> list[RemovalTask]:
    """Refuse to overwrite a photo by its own or another's result, or two results in one file."""
    sources = {task.source.resolve() for task in tasks}
    for task in tasks:
        if task.destination.resolve() in sources:
            raise OutputError(
                got=f"the result {str(task.destination)!r} would overwrite a photo",
                allowed="another file",
                fix="choose another output",
            )
    twice = [name for name, count in Counter(_key(task.destination) for task in tasks).items() if count > 1]
    if twice:
        raise OutputError(
            got=f"two photos share the output {twice[0]!r}", allowed="one output for each", fix="give them one by one"
        )
    return tasks
