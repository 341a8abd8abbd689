"""The mark that every picture made by Cutray carries, by which it is known again.

It is the standard ``Software`` entry: a tEXt chunk in PNG, field 305 of EXIF or TIFF elsewhere. A folder that is
processed again must not have its own results taken for photos, whatever they are called.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache

SOFTWARE = "Cutray background removal"

# The entry is among the first or, in WebP, the last bytes of a file, beside profile and other metadata.
_SEARCHED_BYTES = 64 << 10


def is_marked(head: bytes, tail: bytes = b"") -> bool:
    """Whether a file was made by Cutray.

    Args:
        head: Its first 64 KiB, or all of it.
        tail: Its last 64 KiB.
    """
    mark = SOFTWARE.encode()
    return mark in head or mark in tail


def is_result(path: str | os.PathLike[str]) -> bool:
    """Whether a file on disk was made by Cutray; one that cannot be read counts as not."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    # Opening a FIFO would wait for a writer.
    return stat.S_ISREG(status.st_mode) and _read_mark(os.fspath(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 16)  # a watched folder asks again and again
def _read_mark(path: str, size_bytes: int, modified_ns: int) -> bool:  # noqa: ARG001 (they tell versions apart)
    """Search the first and last bytes of a file for the mark."""
    try:
        with open(path, "rb") as file:
            head = file.read(_SEARCHED_BYTES)
            file.seek(max(len(head), size_bytes - _SEARCHED_BYTES))
            return is_marked(head, file.read(_SEARCHED_BYTES))
    except OSError:
        return False
