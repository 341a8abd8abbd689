"""Threads that share forward passes get the maps that each would get alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from cutray import BackgroundRemover
from cutray.errors import EngineError
from pipelines.batch.shared_engine import SharedEngine


def _picture(index: int) -> np.ndarray:
    picture = np.full((200, 260, 3), 50 + index, np.uint8)
    cv2.circle(picture, (80 + 5 * index, 100), 60, (220, 80, 10 * index), -1)
    return picture


@pytest.mark.parametrize("most", [1, 4])
def test_shared_passes_equal_single_ones(remover: BackgroundRemover, most: int) -> None:
    """Whoever waits at the same time, every caller gets its own map, bit by bit."""
    alone = remover.segmenter
    shared = replace(alone, engine=SharedEngine(alone.engine, most))
    pictures = [_picture(index) for index in range(12)]
    expected = [alone.segment([picture])[0] for picture in pictures]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda picture: shared.segment([picture])[0], pictures))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_error_reaches_the_caller_and_the_thread_lives_on(remover: BackgroundRemover) -> None:
    """A pass that fails is told to those who waited for it, and the next one works."""
    shared = SharedEngine(remover.segmenter.engine, 4)
    with pytest.raises(EngineError):
        shared.infer(np.zeros((1, 3, 7, 7), np.float32))
    assert shared.infer(np.zeros((2, 3, 320, 320), np.float32)).shape[0] == 2
