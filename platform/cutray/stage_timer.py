"""How long each stage of the chain took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimer:
    """Milliseconds of each stage.

    Attributes:
        milliseconds: By name of the stage, in the order in which they ended.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.perf_counter()
        yield
        self.add(name, (time.perf_counter() - start) * 1000)

    def add(self, name: str, milliseconds: float) -> None:
        """Note the time of a stage, to a tenth of a millisecond."""
        self.milliseconds[name] = round(milliseconds, 1)
