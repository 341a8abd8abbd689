"""Lists the photos that a batch is about: a folder, a pattern, or a list of paths in a file."""

from __future__ import annotations

import csv
import fnmatch
import io
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cutray.config import InputLimits
from cutray.errors import InputError, OptionError
from cutray.hints_file import SUFFIX as HINTS_SUFFIX
from cutray.hints_file import hints_name
from cutray.imaging.photo_files import PHOTO_SUFFIXES
from cutray.imaging.provenance import is_result
from pipelines.batch.names import decode_name, encode_name, forward_slashes, safe_key
from pipelines.batch.photo import Photo
from pipelines.batch.storage import LocalStorage, open_storage
from pipelines.batch.storage_base import FileInfo, Reader, Storage
from pipelines.batch.tar_source import TarSource

LIST_ENDINGS = (".csv", ".jsonl", ".ndjson", ".parquet")
_PACKED = (".parquet", ".tar")  # files that hold photos
_COLUMNS = ("path", "source", "image", "file")
_LIST_LIMITS = InputLimits(max_bytes=1 << 32)


class ContainerReader(Reader, Protocol):
    """Reads photos out of files that hold many."""

    def photos(self, file: FileInfo) -> Iterator[Photo]:
        """Yield the photos of one file, or raise InputError where it is damaged."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The photos of a source and what reads them.

    Attributes:
        reader: Reads them.
        photos: The photos, in a stable order.
        from_folder: Whether they were found in a folder, or by a pattern in the folder that results go to; what was
            named by another pattern or in a list is taken as it is.
        own_results: How many pictures that Cutray made from photos beside them were left out.
    """

    reader: Reader
    photos: list[Photo]
    from_folder: bool = False
    own_results: int = 0


def list_photos(
    source: str, exclude: Sequence[str] = (), *, image_column: str | None = None, key_column: str | None = None
) -> Listing:
    """List the photos of a source in a stable order.

    Args:
        source: A folder (path or URI) of photos, or else of .parquet or .tar files that hold photos; a pattern with
            ``*``, ``?`` or ``**`` below a folder; one such file; or a .csv, .jsonl or .parquet file with a column
            ``path`` whose entries are relative to that file, absolute, or URIs.
        exclude: Folders to leave out, because results are written there. Where a pattern's own folder is one of
            them, what Cutray has made there is left out.
        image_column: Column of the photos' bytes in Parquet files, or the ending of photos in tar files.
        key_column: Column of their names in Parquet files.

    Raises:
        InputError: There is no such source, it holds no photos, or two entries of a list have the same name.
        OptionError: Parquet files have no such columns.
    """
    source = forward_slashes(source)
    address, mark, query = source.partition("?") if "://" in source else (source, "", "")
    ending = posixpath.splitext(address)[1].lower()
    if ending in (*LIST_ENDINGS, ".tar"):
        folder, _, name = address.rpartition("/")
        storage = open_storage(_folder(folder, address) + mark + query)
        name = _stored_name(storage, name)
        if found := storage.find(name):
            if ending not in _PACKED or not (
                reader := _container_reader(ending, storage, image_column, key_column, name)
            ):
                return _from_list(storage, name)
            photos = [replace(photo, key=photo.name) for photo in _unpack(reader, [found])]
            return _listing(reader, photos, source)
    root, pattern = _split_pattern(source)
    storage = open_storage(root)
    if isinstance(storage, LocalStorage) and not os.path.isdir(storage.address):
        raise InputError(
            got=f"{root!r} is not a folder",
            allowed=f"a folder, a pattern, or a file ({', '.join((*LIST_ENDINGS, '.tar'))})",
            fix="check the path",
        )
    inside = tuple(
        f"{_stored_name(storage, below)}/" for folder in exclude if (below := _relative(folder, storage.address))
    )
    walked = list(storage.walk())
    files = [
        found
        for found in _chosen(iter(walked), pattern and _stored_name(storage, pattern))
        if not found.name.startswith(inside)
    ]
    kinds = {posixpath.splitext(found.name)[1].lower() for found in files}
    if len(kinds) == 1 and (kind := kinds.pop()) in _PACKED:
        reader = _container_reader(kind, storage, image_column, key_column)
        assert reader is not None  # without a name it is not asked what the file holds
        return _listing(reader, list(_unpack(reader, files)), source)
    hints = {found.name: found for found in walked if found.name.endswith(HINTS_SUFFIX)}
    photos = [
        _with_hints(Photo(_key(storage, found.name), found.name, found.size_bytes, found.modified_ns), hints)
        for found in files
        if pattern is not None or not found.name.lower().endswith(_PACKED)
    ]
    if pattern is not None and _real(root) not in map(_real, exclude):
        return _listing(storage, photos, source)
    kept = _without_results(storage, photos)
    return replace(_listing(storage, kept, source), from_folder=True, own_results=len(photos) - len(kept))


