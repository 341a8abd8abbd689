"""Opens files that somebody has named, and is not stalled: a name may lead to a device, or a pipe nobody writes to."""

from __future__ import annotations

import errno
import os
import re
import stat

_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # Windows has none
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))
# What the shell has opened for this process, such as <(command), is read to its end.
_DESCRIPTOR = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/\d+")
_MAX_TEXT_BYTES = 1 << 20


def open_at_once(path: str | os.PathLike[str]) -> int:
    """Open a file for reading; a pipe is opened without waiting for somebody who writes into it.

    Returns:
        A descriptor, to be closed by the caller.

    Raises:
        OSError: There is no such file, or it may not be read.
        ValueError: The name cannot be one of a file.
    """
    return os.open(path, _FLAGS | _NO_WAIT)


def irregular_kind(mode: int) -> str:
    """Return what a mode stands for if it is no regular file: folder, pipe, socket or device; empty if it is one."""
    if stat.S_ISREG(mode):
        return ""
    return next((word for is_kind, word in _KINDS if is_kind(mode)), "device")


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a small file that people write by hand: settings, templates, a queue.

    Args:
        path: A regular file of at most 1 MiB, or a descriptor of this process such as /dev/stdin.

    Raises:
        OSError: It cannot be read, is a folder, pipe or device, or has too many bytes.
        ValueError: It is no UTF-8, or its name cannot be one of a file.
    """
    name = os.fspath(path)
    ours = _DESCRIPTOR.fullmatch(name) is not None
    handle = os.open(name, _FLAGS) if ours else open_at_once(name)
    if not ours and (kind := irregular_kind(os.fstat(handle).st_mode)):
        os.close(handle)
        raise OSError(errno.EINVAL, f"it is a {kind}, not a file", name)
    with os.fdopen(handle, "rb") as file:
        data = file.read(_MAX_TEXT_BYTES + 1)
    if len(data) > _MAX_TEXT_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {_MAX_TEXT_BYTES} bytes", name)
    return data.decode("utf-8")
