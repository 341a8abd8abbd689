"""Behaviour of S-measure and weighted F-measure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cutray.evaluation.structure import s_measure, weighted_f
from tests.alphas import disc, perturb, scene


def test_s_measure_of_a_constant_map_is_computed_by_hand() -> None:
    """A flat map of .5 keeps half of its object score and none of the region score where the truth varies."""
    truth = np.zeros((4, 4), bool)
    truth[:2, :2] = True
    alpha = np.full((4, 4), 0.5, np.float32)
    objects = 2 * 0.5 / (0.25 + 1)
    # The centroid (.5, .5) rounds to 0, so the cut leaves one subject pixel alone in the upper left part.
    # That pixel is flat in both maps and scores 1; the three mixed parts do not correlate and score 0.
    regions = 1 / 16

    assert s_measure(alpha, truth) == pytest.approx(0.5 * objects + 0.5 * regions)


def test_s_measure_of_empty_and_full_truths_is_the_mean() -> None:
    """An empty truth scores the mean of what is not predicted, a full one the mean of what is."""
    alpha = np.full((3, 5), 0.2, np.float32)

    assert s_measure(alpha, np.zeros((3, 5), bool)) == pytest.approx(0.8)
    assert s_measure(alpha, np.ones((3, 5), bool)) == pytest.approx(0.2)


def test_s_measure_of_the_truth_itself_is_one() -> None:
    """A perfect map has every part alike, wherever the centroid lies."""
    for seed in range(5):
        truth = scene(seed)
        assert s_measure(truth, truth > 0) == pytest.approx(1.0)


def test_s_measure_with_the_subject_in_the_last_corner_is_finite() -> None:
    """A centroid in the last row and column leaves empty quadrants, which weigh nothing."""
    truth = np.zeros((6, 6), bool)
    truth[5, 5] = True

    assert s_measure(truth.astype(np.float32), truth) == pytest.approx(1.0)


def test_weighted_f_of_a_far_false_alarm_is_computed_by_hand() -> None:
    """One wrong pixel 10 px away costs 2 − .5^(10/5) background pixels."""
    truth = np.zeros((1, 40), bool)
    truth[0, :20] = True
    alpha = truth.astype(np.float32)
    alpha[0, 29] = 1.0
    precision = 20 / (20 + 2 - 0.5**2)

    assert weighted_f(alpha, truth) == pytest.approx(2 * precision / (1 + precision))


def test_weighted_f_of_a_uniform_miss_is_computed_by_hand() -> None:
    """A full truth seen at .6 throughout misses .4, less where the window reaches beyond the picture."""
    truth = np.ones((1, 101), bool)
    alpha = np.full((1, 101), 0.6, np.float32)
    weights = [math.exp(-(step**2) / 50) for step in range(-3, 4)]
    # Of the 7x7 window only the middle row lies in the picture.
    middle_row = weights[3] / sum(weights)
    ends = sum(sum(weights[3 - left :]) / sum(weights) for left in range(3)) * 2
    error = 0.4 * middle_row * (95 + ends)
    recall = 1 - error / 101

    assert weighted_f(alpha, truth) == pytest.approx(2 * recall / (1 + recall), abs=1e-6)


def test_weighted_f_of_empty_truths() -> None:
    """An empty truth scores 1 for an empty alpha and 0 for any other."""
    empty = np.zeros((4, 4), bool)
    speck = np.zeros((4, 4), np.float32)
    speck[1, 1] = 0.1

    assert weighted_f(np.zeros((4, 4), np.float32), empty) == 1.0
    assert weighted_f(speck, empty) == 0.0


def test_perfect_is_best_and_inverted_is_worst() -> None:
    """The truth scores 1 and its inverse scores below every perturbation of it."""
    for seed in range(4):
        truth = scene(seed)
        mask = truth > 0
        assert weighted_f(truth, mask) == pytest.approx(1.0)
        assert weighted_f(1 - truth, mask) < 1e-3
        assert s_measure(1 - truth, mask) < s_measure(perturb(truth, seed), mask) < 1


def test_weighted_f_prefers_errors_near_the_subject() -> None:
    """The same false blob costs more when it lies farther from the subject."""
    truth = disc()
    near, far = truth.copy(), truth.copy()
    near[55:60, 122:127] = 1
    far[2:7, 2:7] = 1

    assert weighted_f(far, truth > 0) < weighted_f(near, truth > 0) < 1
