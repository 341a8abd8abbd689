"""Reads picture files without being stalled by devices, and writes results whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

from cutray.config import InputLimits
from cutray.errors import InputError, OutputError, OutputExistsError
from cutray.imaging.limits import check_bytes

_BLOCK_BYTES = 1 << 20
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV})
_OPEN_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def read_bytes(path: str | os.PathLike[str], limits: InputLimits) -> bytes:
    """Read a regular file.

    Args:
        path: The file; symbolic links are followed.
        limits: Most bytes; checked before and while reading, because a file can grow.

    Returns:
        The whole content.

    Raises:
        InputError: There is no such file, it is a folder, pipe or device, or it may not be read.
        ImageTooLargeError: The file has too many bytes.
    """
    name = os.fspath(path)
    try:
        # Without O_NONBLOCK the call would wait for a writer if this is a pipe.
        handle = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _OPEN_FLAGS)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise InputError(f"{name!r} is not a regular file", "a picture file", "give the path of a picture")
    with os.fdopen(handle, "rb", buffering=0) as file:
        check_bytes(status.st_size, limits)
        try:
            content = bytearray()
            while block := file.read(_BLOCK_BYTES):
                content += block
                check_bytes(len(content), limits)
        except OSError as error:
            raise _unreadable(name, error) from error
    return bytes(content)


def write_atomically(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = False) -> None:
    """Write a file so that it appears complete or not at all.

    Args:
        path: The file to write.
        data: Its content.
        overwrite: Replace an existing file.

    Raises:
        OutputExistsError: The file exists and ``overwrite`` is off; it is left as it is.
        OutputError: The folder or file cannot be written.
    """
    with create_atomically(path, overwrite=overwrite) as file:
        file.write(data)


@contextlib.contextmanager
def create_atomically(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a new file that gets its name when the block ends well, and is gone when it does not.

    A temporary file in the same folder is filled, flushed to disk and then given its name. Missing folders are
    created.

    Args:
        path: The file to write.
        overwrite: Replace an existing file.

    Yields:
        The file, for reading and writing.

    Raises:
        OutputExistsError: The file exists and ``overwrite`` is off; it is left as it is.
        OutputError: The folder or file cannot be written.
    """
    name = os.fspath(path)
    folder = os.path.dirname(name) or "."
    temporary = os.path.join(folder, f".cutray-{secrets.token_hex(8)}.part")
    try:
        if os.path.isdir(name):
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if not overwrite and os.path.lexists(name):
            raise FileExistsError(errno.EEXIST, "exists")
        os.makedirs(folder, exist_ok=True)
        try:
            # With the rights that any new file gets.
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o666)
            with os.fdopen(handle, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _name(temporary, name, overwrite)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    except FileExistsError as error:
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise OutputError(f"{folder!r} is not a folder", "", "choose another folder") from error
        raise OutputExistsError(
            f"the file {name!r} exists", "a name that is free", "choose another name, or allow overwriting"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"cannot write {name!r}: {reason}", "", "check the path, its rights and the disk") from error


def _name(temporary: str, name: str, overwrite: bool) -> None:
    """Give the temporary file its name; without ``overwrite`` this must fail when the name is taken."""
    if overwrite:
        os.replace(temporary, name)
        return
    try:
        os.link(temporary, name)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # A file system without hard links: reserve the name first, then replace what was reserved.
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o666))
        os.replace(temporary, name)


def _unreadable(name: str, error: Exception) -> InputError:
    """Build the error for a file that cannot be opened or read."""
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"cannot read {name!r}: {reason}", "a readable picture file", "check the path and its rights")
