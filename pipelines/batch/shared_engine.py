"""One thread that runs the network of a GPU for all threads of a process, several photos per pass."""

from __future__ import annotations

from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import Engine

_Waiting = tuple[NDArray[np.float32], "Future[NDArray[np.float32]]"]


class SharedEngine:
    """An engine whose callers share forward passes. On a processor, where photos run one by one, it gains nothing."""

    def __init__(self, engine: Engine, most: int) -> None:
        """Take over an engine.

        Args:
            engine: The engine that runs the passes.
            most: Most pictures in one pass.
        """
        self.name, self.device, self.precision, self.threads = (
            engine.name,
            engine.device,
            engine.precision,
            engine.threads,
        )
        self._engine = engine
        self._most = most
        self._waiting: SimpleQueue[_Waiting] = SimpleQueue()
        Thread(target=self._serve, name="forward", daemon=True).start()

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on (N, 3, S, S), together with what other threads have waiting."""
        futures: list[Future[NDArray[np.float32]]] = []
        for picture in batch:
            futures.append(Future())
            self._waiting.put((picture, futures[-1]))
        return np.stack([future.result() for future in futures])

    def _serve(self) -> None:
        """Run what is waiting, as much at once as there is: nobody waits for a batch to fill."""
        while True:
            batch: list[_Waiting] = [self._waiting.get()]
            while len(batch) < self._most:
                try:
                    batch.append(self._waiting.get_nowait())
                except Empty:
                    break
            try:
                maps = self._engine.infer(np.stack([picture for picture, _ in batch]))
            except Exception as error:  # the callers get it; this thread must live on
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), found in zip(batch, maps, strict=True):
                future.set_result(found)
