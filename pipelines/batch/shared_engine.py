"""One thread that runs the network of a GPU for all threads of a process, several photos per pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import Engine, ResidentEngine, ResidentPhoto

# A view, as an array or as what the engine keeps on its device, and where its map goes.
_Waiting = tuple[Any, "Future[NDArray[np.float32]]"]


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
        return self._ask(batch)

    def upload(self, image: np.ndarray) -> ResidentPhoto | None:
        """Bring a photo to the engine's device, if it keeps photos there."""
        return self._engine.upload(image) if isinstance(self._engine, ResidentEngine) else None

    def infer_resident(self, batches: Sequence[Any], most: int) -> NDArray[np.float32]:  # noqa: ARG002
        """Run the network on views of photos that the engine keeps, together with what other threads have waiting."""
        return self._ask(view for batch in batches for view in batch)

    def _ask(self, views: Iterable[Any]) -> NDArray[np.float32]:
        """Have views run, and wait for their maps."""
        futures: list[Future[NDArray[np.float32]]] = []
        for view in views:
            futures.append(Future())
            self._waiting.put((view, futures[-1]))
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
            for here in (True, False):
                self._run([one for one in batch if isinstance(one[0], np.ndarray) == here])

    def _run(self, batch: Sequence[_Waiting]) -> None:
        """Run one pass of views that all lie in one place."""
        if not batch:
            return
        views = [view for view, _ in batch]
        try:
            if isinstance(views[0], np.ndarray) or not isinstance(self._engine, ResidentEngine):
                maps = self._engine.infer(np.stack(views))
            else:
                maps = self._engine.infer_resident([view[None] for view in views], self._most)
        except Exception as error:  # the callers get it; the thread must live on
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), found in zip(batch, maps, strict=True):
            future.set_result(found)
