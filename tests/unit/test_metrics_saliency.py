"""Behaviour of overlap, F-measure and E-measure."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cutray.evaluation.saliency import (
    binarise_adaptively,
    count_at,
    dice,
    e_measure,
    f_measure,
    iou,
    sweep_thresholds,
)

TRUTH = np.array([[True, True], [False, False]])
EMPTY = np.zeros((2, 2), bool)
FULL = np.ones((2, 2), bool)


def test_iou_and_dice_of_one_hit_one_miss_and_one_false_alarm() -> None:
    """One pixel hit, one missed and one too many gives IoU 1/3 and Dice 1/2."""
    counts = count_at(np.array([[True, False], [True, False]]), TRUTH)

    assert iou(counts)[0] == pytest.approx(1 / 3)
    assert dice(counts)[0] == pytest.approx(1 / 2)


def test_f_measure_follows_precision_and_recall() -> None:
    """Precision 1/2 and recall 1 give 1.3·.5·1 / (.3·.5 + 1)."""
    counts = count_at(FULL, TRUTH)

    assert f_measure(counts)[0] == pytest.approx(1.3 * 0.5 / (0.3 * 0.5 + 1))


def test_e_measure_of_a_hand_computed_case() -> None:
    """Predicting one of two subject pixels out of four aligns as computed by hand."""
    counts = count_at(np.array([[True, False], [False, False]]), TRUTH)
    # Means .25 and .5: the hit and the rightly empty pixels align positively, the miss negatively.
    hit = 2 * 0.75 * 0.5 / (0.75**2 + 0.5**2)
    miss = 2 * -0.25 * 0.5 / (0.25**2 + 0.5**2)
    blank = 2 * -0.25 * -0.5 / (0.25**2 + 0.5**2)
    expected = ((1 + hit) ** 2 + (1 + miss) ** 2 + 2 * (1 + blank) ** 2) / 4 / 4

    assert e_measure(counts)[0] == pytest.approx(expected)


def test_sweep_counts_every_8_bit_level() -> None:
    """Each multiple of 1/255 is at or above its own threshold and below the next one."""
    alpha = (np.arange(256, dtype=np.float32) / np.float32(255)).reshape(16, 16)

    counts = sweep_thresholds(alpha, np.ones((16, 16), bool))

    assert counts.hits.tolist() == list(range(256, 0, -1))
    assert not counts.false_alarms.any()


def test_sweep_agrees_with_thresholding_one_level_at_a_time() -> None:
    """The histogram gives the same counts as comparing every pixel with the threshold."""
    rng = np.random.default_rng(3)
    levels = rng.integers(0, 256, (40, 50))
    truth = rng.random((40, 50)) < 0.4

    counts = sweep_thresholds((levels / 255).astype(np.float32), truth)

    for threshold in (0, 1, 64, 127, 128, 254, 255):
        single = count_at(levels >= threshold, truth)
        assert counts.hits[threshold] == single.hits[0]
        assert counts.false_alarms[threshold] == single.false_alarms[0]


def test_adaptive_threshold_is_twice_the_mean() -> None:
    """With mean .25 only values from .5 on are predicted."""
    alpha = np.array([[0.5, 0.49], [0.01, 0.0]], np.float32)

    assert binarise_adaptively(alpha).tolist() == [[True, False], [False, False]]


def test_adaptive_threshold_never_exceeds_one() -> None:
    """A map of ones predicts everything, although twice its mean is 2."""
    assert binarise_adaptively(np.ones((2, 2), np.float32)).all()


def test_adaptive_threshold_of_zeros_predicts_nothing() -> None:
    """An alpha of zeros stays empty."""
    assert not binarise_adaptively(np.zeros((2, 2), np.float32)).any()


@pytest.mark.parametrize(
    ("predicted", "truth", "overlap", "f", "e"),
    [
        (EMPTY, EMPTY, 1.0, 1.0, 1.0),
        (FULL, EMPTY, 0.0, 0.0, 0.0),
        (EMPTY, TRUTH, 0.0, 0.0, 0.25),
        (EMPTY, FULL, 0.0, 0.0, 0.0),
        (FULL, FULL, 1.0, 1.0, 1.0),
        (TRUTH, TRUTH, 1.0, 1.0, 1.0),
        (~TRUTH, TRUTH, 0.0, 0.0, 0.0),
    ],
)
def test_empty_full_perfect_and_inverted_cases(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], overlap: float, f: float, e: float
) -> None:
    """Empty, full, perfect and inverted predictions score as the docstrings state."""
    counts = count_at(predicted, truth)

    assert iou(counts)[0] == overlap
    assert dice(counts)[0] == overlap
    assert f_measure(counts)[0] == f
    assert e_measure(counts)[0] == pytest.approx(e)
