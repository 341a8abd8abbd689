"""Photos in Parquet files: a column of bytes, or the structs of bytes and path that Hugging Face datasets write."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from cutray.config import InputLimits
from cutray.errors import InputError, OptionError
from cutray.imaging.limits import check_bytes
from pipelines.batch.names import safe_key
from pipelines.batch.photo import Photo
from pipelines.batch.storage_base import FileInfo, Storage

_IMAGE_COLUMNS = ("image", "img", "photo", "picture", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp")
_KEY_COLUMNS = ("path", "key", "__key__", "id", "name", "file_name", "filename", "source", "url")
_ROWS_AT_A_TIME = 8
_BUFFER_BYTES = 8 << 20
_ROWS_OF_PAGE, _COPIES_OF_PAGE = 1024, 3  # what pyarrow writes unless it is told otherwise, and holds while it reads


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files in a folder; a location is the file's name, a row group and a row in it.

    Attributes:
        storage: The folder.
        image_column: Column of the photos, or None to find it.
        key_column: Column of their names, or None to find it; rows without a name get their number.
    """

    storage: Storage
    image_column: str | None = None
    key_column: str | None = None

    @property
    def address(self) -> str:
        """The folder's address."""
        return self.storage.address

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without what is open."""
        return type(self), (self.storage, self.image_column, self.key_column)

    def holds_photos(self, name: str) -> bool:
        """Whether a file has a column of bytes, rather than one of paths.

        Raises:
            InputError: It cannot be read.
        """
        with self.storage.open(name) as file:
            return self.image_column is not None or any(map(_bytes_leaf, _opened(file, name).schema_arrow))

    def photos(self, file: FileInfo) -> Iterator[Photo]:
        """Yield the photos of a file; only their names are read.

        Raises:
            OptionError: It has no such columns.
            InputError: It cannot be read.
        """
        with self.storage.open(file.name) as opened:
            parquet = _opened(opened, file.name)
            image = self._image_leaf(parquet.schema_arrow, file.name)
            keys = self._key_leaf(parquet.schema_arrow, image, file.name)
            number = 0
            for group in range(parquet.num_row_groups):
                for row, key in enumerate(_keys(parquet, group, keys, file.name)):
                    name = safe_key(str(key)) if key is not None else ""
                    yield Photo(
                        f"{file.name}/{name or f'{number:08d}'}",
                        f"{file.name}#{group}:{row}",
                        -1,
                        file.modified_ns,
                        file.name,
                    )
                    number += 1

    def read(self, name: str, limits: InputLimits) -> bytes:
        """Read the photo of one row; rows that are asked for in their order are read once.

        Raises:
            InputError: It cannot be read, holds nothing, or has too many bytes.
        """
        file_name, _, spot = name.rpartition("#")
        if not spot:
            for _ in self.photos(FileInfo(file_name, -1, -1)):
                pass
            raise InputError(got=f"{file_name!r} was damaged when it was listed", fix="run the job again")
        group, row = map(int, spot.split(":"))
        try:
            value = self._window.value(self, (file_name, group), row)
        except (pa.ArrowException, OSError, StopIteration) as error:
            raise InputError(got=f"{file_name!r} cannot be read: {error}", fix="restore the file") from error
        if value is None:
            raise InputError(got="the row holds no photo", allowed="encoded bytes", fix="fill it in")
        check_bytes(len(value), limits)
        return bytes(value)

    def held_bytes(self, name: str) -> int:
        """Estimate what reading a file takes beside the photos: its pages are read whole, and held about thrice.

        Raises:
            InputError: It cannot be read.
        """
        with self.storage.open(name) as file:
            parquet = _opened(file, name)
            leaf = self._image_leaf(parquet.schema_arrow, name)
            groups = [parquet.metadata.row_group(index) for index in range(parquet.num_row_groups)]
            columns = [
                (group.num_rows, group.column(index))
                for group in groups
                for index in range(group.num_columns)
                if group.column(index).path_in_schema == leaf
            ]
            pages = (min(_ROWS_OF_PAGE / max(rows, 1), 1) * column.total_uncompressed_size for rows, column in columns)
            return int(_COPIES_OF_PAGE * max(pages, default=0))

    def batches(self, name: str, group: int) -> Generator[pa.Array, None, None]:
        """Yield the photos of a row group, a few rows at a time."""
        with self.storage.open(name) as file:
            parquet = _opened(file, name)
            leaf = self._image_leaf(parquet.schema_arrow, name)
            for batch in parquet.iter_batches(_ROWS_AT_A_TIME, row_groups=[group], columns=[leaf]):
                column = batch.column(0)
                yield column.field(0) if pt.is_struct(column.type) else column

    @cached_property
    def _window(self) -> _Window:
        return _Window()

    def _image_leaf(self, schema: pa.Schema, name: str) -> str:
        """Find the photos' column."""
        leaves = {column.name: leaf for column in schema if (leaf := _bytes_leaf(column))}
        if self.image_column is not None:
            found = leaves.get(self.image_column.removesuffix(".bytes")) or leaves.get(self.image_column)
        else:
            found = next((leaves[known] for known in _IMAGE_COLUMNS if known in leaves), None)
            found = next(iter(leaves.values())) if found is None and len(leaves) == 1 else found
        if found is None:
            raise OptionError(
                got=f"{name!r} has {', '.join(leaves) or 'no'} columns of bytes"
                + (f", not {self.image_column!r}" if self.image_column else ""),
                allowed=f"columns are {', '.join(schema.names)}",
                fix="name the photos' column with --image-column",
            )
        return found

    def _key_leaf(self, schema: pa.Schema, image: str, name: str) -> str | None:
        """Find the names' column; the path beside the bytes is the last choice."""
        if self.key_column is not None and self.key_column not in schema.names:
            raise OptionError(
                got=f"{name!r} has no column {self.key_column!r}",
                allowed=f"columns are {', '.join(schema.names)}",
                fix="name another one with --key-column",
            )
        usable = [column.name for column in schema if pt.is_integer(column.type) or _is_text(column.type)]
        found = self.key_column or next((known for known in _KEY_COLUMNS if known in usable), None)
        if found is None and "." in image and "path" in {part.name for part in schema.field(image.split(".")[0]).type}:
            return f"{image.split('.')[0]}.path"
        return found


