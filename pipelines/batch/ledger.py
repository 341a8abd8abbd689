"""Counts which photos were in work when a process died, so that a photo that kills processes is found and given up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


class Ledger:
    """One small actor of the job; the processes that cut out tell it what they begin and end."""

    def __init__(self) -> None:
        """Start with empty accounts."""
        self._begun: Counter[str] = Counter()

    def crashes(self, keys: Sequence[str]) -> dict[str, int]:
        """Return how many times each of these photos was begun and never ended."""
        return {key: self._begun[key] for key in keys if self._begun[key]}

    def begin(self, key: str) -> None:
        """Note that work on a photo begins."""
        self._begun[key] += 1

    def end(self, key: str) -> None:
        """Note that work on a photo has ended, well or not."""
        del self._begun[key]
