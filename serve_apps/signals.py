"""The signals of ``cutray serve``: SIGINT and SIGTERM end it, SIGHUP has the YAML read again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


class Signals:
    """Remembers which signals have come.

    Attributes:
        ended: Set once the program is to end.
    """

    def __init__(self) -> None:
        """Catch SIGHUP from now on: one that comes before the endpoint is ready would end the program."""
        self.ended = threading.Event()
        self._reload = threading.Event()
        if hasattr(signal, "SIGHUP"):  # not on Windows
            signal.signal(signal.SIGHUP, self._on_reload)

    def catch_end(self) -> None:
        """Catch SIGINT and SIGTERM as well; call this after ``ray.init``, which sets a handler of its own."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_end)

    def wait(self, reload: Callable[[], None]) -> None:
        """Sleep until the program is to end, and call ``reload`` after each SIGHUP."""
        while not self.ended.wait(0.2):
            if self._reload.is_set():
                self._reload.clear()
                reload()

    def _on_reload(self, _number: int, _frame: FrameType | None) -> None:
        self._reload.set()

    def _on_end(self, _number: int, _frame: FrameType | None) -> None:
        self.ended.set()
