"""Keep freed memory for the next photo instead of handing it back to the system after each, or hand it back now."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

# Arrays of up to so many bytes come from memory that is kept; a photo of 12 megapixels needs several of 48 MB.
_LARGEST_KEPT_BYTES = 128 << 20
# So much of it may lie unused; what is more goes back to the system.
_MOST_UNUSED_BYTES = 256 << 20
_GROWN_BY_BYTES = 64 << 20
# Numbers of mallopt(3) in the GNU C library.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8


def keep_freed_memory() -> bool:
    """Have this process keep up to 256 MB of freed memory.

    The C library hands the memory of large arrays back as soon as they are freed. For the next photo the system has to
    find and blank it page by page again. That takes a sixth of the time of a large photo, and up to two fifths in
    virtual machines that return free memory to their host. Cutray's commands call this; a program of your own that
    works on many photos may, too. It concerns the whole process, so nothing in the library does it unasked.

    Returns:
        Whether it is in effect: with the GNU C library alone, and not where its own variables (``MALLOC_…``,
        ``GLIBC_TUNABLES``) say how memory is kept.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or chosen:
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    # One arena for all threads: each would keep as much on its own.
    options = {
        _MMAP_THRESHOLD: _LARGEST_KEPT_BYTES,
        _TRIM_THRESHOLD: _MOST_UNUSED_BYTES,
        _TOP_PAD: _GROWN_BY_BYTES,
        _ARENA_MAX: 1,
    }
    accepted = [set_option(option, value) == 1 for option, value in options.items()]
    return all(accepted)


def give_back_memory() -> None:
    """Give the system back what was freed and is kept for later, where the C library can (glibc)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
