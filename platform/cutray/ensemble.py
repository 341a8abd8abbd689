"""Several networks of different sizes and preprocessing as one: their maps are averaged before matting.

Networks fail on different photos. Two that saw other data, at other sizes, find more of the subject together. The
surer one of them weighs more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cutray.engines.base import Engine, check_batch
from cutray.log_odds import average_by_certainty
from cutray.models.catalog import ModelSpec
from cutray.preprocess import prepare


class EnsembleEngine:
    """An engine over the engines of all members. Each member sees the picture prepared in its own way."""

    def __init__(self, members: Sequence[tuple[Engine, ModelSpec]], spec: ModelSpec) -> None:
        """Put loaded networks together.

        Args:
            members: Each network's engine, and how its input is prepared.
            spec: How the ensemble's input is prepared: divided by 255 and nothing else, at the largest member's size.
        """
        engines = [engine for engine, _ in members]
        self.name = _join(engines, lambda engine: engine.name)
        self.device = _join(engines, lambda engine: engine.device)
        self.precision = _join(engines, lambda engine: engine.precision)
        self.threads = max(engine.threads for engine in engines)
        self._members = list(members)
        self._side = spec.input_size_px

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run all members and average the logarithms of the odds, each weighted by the odds of its score.

        Args:
            batch: (N, 3, S, S) float32 in [0, 1], RGB.

        Returns:
            Probabilities of the subject, (N, S, S) float32 in [0, 1].

        Raises:
            EngineError: The batch has another shape, or a member failed.
        """
        check_batch(batch, self._side)
        images = np.ascontiguousarray(np.rint(np.clip(batch, 0.0, 1.0) * 255.0).astype(np.uint8).transpose(0, 2, 3, 1))
        maps = []
        for engine, spec in self._members:
            answer = engine.infer(np.stack([prepare(image, spec) for image in images]))
            maps.append(np.stack([self._enlarge(one) for one in answer]))
        return np.stack([average_by_certainty(views) for views in zip(*maps, strict=True)])

    def _enlarge(self, probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring a member's map to the ensemble's size, bilinearly."""
        size = (self._side, self._side)
        return probs if probs.shape == size else np.asarray(cv2.resize(probs, size, interpolation=cv2.INTER_LINEAR))


def _join(engines: Sequence[Engine], word: Callable[[Engine], str]) -> str:
    """Name what the members run on, each word once."""
    return "+".join(dict.fromkeys(word(engine) for engine in engines))
