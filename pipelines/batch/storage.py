"""Folders, on this machine or behind any file system that pyarrow knows (S3, GCS, HDFS), with one set of methods."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from cutray.config import InputLimits
from cutray.errors import InputError, OutputError
from cutray.imaging.files import create_atomically, read_bytes, write_atomically
from pipelines.batch.names import decode_name, encode_name
from pipelines.batch.remote_storage import RemoteStorage
from pipelines.batch.storage_base import FileInfo, Storage

_UNFINISHED = (".cutray-", ".part")


@dataclass(frozen=True)
class LocalStorage:
    """A folder on this machine or on a disk that all machines share; names are those of ``encode_name``."""

    root: str

    @property
    def address(self) -> str:
        """The absolute path."""
        return os.path.abspath(self.root)

    def walk(self) -> Iterator[FileInfo]:
        """Yield every visible file; links to folders are not followed."""
        for folder, folders, names in os.walk(self.address):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), self.address).replace(os.sep, "/")
                if not name.startswith(".") and (found := self.find(encode_name(path))):
                    yield found

    def find(self, name: str) -> FileInfo | None:
        """Look one regular file up."""
        try:
            status = os.stat(self.path(name))
        except OSError:
            return None
        return FileInfo(name, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None

    def read(self, name: str, limits: InputLimits) -> bytes:
        """Read a regular file; an absolute name stands for itself."""
        return read_bytes(self.path(name), limits)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a regular file."""
        if self.find(name) is None:  # a pipe would be waited for
            raise InputError(f"{name!r} is not a regular file", "a file", "check the path")
        try:
            with open(self.path(name), "rb") as file:
                yield file
        except PermissionError as error:
            raise InputError(f"cannot read {name!r}: {error.strerror}", "a file", "check its rights") from error

    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        """Write to a temporary file, flush it to disk, and give it its name."""
        write_atomically(self._path_inside(name), data, overwrite=overwrite)

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Fill a temporary file, flush it to disk, and give it its name."""
        return create_atomically(self._path_inside(name), overwrite=True)

    def delete(self, name: str) -> None:
        """Remove a file."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path_inside(name))

    def sweep(self) -> int:
        """Remove temporary files of processes that were killed."""
        swept = 0
        for folder, _, names in os.walk(self.address):
            for name in names:
                if name.startswith(_UNFINISHED[0]) and name.endswith(_UNFINISHED[1]):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(folder, name))
                    swept += 1
        return swept

    def path(self, name: str) -> str:
        """Return the path of a file; an absolute name stands for itself."""
        return os.path.join(self.address, decode_name(name))

    def _path_inside(self, name: str) -> str:
        """Return the path of a file that is to be changed, or raise OutputError where it is not in the folder."""
        path = self.path(name)
        if not os.path.normpath(path).startswith(os.path.join(self.address, "")):
            raise OutputError(
                got=f"the name {name!r} leads out of {self.address!r}",
                allowed="names below the folder",
                fix="rename the photo, or name it otherwise in its list",
            )
        return path


def absolute_address(address: str) -> str:
    """Return an address that means the same in every folder: that of a local path is absolute."""
    return address if "://" in address else os.path.abspath(address)


@lru_cache(maxsize=64)
def open_storage(address: str) -> Storage:
    """Return the folder at a path or URI; nothing is opened before it is used."""
    return RemoteStorage(address) if "://" in address else LocalStorage(absolute_address(address))