def _with_hints(photo: Photo, hints: Mapping[str, FileInfo]) -> Photo:
    """Attach the file with a photo's hints; when it changes, the photo counts as changed."""
    found = hints.get(hints_name(photo.location))
    if found is None:
        return photo
    # The size counts, too: a file with hints may be older than its photo.
    size_bytes = photo.size_bytes + found.size_bytes if photo.size_bytes >= 0 else photo.size_bytes
    modified_ns = max(photo.modified_ns, found.modified_ns)
    return replace(photo, hints=found.name, size_bytes=size_bytes, modified_ns=modified_ns)


def _without_results(storage: Storage, photos: list[Photo]) -> list[Photo]:
    """Leave out Cutray's results beside their photos, whose names those would take; others are known when read."""
    if not isinstance(storage, LocalStorage):
        return photos
    stems = Counter(posixpath.splitext(photo.key)[0] for photo in photos)

    def is_beside(photo: Photo) -> bool:
        stem = posixpath.splitext(photo.key)[0]
        return stems[stem] > 1 or stem in keys  # a.png beside a.jpg, or a.jpg.png

    keys = {photo.key for photo in photos}
    return [photo for photo in photos if not (is_beside(photo) and is_result(storage.path(photo.location)))]


def _listing(reader: Reader, photos: list[Photo], source: str) -> Listing:
    """Refuse what cannot become one result each."""
    twice = [key for key, times in Counter(photo.key for photo in photos).items() if times > 1]
    if twice or not photos:
        raise InputError(
            got=f"{source!r} names {twice[0]!r} twice" if twice else f"no photos in {source!r}",
            allowed="one or more photos, each with a name of its own",
            fix="mend the source, or name another column with --key-column" if twice else "check the path",
        )
    return Listing(reader, photos)


def read_photo(reader: Reader, location: str, limits: InputLimits) -> bytes:
    """Read a photo from the source, or from an address of its own.

    Raises:
        InputError: It cannot be read, or has too many bytes.
    """
    if "://" not in location:
        return reader.read(location, limits)
    folder, _, name = location.rpartition("/")
    return open_storage(folder).read(name, limits)


def open_shard(storage: Storage, name: str) -> tuple[Reader, dict[str, str]]:
    """Find the results in one shard.

    Returns:
        What reads them, and name and location of each, names without their ending in a tar; nothing where the shard
        has gone or is damaged.
    """
    reader = _container_reader(
        posixpath.splitext(name)[1], storage, "image" if name.endswith(".parquet") else None, "key"
    )
    assert reader is not None  # without a name it is not asked what the file holds
    file = storage.find(name)
    photos = _unpack(reader, [file] if file else [])
    if name.endswith(".tar"):
        return reader, {posixpath.splitext(decode_name(photo.name))[0]: photo.location for photo in photos}
    return reader, {decode_name(photo.name): photo.location for photo in photos}


def _stored_name(storage: Storage, name: str) -> str:
    """Write a file's own name as the storage calls it."""
    return encode_name(name) if isinstance(storage, LocalStorage) else name


