"""``cutray remove FOLDER -o FOLDER --watch``: photos are done as they come, until Ctrl+C."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cutray.commands.remove.outputs import Naming, assign_outputs
from cutray.commands.remove.photos import Existing, sort_by_existing

_SHORTEST_PAUSE_S = 1.0
_SCAN_SHARE = 0.1  # a large folder is looked through less often, so that this takes no more of a processor

_State = tuple[int, int]


@dataclass(slots=True)
class FolderWatch:
    """Knows which photos of a folder are new and complete.

    A file counts as complete when its size and time of change are the same in two looks, and it is not empty.

    Attributes:
        source: The folder with the photos.
        output: Where results go.
        naming: How they are named.
        overwrite: Do photos again whose results exist, and those that change.
        skip_existing: Pass over photos whose results exist, whoever made them.
        assigned: Photos so far, and their results.
    """

    source: Path
    output: str | Path | None
    naming: Naming
    overwrite: bool = False
    skip_existing: bool = False
    assigned: dict[Path, Path] = field(default_factory=dict)
    _seen: dict[Path, _State] = field(default_factory=dict)
    _handled: dict[Path, _State] = field(default_factory=dict)

    def next_tasks(self) -> Existing:
        """Look through the folder once.

        Returns:
            Photos that are complete and were not returned before as they are now, by what is known of their results;
            none while the folder is away, as one on a network may be.
        """
        if not os.path.isdir(self.source):
            return Existing([], [], [])
        tasks = assign_outputs([self.source], self.output, self.naming, self.assigned).tasks
        states = {task.source: state for task in tasks if (state := _state_of(task.source)) is not None}
        ready = [
            task
            for task in tasks
            if (state := states.get(task.source)) is not None
            and state[0] > 0
            and self._seen.get(task.source) == state
            and self._handled.get(task.source) != state
        ]
        self._seen = states
        for task in ready:
            self._handled[task.source] = states[task.source]
            self.assigned[task.source] = task.destination
        return sort_by_existing(ready, overwrite=self.overwrite, skip_existing=self.skip_existing, several=True)


def watch_folder(watch: FolderWatch, handle: Callable[[Existing], None], stop: threading.Event) -> None:
    """Hand over photos as they come, until ``stop`` is set.

    Args:
        watch: The folder.
        handle: Does the photos; it returns early when ``stop`` is set.
        stop: Ends the watch, at once while it waits, after the photo in work otherwise.
    """
    while not stop.is_set():
        started = time.monotonic()
        found = watch.next_tasks()
        scan_s = time.monotonic() - started
        handle(found)
        stop.wait(max(_SHORTEST_PAUSE_S, scan_s / _SCAN_SHARE))


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Yield an event that Ctrl+C, or a request to terminate, sets; a second Ctrl+C interrupts as usual."""
    stop = threading.Event()

    def request(number: int, frame: object) -> None:  # noqa: ARG001 (signal's interface)
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _state_of(path: Path) -> _State | None:
    """Return size and time of change, or None for a file that is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
