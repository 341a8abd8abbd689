"""Folders, on this machine or behind any file system that pyarrow knows (S3, GCS, HDFS), with one set of methods."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from cutray.config import InputLimits
from cutray.imaging.files import read_bytes, write_atomically

_UNFINISHED = (".cutray-", ".part")


@dataclass(frozen=True, slots=True)
class Found:
    """A file in a folder: its path below the folder with forward slashes, size, and time of its last change."""

    name: str
    size_bytes: int
    modified_ns: int


class Storage(Protocol):
    """A folder. Objects pickle, so that they can travel to other machines."""

    @property
    def address(self) -> str:
        """Where it is, without credentials."""

    def walk(self) -> Iterator[Found]:
        """Yield every file to the bottom, in order of their names; hidden ones are left out."""

    def read(self, name: str, limits: InputLimits) -> bytes:
        """Read a file, or raise InputError."""

    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        """Write a file whole or not at all, or raise OutputError."""

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
                path = os.path.join(folder, name)
                if name.startswith(".") or not os.path.isfile(path):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(path)
                    relative = os.path.relpath(path, self.address).replace(os.sep, "/")
                    yield Found(relative, status.st_size, status.st_mtime_ns)

    def read(self, name: str, limits: InputLimits) -> bytes:
        """Read a regular file; an absolute name stands for itself."""
        return read_bytes(os.path.join(self.address, name), limits)

    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        """Write to a temporary file, flush it to disk, and give it its name."""
        write_atomically(os.path.join(self.address, name), data, overwrite=overwrite)

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
