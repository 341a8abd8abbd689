"""A model as a Cutter sees it: the network runs in Segmenters, elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from cutray.config import RemoverSettings
from cutray.errors import CutrayError
from cutray.models.catalog import ModelSpec
from cutray.tta import Prediction, TTARunner
from serve_apps.remover.replicas import replica_lost
from serve_apps.remover.schemas import Probs
from serve_apps.remover.tracing import Tracer

# Serve sends a call by gRPC, which is faster than Ray's object store but takes messages of at most 4 MB.
_LARGEST_DIRECT_BYTES = 3 << 20
_TRIES = 4
Result = TypeVar("Result")


class RemoteNetwork:
    """Asks the Segmenters of one model."""

    def __init__(self, segmenter: DeploymentHandle, tracer: Tracer, tries: int = _TRIES) -> None:
        """Keep the way to them.

        Args:
            segmenter: Handle of the model's Segmenter deployment.
            tracer: Of this process.
            tries: How often work is begun, where the model is swapped or a replica is lost meanwhile.
        """
        self._tracer, self._tries = tracer, tries
        self._segmenter, self._direct = segmenter, segmenter.options(_by_reference=False)
        self._spec: ModelSpec | None = None

    async def predict(self, image: np.ndarray, settings: RemoverSettings) -> tuple[Prediction, list[Probs]]:
        """Have all views predicted; begin again if the model was swapped, ask another replica if the first was lost.

        Args:
            image: (H, W, 3) uint8 sRGB.
            settings: Which views there are.

        Returns:
            The prediction, and the network's answers to all batches of views.

        Raises:
            CutrayError: The model is swapped again and again.
        """

        async def attempt(spec: ModelSpec) -> tuple[Prediction, list[Probs]] | None:
            runner = await asyncio.to_thread(TTARunner, image, spec, settings)
            answers: list[Probs] = []
            while runner.next_batch is not None:
                answer = await self._segment(runner.next_batch, spec)
                if answer is None:
                    return None
                answers.append(answer)
                await asyncio.to_thread(runner.update, answer.maps)
            # Two models may need the same preprocessing; all views of a photo must come from one of them.
            return (runner.result, answers) if len({answer.identity for answer in answers}) == 1 else None

        return await self._until_settled(attempt)

    async def infer(
        self, read: Callable[[ModelSpec], tuple[NDArray[np.float32], dict[str, Any]]]
    ) -> tuple[Probs, dict[str, Any]]:
        """Have the network run on tensors that a client prepared.

        Args:
            read: Takes the tensors out of a request, and refuses those that are not what the model needs.

        Returns:
            The network's answer, and the rest of the request.

        Raises:
            ApiError: From ``read``.
            CutrayError: The model is swapped again and again.
        """

        async def run(spec: ModelSpec) -> tuple[Probs, dict[str, Any]] | None:
            tensors, request = await asyncio.to_thread(read, spec)
            answer = await self._segment(tensors, spec)
            return None if answer is None else (answer, request)

        return await self._until_settled(run)

    async def _until_settled(self, work: Callable[[ModelSpec], Awaitable[Result | None]]) -> Result:
        """Return what work for one model comes to; begin again where it returns None, or where a replica was lost."""
        for attempt in range(self._tries):
            try:
                self._spec = self._spec or await self._segmenter.spec.remote()
                result = await work(self._spec)
            except Exception as error:
                if attempt == self._tries - 1 or not replica_lost(error):
                    raise
            else:
                if result is not None:
                    return result
        raise CutrayError(got="the model is being swapped again and again", fix="try again later")

    async def _segment(self, batch: np.ndarray, spec: ModelSpec) -> Probs | None:
        """Send prepared views to a Segmenter; None if its model was swapped for one that needs other views."""
        segmenter = self._direct if batch.nbytes <= _LARGEST_DIRECT_BYTES else self._segmenter
        with self._tracer.span("predict"):
            trace = self._tracer.current()
            answer: Probs | ModelSpec = await segmenter.segment.remote(batch, spec.preprocess, trace)
        if isinstance(answer, Probs):
            return answer
        self._spec = answer
        return None
