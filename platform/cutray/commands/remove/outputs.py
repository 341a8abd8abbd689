"""Decide which file each photo's result goes to, before any work is done."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cutray.errors import InputError, OptionError, OutputError
from cutray.imaging.encode import FORMATS
from cutray.imaging.photo_files import PHOTO_SUFFIXES, find_photos
from cutray.imaging.provenance import is_result

_MAX_NAME_BYTES = 255  # of one part of a path, on all usual file systems


@dataclass(frozen=True, slots=True)
class RemovalTask:
    """One photo and the file that its result goes to."""

    source: Path
    destination: Path


@dataclass(frozen=True, slots=True)
class Naming:
    """How results are named, and what counts as a photo.

    Attributes:
        suffix: Ending of the results, with its dot.
        beside: Added to the stem of a result that lies next to its photo, such as ``-cutout``.
        include_results: Whether pictures that Cutray made are photos, too.
    """

    suffix: str = ".png"
    beside: str = "-cutout"
    include_results: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """What is to be done.

    Attributes:
        tasks: Photos and their results, in a stable order.
        results: Pictures among the sources that Cutray made and that are not taken for photos.
    """

    tasks: list[RemovalTask]
    results: list[Path]


def assign_outputs(
    sources: Sequence[Path],
    output: str | Path | None,
    naming: Naming,
    assigned: Mapping[Path, Path] | None = None,
) -> Assignment:
    """Match every photo with an output that no other photo has.

    Args:
        sources: Photos and folders; folders are searched to the bottom.
        output: File for one photo, folder for several, or None for names next to the originals. A text that ends
            in a slash is a folder, which need not exist.
        naming: How results are named.
        assigned: Photos that have an output already, which they keep.

    Returns:
        Tasks in a stable order. What Cutray itself made is left out, but for a file that is the only source.

    Raises:
        InputError: None of the sources exists.
        OptionError: Several photos for one output file.
        OutputError: An output would overwrite one of the photos.
    """
    if not any(os.path.exists(source) for source in sources):  # unlike pathlib, it takes a name of any length
        raise InputError(
            got=f"{', '.join(repr(str(source)) for source in sources)} does not exist",
            allowed="photos and folders",
            fix="check the path",
        )
    is_folder = output is not None and (os.path.isdir(output) or str(output).endswith(("/", os.sep)))
    if len(sources) == 1 and not os.path.isdir(sources[0]):
        return Assignment(_checked([RemovalTask(sources[0], _single(sources[0], output, naming, is_folder))]), [])
    root = None if output is None else Path(output)
    if (
        root is not None
        and not is_folder
        and (os.path.exists(root) or root.suffix.lower() in {*FORMATS, *PHOTO_SUFFIXES})
    ):
        raise OptionError(
            got=f"several photos, and the file {str(output)!r} for their results",
            allowed="a folder",
            fix="name a folder after -o, with a slash at its end if it is to have such a name",
        )
    wanted, results = _wanted_tasks(sources, root, naming)
    return Assignment(_checked(_separate_names(wanted, naming, assigned or {})), results)


def _single(source: Path, output: str | Path | None, naming: Naming, is_folder: bool) -> Path:
    """Name the result of a single photo."""
    if output is None:
        return _shortened(source.with_name(source.stem + naming.beside + naming.suffix))
    if is_folder:
        return _off_the_photos(Path(output) / (source.stem + naming.suffix), {_key(source.resolve())}, naming)
    return Path(output)


def _wanted_tasks(sources: Sequence[Path], root: Path | None, naming: Naming) -> tuple[list[RemovalTask], list[Path]]:
    """Give each photo the name that its result should have, which others may want as well; also list results."""
    tasks: dict[str, RemovalTask] = {}
    results: list[Path] = []

    def add(photo: Path, destination: Path) -> None:
        if not naming.include_results and is_result(photo):
            results.append(photo)
        else:
            tasks.setdefault(os.path.abspath(photo), RemovalTask(photo, destination))

    for source in sources:
        if os.path.isdir(source):
            below = root if root is not None else _beside(source, naming.beside + "s")
            for photo in find_photos(source, exclude=below):
                add(photo, below / photo.relative_to(source).with_suffix(naming.suffix))
        elif root is not None:
            add(source, root / (source.stem + naming.suffix))
        else:
            add(source, source.with_name(source.stem + naming.beside + naming.suffix))
    return list(tasks.values()), results


def _beside(folder: Path, ending: str) -> Path:
    """Name the folder next to another one; ``.`` and ``..`` have no name of their own to put an ending on."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(named.name + ending)


def _separate_names(wanted: Sequence[RemovalTask], naming: Naming, assigned: Mapping[Path, Path]) -> list[RemovalTask]:
    """Give results that would share a name (a.jpg, a.png), or replace a photo, names of their own.

    They keep the old ending (a.jpg.png), and get a number where that is not enough (x/a.jpg and y/a.jpg).
    """
    photos = {_key(task.source.resolve()) for task in wanted}
    tasks = [RemovalTask(task.source, _off_the_photos(task.destination, photos, naming)) for task in wanted]
    counts = Counter(_key(task.destination) for task in tasks if task.source not in assigned)
    kept = {_key(path) for path in assigned.values()}
    taken = kept | {name for name, times in counts.items() if times == 1}
    result = []
    for task in tasks:
        destination = assigned.get(task.source, task.destination)
        if task.source not in assigned and (counts[_key(destination)] > 1 or _key(destination) in kept):
            stem, number = task.destination.stem + task.source.suffix, 1
            destination = _off_the_photos(destination.with_name(stem + naming.suffix), photos, naming)
            while _key(destination) in taken:
                number += 1
                destination = _shortened(destination.with_name(f"{stem}-{number}{naming.suffix}"))
            taken.add(_key(destination))
        result.append(RemovalTask(task.source, destination))
    return result


def _off_the_photos(destination: Path, photos: set[str], naming: Naming) -> Path:
    """Add the ending of results that lie next to their photos where a name is that of a photo."""
    path = _shortened(destination)
    if _key(path.parent.resolve() / path.name) not in photos:
        return path
    return _shortened(path.with_name(path.stem + naming.beside + path.suffix))


def _shortened(path: Path) -> Path:
    """Shorten a name that file systems would refuse; a hash of all of it keeps it apart from others."""
    name = os.fsencode(path.name)
    if len(name) <= _MAX_NAME_BYTES:
        return path
    ending = f"~{hashlib.sha256(name).hexdigest()[:8]}{path.suffix}"
    start = os.fsencode(path.stem)[: _MAX_NAME_BYTES - len(os.fsencode(ending))]
    return path.with_name(start.decode(errors="ignore") + ending)


def _key(path: Path) -> str:
    """Names that differ in case or in the composition of accents alone are one file on some systems."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _checked(tasks: list[RemovalTask]) -> list[RemovalTask]:
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
