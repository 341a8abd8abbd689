"""One thread that runs the network for all threads of a process, several photos per pass on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread

import numpy as np

from cutray.remover import BackgroundRemover
from cutray.segmenter import Segmenter, prepare

_Waiting = tuple[np.ndarray, "Future[np.ndarray]"]


class SharedForward(Segmenter):
    """A segmenter whose callers share forward passes; each prepares its own photo and waits for its own map."""

    _most: int
    _waiting: SimpleQueue[_Waiting]

    def __init__(self, segmenter: Segmenter, most: int) -> None:
        """Take over a segmenter's network.

        Args:
            segmenter: A segmenter that is loaded.
            most: Most photos in one pass.
        """
        super().__init__(segmenter.weights, segmenter.engine, segmenter.choice)
        object.__setattr__(self, "_most", most)  # the base is frozen
        object.__setattr__(self, "_waiting", SimpleQueue())
        Thread(target=self._serve, name="forward", daemon=True).start()

    def segment(self, images: Sequence[np.ndarray], *, compat: bool = False) -> list[np.ndarray]:
        """Find the subject in each picture; see ``Segmenter.segment``."""
        futures: list[Future[np.ndarray]] = []
        for image in images:
            futures.append(Future())
            self._waiting.put((prepare(image, self.weights.spec, compat=compat), futures[-1]))
        return [future.result() for future in futures]

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
                maps = self.engine.infer(np.stack([inputs for inputs, _ in batch]))
            except Exception as error:  # the callers get it; this thread must live on
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), found in zip(batch, maps, strict=True):
                future.set_result(found)


def share_forward(remover: BackgroundRemover, most: int) -> None:
    """Let the threads that use a remover share one that runs the network.

    On a processor each pass takes one photo, because engines run them one by one there; what is gained is that
    the network is never entered by two threads at once, which OpenVINO has been seen to answer with a standstill.

    Args:
        remover: A remover; its segmenter is replaced.
        most: Most photos in one pass on a GPU.
    """
    on_processor = remover.segmenter.engine.device == "cpu"
    remover.segmenter = SharedForward(remover.segmenter, 1 if on_processor else most)