def _key(storage: Storage, name: str) -> str:
    """Write the name that a storage uses as a key."""
    return name if isinstance(storage, LocalStorage) else encode_name(name)


def _split_pattern(source: str) -> tuple[str, str | None]:
    """Separate the fixed folder from the pattern below it."""
    address, mark, query = source.partition("?") if "://" in source else (source, "", "")
    parts = address.split("/")
    first = next((index for index, part in enumerate(parts) if any(sign in part for sign in "*?[")), None)
    if first is None or ("://" not in source and os.path.exists(source)):
        return source, None
    return _folder("/".join(parts[:first]), address) + mark + query, "/".join(parts[first:])


def _folder(beginning: str, address: str) -> str:
    """Write the beginning of an address as a folder: nothing is the root or the current one, a drive has its root."""
    if not beginning:
        return "/" if address.startswith("/") else "."
    return f"{beginning}/" if beginning.endswith(":") else beginning


def _chosen(found: Iterator[FileInfo], pattern: str | None) -> Iterator[FileInfo]:
    """Keep what looks like a photo, or like a file of photos, by its ending; with a pattern, whatever matches it."""
    for file in found:
        if file.name.startswith("_cutray/"):
            continue
        ending = posixpath.splitext(file.name)[1].lower()
        if (
            ending in PHOTO_SUFFIXES or ending in _PACKED
            if pattern is None
            else _matches(file.name.split("/"), pattern.split("/"))
        ):
            yield file


def _container_reader(
    ending: str, storage: Storage, image_column: str | None, key_column: str | None, name: str | None = None
) -> ContainerReader | None:
    """Return what reads photos out of files of this kind, or None where the file ``name`` holds paths instead."""
    if ending == ".tar":
        return TarSource(storage, image_column)
    from pipelines.batch.parquet_source import ParquetSource

    reader = ParquetSource(storage, image_column, key_column)
    return reader if name is None or reader.holds_photos(name) else None


def _unpack(reader: ContainerReader, files: Sequence[FileInfo]) -> Iterator[Photo]:
    """List what files hold; one that cannot be read becomes a photo that fails, so that no one misses it."""
    for file in files:
        try:
            yield from reader.photos(file)
        except OptionError:
            raise
        except InputError:
            yield Photo(f"{file.name}/(damaged)", f"{file.name}#", -1, file.modified_ns, file.name)


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Compare part by part; ``**`` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _relative(folder: str, root: str) -> str | None:
    """Path of a folder below another one, or None when it is elsewhere."""
    folder, above = _real(folder), _real(root).rstrip("/") + "/"
    return folder[len(above) :] if folder.startswith(above) else None


def _real(address: str) -> str:
    """Write the address of a folder as no other folder's: without links, and without the options of a URI."""
    if "://" in address:
        return address.partition("?")[0].rstrip("/")
    return forward_slashes(os.path.realpath(address))


def _from_list(storage: Storage, name: str) -> Listing:
    """Read the paths out of a file."""
    paths = [path for path in _paths(storage.read(name, _LIST_LIMITS), name.lower()) if path]
    photos = [Photo(safe_key(path), path if "://" in path else _stored_name(storage, path)) for path in paths]
    return _listing(storage, sorted(photos, key=lambda photo: photo.key), name)


def _paths(data: bytes, name: str) -> list[str]:
    """Read the column of paths."""
    try:
        if ".parquet" in name:
            import pyarrow.parquet as pq

            table = pq.read_table(io.BytesIO(data))
            return [str(value) for value in table.column(_column(table.column_names)).to_pylist() if value]
        text = data.decode("utf-8-sig", "surrogateescape")  # names need not be UTF-8
        rows: list[dict[str, Any]]
        if ".csv" in name:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        column = _column(list(rows[0]) if rows else [])
        return [str(row.get(column) or "") for row in rows]
    except (ValueError, TypeError, AttributeError, OSError, csv.Error) as error:
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
