"""Keeps other processes off a file, as long as this one has it open."""

from __future__ import annotations

from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock_file(file: IO[bytes] | int, *, wait: bool) -> bool | None:
    """Lock an open file; the lock ends with its last descriptor, however the process ends.

    Args:
        file: Stream or descriptor.
        wait: Wait until the other process is done.

    Returns:
        True: this process has it. False: another one has it. None: there are no such locks here, go on with care.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True
