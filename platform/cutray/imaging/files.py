"""Read picture files without being stalled by devices, and write results whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from typing import BinaryIO

from cutray.config import InputLimits
from cutray.errors import InputError, OutputError, OutputExistsError
from cutray.imaging.limits import check_bytes
from cutray.regular_file import irregular_kind, open_at_once

_BLOCK_BYTES = 1 << 20
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV})
# The same on Windows, which gives them the number of an invalid argument: "incorrect function", "not supported".
_NO_HARD_LINKS_WINDOWS = frozenset({1, 50})
# What stands for a descriptor of this process. It is written to as it is, wherever the shell has sent it.
_DESCRIPTOR = re.compile(r"/dev/(stdout|stderr)|/(?:dev|proc/self)/fd/(\d+)")
_STANDARD = {"stdout": 1, "stderr": 2}
_MAX_LINKS = 40
_READER_WAIT_S = 60.0
_NOT_WRITTEN = ((stat.S_ISDIR, "folder"), (stat.S_ISBLK, "block device"), (stat.S_ISSOCK, "socket"))
_OPEN_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # Windows has none


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
        handle = open_at_once(name)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    status = os.fstat(handle)
    if kind := irregular_kind(status.st_mode):
        os.close(handle)
        fix = f"give its bytes, or run `cutray remove - < {name}`" if kind == "pipe" else "give the path of a picture"
        raise InputError(f"{name!r} is a {kind}", "a picture file", fix)
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


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pipe, a character device or an open descriptor, which is written through, not replaced.

    Such an output cannot be overwritten by accident, and its name need not say a format.
    """
    name = os.fspath(path)
    if _descriptor(name) is not None:
        return True
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse an output that cannot be written, before any work is done for it.

    Args:
        path: The file to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        OutputExistsError: The file exists and ``overwrite`` is off.
        OutputError: The path is a folder, a block device, a socket, a descriptor that is not open, or a link that
            leads nowhere else than to itself.
    """
    name = os.fspath(path)
    if is_stream(name):
        number = _descriptor(name)
        try:
            if number is not None:
                os.fstat(number)
        except (OSError, OverflowError) as error:
            raise _unwritable(name, error) from error
        return
    try:
        mode = os.stat(name).st_mode
    except FileNotFoundError:
        mode = 0
    except (OSError, ValueError) as error:
        raise _unwritable(name, error) from error
    kind = next((word for is_kind, word in _NOT_WRITTEN if is_kind(mode)), None) if mode else None
    if kind:
        raise OutputError(f"{name!r} is a {kind}", "a file, a pipe or a character device", "choose another output")
    if not overwrite and os.path.lexists(name):
        raise _exists(name)


def write_atomically(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = False) -> None:
    """Write a file so that it appears complete or not at all; write through what is no file.

    Args:
        path: The file to write. Of a symbolic link the target is written and the link stays; a pipe, a character
            device and an open descriptor such as /dev/stdout get the bytes.
        data: Its content.
        overwrite: Replace an existing file.

    Raises:
        OutputExistsError: The file exists and ``overwrite`` is off; it is left as it is.
        OutputError: The folder or file cannot be written, or the path is a folder, a block device or a socket.
    """
    name = os.fspath(path)
    if is_stream(name):
        _write_through(name, data)
        return
    with create_atomically(name, overwrite=overwrite) as file:
        file.write(data)


@contextlib.contextmanager
def create_atomically(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a new file that gets its name when the block ends well, and is gone when it does not.

    A temporary file in the same folder is filled, flushed to disk and then given its name. Missing folders are
    created.

    Args:
        path: The file to write, as for ``write_atomically``.
        overwrite: Replace an existing file.

    Yields:
        The file, for reading and writing.

    Raises:
        OutputExistsError: The file exists and ``overwrite`` is off; it is left as it is.
        OutputError: The folder or file cannot be written, or the path is a folder, a block device or a socket.
    """
    name = os.fspath(path)
    if is_stream(name):
        with tempfile.TemporaryFile() as spool:
            yield spool
            spool.seek(0)
            _write_through(name, spool.read())
        return
    check_output(name, overwrite=overwrite)
    name = os.path.realpath(name)
    folder = os.path.dirname(name)
    temporary = os.path.join(folder, f".cutray-{secrets.token_hex(8)}.part")
    try:
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
        raise _exists(name) from error
    except (OSError, ValueError) as error:
        raise _unwritable(name, error) from error


def _write_through(name: str, data: bytes) -> None:
    """Write to a pipe, a character device or an open descriptor."""
    number = _descriptor(name)
    try:
        handle = os.dup(number) if number is not None else _open_for_writing(name)
        with os.fdopen(handle, "wb") as sink:
            sink.write(data)
    except (OSError, ValueError, OverflowError) as error:
        raise _unwritable(name, error) from error


def _open_for_writing(name: str) -> int:
    """Open a pipe or device; a pipe that nobody reads is waited for, but not for ever."""
    deadline = time.monotonic() + _READER_WAIT_S
    while True:
        try:
            handle = os.open(name, os.O_WRONLY | _NO_WAIT | getattr(os, "O_NOCTTY", 0) | _OPEN_FLAGS)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
            continue
        if _NO_WAIT:
            os.set_blocking(handle, True)
        return handle


def _descriptor(name: str) -> int | None:
    """Return the number of the open descriptor that a path such as /dev/stdout stands for, through any links."""
    for _ in range(_MAX_LINKS):
        found = _DESCRIPTOR.fullmatch(name)
        if found:
            return _STANDARD.get(found[1]) if found[1] else int(found[2])
        try:
            name = os.path.join(os.path.dirname(name), os.readlink(name))
        except (OSError, ValueError):
            return None
    return None


def _exists(name: str) -> OutputExistsError:
    """Build the error for an output that is there already."""
    return OutputExistsError(
        f"the file {name!r} exists", "a name that is free", "choose another name, or allow overwriting"
    )


def _unwritable(name: str, error: Exception) -> OutputError:
    """Build the error for an output that cannot be written."""
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"cannot write {name!r}: {reason}", "", "check the path, its rights and the disk")


def _name(temporary: str, name: str, overwrite: bool) -> None:
    """Give the temporary file its name; without ``overwrite`` this must fail when the name is taken."""
    if overwrite:
        os.replace(temporary, name)
        return
    try:
        os.link(temporary, name)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS and getattr(error, "winerror", None) not in _NO_HARD_LINKS_WINDOWS:
            raise
        # A file system without hard links: reserve the name first, then replace what was reserved.
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o666))
        os.replace(temporary, name)


def _unreadable(name: str, error: Exception) -> InputError:
    """Build the error for a file that cannot be opened or read."""
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"cannot read {name!r}: {reason}", "a readable picture file", "check the path and its rights")
