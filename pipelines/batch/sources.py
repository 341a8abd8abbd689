"""Lists the photos that a batch is about: a folder, a pattern, or a list of paths in a file."""

from __future__ import annotations

import csv
import fnmatch
import io
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from cutray.commands.plan import PHOTO_SUFFIXES
from cutray.config import InputLimits
from cutray.errors import InputError
from pipelines.batch.storage import Found, LocalStorage, Storage, open_storage

LIST_ENDINGS = (".csv", ".jsonl", ".ndjson", ".parquet")
_COLUMNS = ("path", "source", "image", "file")
_LIST_LIMITS = InputLimits(max_bytes=1 << 32)


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo.

    Attributes:
        key: What the manifest calls it: its path below the source, with forward slashes.
        location: What the source's storage reads, or an address of its own.
        size_bytes: Size, or -1 where only a list of names is known.
        modified_ns: Time of the last change, or -1.
    """

    key: str
    location: str
    size_bytes: int = -1
    modified_ns: int = -1


@dataclass(frozen=True, slots=True)
class Listing:
    """The photos of a source and the storage that reads them."""

    storage: Storage
    photos: list[Photo]


def list_photos(source: str, exclude: Sequence[str] = ()) -> Listing:
    """List the photos of a source in a stable order.

    Args:
        source: A folder (path or URI), a pattern with ``*``, ``?`` or ``**`` below a folder, or a .csv, .jsonl or
            .parquet file with a column ``path`` whose entries are relative to that file, absolute, or URIs.
        exclude: Folders to leave out, because results are written there.

    Raises:
        InputError: There is no such source, it holds no photos, or two entries of a list have the same name.
    """
    if source.split("?")[0].lower().endswith(LIST_ENDINGS):
        return _from_list(source)
    root, pattern = _split_pattern(source)
    storage = open_storage(root)
    if isinstance(storage, LocalStorage) and not os.path.isdir(storage.address):
        raise InputError(
            got=f"{root!r} is not a folder",
            allowed=f"a folder, a pattern, or a list ({', '.join(LIST_ENDINGS)})",
            fix="check the path",
        )
    inside = tuple(f"{name}/" for folder in exclude if (name := _relative(folder, storage.address)))
    photos = [
        Photo(found.name, found.name, found.size_bytes, found.modified_ns)
        for found in _photos(storage.walk(), pattern)
        if not found.name.startswith(inside)
    ]
    if not photos:
        raise InputError(got=f"no photos in {source!r}", allowed="a source with photos", fix="check the path")
    return Listing(storage, photos)


def name_outputs(keys: Iterable[str], claimed: Mapping[str, str], suffix: str) -> dict[str, str]:
    """Give every photo a name for its result that no other has, the same one in every run.

    Names mirror the source's tree. Where two would be equal (a.jpg, a.png), both keep their old ending
    (a.jpg.png, a.png.png). Names that were given before stay.

    Args:
        keys: The photos.
        claimed: Photo and name of results from earlier runs.
        suffix: Ending of the results, with its dot.

    Returns:
        Key and name of each result.
    """
    fresh = sorted(key for key in keys if key not in claimed)
    plain = {key: posixpath.splitext(key)[0] + suffix for key in fresh}
    times = Counter(name.casefold() for name in plain.values())
    taken = {name.casefold() for name in claimed.values()} | {name for name, n in times.items() if n == 1}
    before = {name.casefold() for name in claimed.values()}
    names = dict(claimed)
    for key, name in plain.items():
        if times[name.casefold()] > 1 or name.casefold() in before:
            choices = (f"{key}{suffix}" if number == 1 else f"{key}-{number}{suffix}" for number in count(1))
            name = next(choice for choice in choices if choice.casefold() not in taken)
            taken.add(name.casefold())
        names[key] = name
    return names


def _split_pattern(source: str) -> tuple[str, str | None]:
    """Separate the fixed folder from the pattern below it."""
    address, mark, query = source.partition("?") if "://" in source else (source, "", "")
    parts = address.split("/")
    first = next((index for index, part in enumerate(parts) if any(sign in part for sign in "*?[")), None)
    if first is None or ("://" not in source and os.path.exists(source)):
        return source, None
    return ("/".join(parts[:first]) or ("/" if address.startswith("/") else ".")) + mark + query, "/".join(
        parts[first:]
    )


def _photos(found: Iterator[Found], pattern: str | None) -> Iterator[Found]:
    """Keep what looks like a photo by its ending; with a pattern, whatever matches it."""
    for file in found:
        if file.name.startswith("_cutray/"):
            continue
        if pattern is None and os.path.splitext(file.name)[1].lower() not in PHOTO_SUFFIXES:
            continue
        if pattern is None or _matches(file.name.split("/"), pattern.split("/")):
            yield file


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Compare part by part; ``**`` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _relative(folder: str, root: str) -> str | None:
    """Path of a folder below another one, or None when it is elsewhere."""
    folder = os.path.realpath(folder) if "://" not in folder else folder.rstrip("/")
    root = os.path.realpath(root) if "://" not in root else root.split("?")[0].rstrip("/")
    return folder[len(root) + 1 :] if folder.startswith(root + "/") else None


def _from_list(source: str) -> Listing:
    """Read the paths out of a file."""
    folder, _, name = source.rpartition("/")
    storage = open_storage(folder or ".")
    paths = [path for path in _paths(storage.read(name.split("?")[0], _LIST_LIMITS), name.lower()) if path]
    photos = [Photo(_key_of(path), path) for path in paths]
    twice = [key for key, times in Counter(photo.key for photo in photos).items() if times > 1]
    if twice or not photos:
        raise InputError(
            got=f"{source!r} names {twice[0]!r} twice" if twice else f"{source!r} names no photos",
            allowed=f"a column {_COLUMNS[0]!r} with one photo a line",
            fix="mend the list",
        )
    return Listing(storage, sorted(photos, key=lambda photo: photo.key))


def _paths(data: bytes, name: str) -> list[str]:
    """Read the column of paths."""
    try:
        if ".parquet" in name:
            import pyarrow.parquet as pq

            table = pq.read_table(io.BytesIO(data))
            return [str(value) for value in table.column(_column(table.column_names)).to_pylist() if value]
        text = data.decode("utf-8-sig")
        rows: list[dict[str, Any]]
        if ".csv" in name:
            rows = list(csv.DictReader(io.StringIO(text)))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        column = _column(list(rows[0]) if rows else [])
        return [str(row.get(column) or "") for row in rows]
    except (ValueError, AttributeError, OSError) as error:
        raise InputError(got=f"the list {name!r} cannot be read: {error}", fix="mend the list") from error


def _column(names: list[str]) -> str:
    """Find the column of paths."""
    for name in _COLUMNS:
        if name in names:
            return name
    raise InputError(
        got=f"a list with the columns {', '.join(map(str, names)) or '(none)'}",
        allowed=f"a column called {' or '.join(_COLUMNS)}",
        fix="rename the column",
    )


def _key_of(path: str) -> str:
    """Turn a path or URI into a path below the target that cannot leave it."""
    plain = path.split("?")[0].partition("://")[2] or path
    parts = [part for part in plain.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts)
