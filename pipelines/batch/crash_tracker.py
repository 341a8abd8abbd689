"""Keeps what the processes of a job must agree on: which photos were in work when one died, and the number format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol


class CrashLog(Protocol):
    """How a process reaches the tracker of its job."""

    def begin(self, key: str) -> None:
        """Note that work on a photo begins. When this returns, the note survives the death of the process."""

    def end(self, key: str) -> None:
        """Note that work on a photo has ended, well or not. If the note is lost, the photo is tried alone once more."""

    def agree(self, precision: str) -> str:
        """Return the number format of the job, which is that of the first process to say its own."""


class CrashTracker:
    """One for a job; the processes that cut out tell it what they begin and end."""

    def __init__(self) -> None:
        """Start with empty accounts."""
        self._begun: Counter[str] = Counter()
        self._precision = ""

    def crashes(self, keys: Sequence[str]) -> dict[str, int]:
        """Return how many times each of these photos was begun and never ended."""
        return {key: self._begun[key] for key in keys if self._begun[key]}

    def agree(self, precision: str) -> str:
        """Return the number format that all networks of the job must compute in: that of the first to say its own."""
        self._precision = self._precision or precision
        return self._precision

    def begin(self, key: str) -> None:
        """Note that work on a photo begins."""
        self._begun[key] += 1

    def end(self, key: str) -> None:
        """Note that work on a photo has ended, well or not."""
        del self._begun[key]
