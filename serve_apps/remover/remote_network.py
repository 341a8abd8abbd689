"""A model as a Cutter sees it: the network runs in Segmenters, elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from cutray.config import RemoverSettings
from cutray.errors import CutrayError
from cutray.models.catalog import ModelSpec
from cutray.tta import Prediction, TTARunner
from serve_apps.remover.replicas import replica_lost
from serve_apps.remover.schemas import PreprocessSpec, Probs
from serve_apps.remover.tracing import Tracer

# Serve sends a call by gRPC, which is faster than Ray's object store but takes messages of at most 4 MB.
_LARGEST_DIRECT_BYTES = 3 << 20
_TRIES = 4


class RemoteNetwork:
    """Asks the Segmenters of one model."""

    def __init__(self, segmenter: DeploymentHandle, tracer: Tracer) -> None:
        """Keep the way to them.

        Args:
            segmenter: Handle of the model's Segmenter deployment.
            tracer: Of this process.
        """
        self._tracer = tracer
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
        for attempt in range(_TRIES):
            try:
                spec = self._spec = self._spec or await self._segmenter.spec.remote()
                runner = await asyncio.to_thread(TTARunner, image, spec, settings)
                answers: list[Probs] = []
                while runner.next_batch is not None:
                    answer = await self._segment(runner.next_batch, spec)
                    if not isinstance(answer, Probs):
                        self._spec = answer
                        break
                    answers.append(answer)
                    await asyncio.to_thread(runner.update, answer.maps)
                # Two models may need the same preprocessing; all views of a photo must come from one of them.
                if runner.next_batch is None and len({answer.sha256 for answer in answers}) == 1:
                    return runner.result, answers
            except Exception as error:
                if attempt == _TRIES - 1 or not replica_lost(error):
                    raise
        raise CutrayError(got="the model is being swapped again and again", fix="try again later")

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
        for attempt in range(_TRIES):
            try:
                spec = self._spec = self._spec or await self._segmenter.spec.remote()
                tensors, request = await asyncio.to_thread(read, spec)
                answer = await self._segment(tensors, spec)
                if isinstance(answer, Probs):
                    return answer, request
                self._spec = answer
            except Exception as error:
                if attempt == _TRIES - 1 or not replica_lost(error):
                    raise
        raise CutrayError(got="the model is being swapped again and again", fix="try again later")

    async def _segment(self, batch: np.ndarray, spec: ModelSpec) -> Probs | ModelSpec:
        """Send prepared views to a Segmenter."""
        segmenter = self._direct if batch.nbytes <= _LARGEST_DIRECT_BYTES else self._segmenter
        with self._tracer.span("predict"):
            trace = self._tracer.current()
            answer: Probs | ModelSpec = await segmenter.segment.remote(batch, PreprocessSpec.of(spec), trace)
        return answer
