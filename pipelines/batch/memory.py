"""Keeps a batch within its memory: how much each worker may hold, and which photos are in work at the same time."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

from cutray.engines.hardware import available_bytes
from cutray.errors import InputError
from cutray.freed_memory import give_back_memory
from cutray.imaging.picture_size import read_size
from pipelines.batch.parquet_source import ParquetSource
from pipelines.batch.photo import Photo
from pipelines.batch.storage_base import Reader

# Measured, rounded up: a worker with u2net and one small photo, the process that hands out and writes down, a Ray.
WORKER_BYTES, DRIVER_BYTES, RAY_BYTES = 640 << 20, 320 << 20, 960 << 20
_SHARE = 0.5  # of what is free, where no budget is given
# From the file to the encoded cutout; measured on photos of 12 MP with refined edges. WebP and AVIF encode from copies.
_BYTES_PER_PX, _COSTLY_BYTES_PER_PX, _COSTLY = 28, 56, ("WEBP", "AVIF")
_LOOKED_AT = 16  # Parquet files whose footers are read
_UNKNOWN_PX = 24_000_000  # of a photo whose header does not tell


def budget_bytes(memory_gb: float, free_bytes: int | None = None) -> int:
    """Return the memory that a batch may hold on one machine.

    Args:
        memory_gb: From the settings; 0 means half of what is free.
        free_bytes: What is free there; by default that of this machine.
    """
    return int(memory_gb * 1e9) or int(_SHARE * (available_bytes() if free_bytes is None else free_bytes))


def reader_bytes(reader: Reader, photos: Iterable[Photo]) -> int:
    """Estimate what reading takes in each worker beside the photos themselves: pages of Parquet files are read whole.

    Args:
        reader: Reads the photos.
        photos: Those to do; of their files a few are looked at.
    """
    if not isinstance(reader, ParquetSource):
        return 0
    names = dict.fromkeys(photo.location.rpartition("#")[0] for photo in photos)
    held = [0]
    for name in list(names)[:_LOOKED_AT]:
        with contextlib.suppress(InputError):  # it becomes a row that failed
            held.append(reader.held_bytes(name))
    return max(held)


def photo_bytes(data: bytes, format_name: str) -> int:
    """Estimate the most memory that one photo takes on its way from the file to the encoded cutout.

    Args:
        data: The encoded photo.
        format_name: Format of the result, such as PNG.
    """
    width, height = read_size(data) or (_UNKNOWN_PX, 1)
    return len(data) + width * height * (_COSTLY_BYTES_PER_PX if format_name in _COSTLY else _BYTES_PER_PX)


class MemoryGate:
    """Lets photos be in work together as long as a process stays within its memory, each in its turn.

    A photo that is too large for that is worked on alone: it cannot be had for less.
    """

    def __init__(self, limit_bytes: int, resident: Callable[[], int] | None = None) -> None:
        """Begin with nothing in work; what the process holds now it always holds.

        Args:
            limit_bytes: What the process may hold.
            resident: Tells how much it holds, by default as the system says.
        """
        self.limit_bytes = limit_bytes
        self._resident = resident or resident_bytes
        self._floor = self._resident()
        self._changed = Condition()
        self._waiting: deque[object] = deque()
        self._in_work = 0
        self._needed = 0

    @contextmanager
    def room(self, need_bytes: int) -> Iterator[None]:
        """Wait until there is room, and hold it for the length of the block."""
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            self._changed.wait_for(lambda: self._waiting[0] is turn and self._fits(need_bytes))
            self._waiting.popleft()
            self._in_work += 1
            self._needed += need_bytes
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._in_work -= 1
                self._needed -= need_bytes
                self._changed.notify_all()

    def _fits(self, need_bytes: int) -> bool:
        """Whether one more photo fits, by what those in work may yet take and by what is held now."""
        if not self._in_work:
            if self._resident() + need_bytes > self.limit_bytes:
                give_back_memory()
            return True
        if self._floor + self._needed + need_bytes > self.limit_bytes:
            return False
        if self._resident() + need_bytes > self.limit_bytes:
            give_back_memory()  # what was freed is kept for the next photo, which may be of another size
        return self._resident() + need_bytes <= self.limit_bytes


def resident_bytes() -> int:
    """Return the memory that this process holds; 0 where the system does not tell (only Linux does)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
