"""Threads that share a network get the maps that each would get alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow")

from cutray import BackgroundRemover
from cutray.errors import EngineError
from pipelines.batch.forward import SharedForward


def _picture(index: int) -> np.ndarray:
    picture = np.full((200, 260, 3), 50 + index, np.uint8)
    cv2.circle(picture, (80 + 5 * index, 100), 60, (220, 80, 10 * index), -1)
    return picture


@pytest.mark.parametrize("most", [1, 4])
def test_shared_passes_equal_single_ones(most: int) -> None:
    """Whoever waits at the same time, every caller gets its own map, bit by bit."""
    alone = BackgroundRemover("u2netp").segmenter
    shared = SharedForward(alone, most)
    pictures = [_picture(index) for index in range(12)]
    expected = [alone.segment([picture])[0] for picture in pictures]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda picture: shared.segment([picture])[0], pictures))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_error_reaches_the_caller_and_the_thread_lives_on() -> None:
    """A pass that fails is told to those who waited for it, and the next one works."""

    class Breaking:
        name, device, precision, threads = "breaking", "cpu", "fp32", 1

        def __init__(self) -> None:
            self.calls = 0

        def infer(self, batch: np.ndarray) -> np.ndarray:
            self.calls += 1
            if self.calls == 1:
                raise EngineError(got="out of memory")
            return batch[:, 0] * 0

    alone = BackgroundRemover("u2netp").segmenter
    shared = SharedForward(type(alone)(alone.weights, Breaking(), alone.choice), 4)
    with pytest.raises(EngineError, match="out of memory"):
        shared.segment([_picture(0)])
    assert shared.segment([_picture(0)])[0].shape == (320, 320)
