"""A gate that lets many threads work at a time, or one alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class SoloGate:
    """A photo that may take its process down is tried while no other is in work, so that none is blamed for it."""

    def __init__(self) -> None:
        """Start with nobody at work."""
        self._changed = Condition()
        self._working = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Work while others do; waits while one is alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextmanager
    def solo(self) -> Iterator[None]:
        """Work while nobody else does; those at work finish first, and no other begins."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: not self._working)
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
