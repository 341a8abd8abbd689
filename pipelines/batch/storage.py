"""Folders, on this machine or behind any file system that pyarrow knows (S3, GCS, HDFS), with one set of methods."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, Protocol

from cutray.config import InputLimits
from cutray.errors import InputError
from cutray.imaging.files import create_atomically, read_bytes, write_atomically

_UNFINISHED = (".cutray-", ".part")


@dataclass(frozen=True, slots=True)
class Found:
    """A file in a folder: its path below the folder with forward slashes, size, and time of its last change."""

    name: str
    size_bytes: int
    modified_ns: int


class Reader(Protocol):
    """Where photos are read from: a folder, or files that hold many photos. Objects pickle, so that they can travel."""

    @property
    def address(self) -> str:
        """Where it is, without credentials."""

    def read(self, name: str, limits: InputLimits) -> bytes:
        """Read a photo by its location, or raise InputError."""


class Storage(Reader, Protocol):
    """A folder."""

    def walk(self) -> Iterator[Found]:
        """Yield every file to the bottom, in order of their names; hidden ones are left out."""

    def find(self, name: str) -> Found | None:
        """Look one file up; None where there is no such file."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file to read parts of it, or raise InputError."""

    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        """Write a file whole or not at all, or raise OutputError."""

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file that replaces the one of that name when the block ends well, or raise OutputError."""

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone already is fine."""

    def sweep(self) -> int:
        """Remove what a killed process left unfinished, and return how many files that were."""


@dataclass(frozen=True)
class LocalStorage:
    """A folder on this machine or on a disk that all machines share."""

    root: str

    @property
    def address(self) -> str:
        """The absolute path."""
        return os.path.abspath(self.root)

    def walk(self) -> Iterator[Found]:
        """Yield every visible file; links to folders are not followed."""
        for folder, folders, names in os.walk(self.address):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), self.address).replace(os.sep, "/")
                if not name.startswith(".") and (found := self.find(path)):
                    yield found

    def find(self, name: str) -> Found | None:
        """Look one regular file up."""
        try:
            status = os.stat(os.path.join(self.address, name))
        except OSError:
            return None
        return Found(name, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None

    def read(self, name: str, limits: InputLimits) -> bytes:
        """Read a regular file; an absolute name stands for itself."""
        return read_bytes(os.path.join(self.address, name), limits)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a regular file."""
        if self.find(name) is None:  # a pipe would be waited for
            raise InputError(f"{name!r} is not a regular file", "a file", "check the path")
        try:
            with open(os.path.join(self.address, name), "rb") as file:
                yield file
        except PermissionError as error:
            raise InputError(f"cannot read {name!r}: {error.strerror}", "a file", "check its rights") from error

    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        """Write to a temporary file, flush it to disk, and give it its name."""
        write_atomically(os.path.join(self.address, name), data, overwrite=overwrite)

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Fill a temporary file, flush it to disk, and give it its name."""
        return create_atomically(os.path.join(self.address, name), overwrite=True)

    def delete(self, name: str) -> None:
        """Remove a file."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.address, name))

    def sweep(self) -> int:
        """Remove temporary files of processes that were killed."""
        swept = 0
        for folder, _, names in os.walk(self.address):
            for name in names:
                if name.startswith(_UNFINISHED[0]) and name.endswith(_UNFINISHED[1]):
                    self.delete(os.path.join(folder, name))
                    swept += 1
        return swept


@lru_cache(maxsize=64)
def open_storage(address: str) -> Storage:
    """Return the folder at a path or URI; nothing is opened before it is used."""
    if "://" not in address:
        return LocalStorage(address)
    from pipelines.batch.remote import RemoteStorage

    return RemoteStorage(address)