@dataclass(slots=True)
class _Window:
    """The rows last read of one row group. Threads ask for neighbours, nearly in order."""

    _turn: Lock = field(default_factory=Lock)
    _place: tuple[str, int] | None = None
    _next: int = 0
    _rows: deque[tuple[int, pa.Array]] = field(default_factory=lambda: deque(maxlen=3))
    _stream: Generator[pa.Array, None, None] | None = None

    def value(self, photos: ParquetSource, place: tuple[str, int], row: int) -> bytes | None:
        """Return one row, reading on to it, or from the beginning again when it has passed."""
        with self._turn:
            if place != self._place or self._stream is None or (self._rows and row < self._rows[0][0]):
                if self._stream is not None:
                    self._stream.close()
                self._rows.clear()
                self._place, self._next, self._stream = place, 0, photos.batches(*place)
            while row >= self._next:
                try:
                    batch = next(self._stream)
                except BaseException:
                    self._stream = None  # it has ended; the next row tries again
                    raise
                self._rows.append((self._next, batch))
                self._next += len(batch)
            start, batch = next(entry for entry in reversed(self._rows) if entry[0] <= row)
            found: bytes | None = batch[row - start].as_py()
            return found


def _opened(file: Any, name: str) -> pq.ParquetFile:
    """Open a Parquet file for reading in small pieces, past Python's buffers, which would hold each page once more."""
    try:
        native = file.raw if isinstance(file.raw, pa.NativeFile) else pa.OSFile(file.name)
        return pq.ParquetFile(native, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            got=f"{name!r} cannot be read: {error}", allowed="whole Parquet files", fix="restore the file"
        ) from error


def _keys(parquet: pq.ParquetFile, group: int, leaf: str | None, name: str) -> list[Any]:
    """Read the names of a row group."""
    if leaf is None:
        return [None] * parquet.metadata.row_group(group).num_rows
    try:
        column = parquet.read_row_group(group, columns=[leaf]).column(0).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise InputError(got=f"{name!r} cannot be read: {error}", fix="restore the file") from error
    values: list[Any] = (column.field(0) if pt.is_struct(column.type) else column).to_pylist()
    return values


def _bytes_leaf(column: pa.Field) -> str | None:
    """Path of the bytes in a column: itself, or the part ``bytes`` of a struct."""
    if _is_bytes(column.type):
        return str(column.name)
    if pt.is_struct(column.type) and any(part.name == "bytes" and _is_bytes(part.type) for part in column.type):
        return f"{column.name}.bytes"
    return None


def _is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes."""
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind))


def _is_text(kind: pa.DataType) -> bool:
    """Whether values are text."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))
