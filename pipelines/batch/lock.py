"""Keeps two jobs from writing to the same folder at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from cutray.errors import OutputError
from cutray.file_lock import lock_file
from pipelines.batch.manifest import FOLDER
from pipelines.batch.storage import LocalStorage
from pipelines.batch.storage_base import Storage


@contextmanager
def exclusive_lock(storage: Storage) -> Iterator[None]:
    """Hold a lock on a local folder; it ends with the process, however that ends. Remote storage has no locks.

    Raises:
        OutputError: Another job holds it, or the folder cannot be written.
    """
    if not isinstance(storage, LocalStorage):
        yield
        return
    folder = os.path.join(storage.address, FOLDER)
    try:
        os.makedirs(folder, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)  # Windows has none
        handle = os.open(os.path.join(folder, "lock"), flags, 0o666)
    except OSError as error:
        raise OutputError(
            got=f"cannot write to {storage.address!r}: {error.strerror}", fix="check the path, its rights and the disk"
        ) from error
    try:
        if lock_file(handle, wait=False) is False:
            raise OutputError(
                got=f"another job writes to {storage.address!r}", fix="wait for it, or choose another target"
            )
        yield
    finally:
        os.close(handle)
