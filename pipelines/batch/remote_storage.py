"""A folder behind a file system of pyarrow: S3, GCS, HDFS and others."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from cutray.config import InputLimits
from cutray.errors import InputError, OutputError, OutputExistsError
from cutray.imaging.limits import check_bytes
from pipelines.batch.storage_base import FileInfo

_ATTEMPTS = 3
_AHEAD_BYTES = 1 << 18  # one request for the small files of an archive instead of one for each
_PART_BYTES = 8 << 20
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class RemoteStorage:
    """A folder behind a file system of pyarrow. An object there appears when its upload is complete, so whole."""

    uri: str

    @property
    def address(self) -> str:
        """The URI without user and password."""
        parts = urlsplit(self.uri)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from pyarrow import fs

        try:
            filesystem, path = fs.FileSystem.from_uri(self.uri)
        except (OSError, ValueError) as error:
            raise InputError(
                got=f"{self.address!r} cannot be opened: {error}",
                allowed="s3://, gs://, hdfs:// and other addresses that pyarrow knows",
                fix="check the address and the credentials in the environment",
            ) from error
        return filesystem, path.rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as an address alone; each process opens its own connection."""
        return type(self), (self.uri,)

    def walk(self) -> Iterator[FileInfo]:
        """Yield every object below the prefix."""
        from pyarrow import fs

        filesystem, root = self._opened
        selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
        try:
            found = _retry(lambda: filesystem.get_file_info(selector))
        except OSError as error:
            raise InputError(
                got=f"{self.address!r} cannot be listed: {error}",
                allowed="a bucket or folder that these credentials may list",
                fix="check the address, the endpoint (AWS_ENDPOINT_URL), the region and the keys in the environment",
            ) from error
        for info in sorted(found, key=lambda info: str(info.path)):
            name = info.path[len(root) :].lstrip("/")
            if info.type == fs.FileType.File and not any(part.startswith(".") for part in name.split("/")):
                yield FileInfo(name, info.size or 0, info.mtime_ns or 0)

    def find(self, name: str) -> FileInfo | None:
        """Look one object up."""
        from pyarrow import fs

        filesystem, root = self._opened
        info = _retry(lambda: filesystem.get_file_info(f"{root}/{name}"))
        return FileInfo(name, info.size or 0, info.mtime_ns or 0) if info.type == fs.FileType.File else None

    def read(self, name: str, limits: InputLimits) -> bytes:
        """Read an object, with a second and a third try when the connection fails."""
        filesystem, root = self._opened

        def content() -> bytes:
            with filesystem.open_input_file(f"{root}/{name}") as file:
                check_bytes(file.size(), limits)
                data: bytes = file.read()
                return data

        try:
            return _retry(content)
        except OSError as error:
            raise InputError(
                f"cannot read {name!r}: {error}", "a readable picture file", "check the name and the rights"
            ) from error

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open an object, whose parts are fetched as they are read."""
        filesystem, root = self._opened
        try:
            file = _retry(lambda: filesystem.open_input_file(f"{root}/{name}"))
        except OSError as error:
            raise InputError(f"cannot read {name!r}: {error}", "an object", "check the name and the rights") from error
        with file:
            yield cast(BinaryIO, io.BufferedReader(file, _AHEAD_BYTES))

    def write(self, name: str, data: bytes, *, overwrite: bool) -> None:
        """Write an object; it becomes visible when all of it has arrived."""
        try:
            if not overwrite and self.find(name):
                raise OutputExistsError(f"{name!r} exists", "a name that is free", "allow overwriting")
        except OSError as error:
            raise _unwritable(name, error) from error
        self._put(name, io.BytesIO(data))

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Fill a file on this machine's disk and upload it whole; a closed upload is an object, however short."""
        with tempfile.TemporaryFile() as file:
            try:
                yield file
            except OSError as error:
                raise _unwritable(name, error) from error
            self._put(name, file)

    def _put(self, name: str, content: BinaryIO) -> None:
        """Upload a file, from its beginning with each try."""
        filesystem, root = self._opened
        path = f"{root}/{name}"

        def put() -> None:
            if filesystem.type_name in ("hdfs", "local"):
                filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            content.seek(0)
            with filesystem.open_output_stream(path) as stream:
                while block := content.read(_PART_BYTES):
                    stream.write(block)

        try:
            _retry(put)
        except OSError as error:
            raise _unwritable(name, error) from error

    def delete(self, name: str) -> None:
        """Remove an object."""
        filesystem, root = self._opened
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(f"{root}/{name}")

    def sweep(self) -> int:
        """Do nothing: an upload that was cut off never becomes an object."""
        return 0


def _unwritable(name: str, error: OSError) -> OutputError:
    """Build the error for an object that cannot be written."""
    return OutputError(f"cannot write {name!r}: {error}", "", "check the address and the rights")


def _retry(work: Callable[[], _Result]) -> _Result:
    """Try again after a moment when a connection fails; what is missing or forbidden stays so."""
    for attempt in range(_ATTEMPTS):
        try:
            return work()
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.5 * 4**attempt)
    raise AssertionError  # unreachable: the last attempt returns or raises
