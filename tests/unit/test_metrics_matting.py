"""Behaviour of the matting errors and the unknown band."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from cutray.evaluation.matting import alpha_errors, unknown_band
from tests.alphas import disc, soft_disc


def test_sad_and_mse_of_a_hand_computed_case() -> None:
    """Two of six pixels off by .5 and .25 give SAD .75 / 1000 and MSE (.25 + .0625) / 6 · 1000."""
    truth = np.zeros((2, 3), np.float32)
    alpha = np.array([[0.5, 0, 0], [0, 0.25, 0]], np.float32)

    whole, _ = alpha_errors(alpha, truth)

    assert whole.sad == pytest.approx(0.75e-3)
    assert whole.mse == pytest.approx(0.3125 / 6 * 1e3)


def test_gradient_of_a_ramp_is_its_slope() -> None:
    """A ramp of .01 per pixel against a flat truth adds .0001 per inner pixel."""
    flat = np.full((40, 60), 0.3, np.float32)
    ramp = np.tile(0.2 + 0.01 * np.arange(60, dtype=np.float32), (40, 1))

    whole, _ = alpha_errors(ramp, flat)

    inner_columns, border_columns = 60 - 2 * 6, 2 * 6
    low = 40 * inner_columns * 1e-4 / 1e3
    assert low < whole.grad < low + 40 * border_columns * 1e-4 / 1e3


def test_connectivity_of_a_detached_patch_is_computed_by_hand() -> None:
    """A detached patch of 4 px at .8 rises .8 above the level where it still joined, the truth's not at all."""
    truth = disc()
    alpha = truth.copy()
    alpha[2:4, 2:4] = 0.8

    whole, _ = alpha_errors(alpha, truth)

    assert whole.conn == pytest.approx(4 * 0.8e-3, rel=1e-5)


def test_connectivity_forgives_small_excess() -> None:
    """A detached patch below .15 costs nothing, although it adds to the absolute error."""
    truth = disc()
    alpha = truth.copy()
    alpha[2:4, 2:4] = 0.14

    whole, _ = alpha_errors(alpha, truth)

    assert whole.conn == 0.0
    assert whole.sad > 0


def test_band_is_a_diamond_around_soft_pixels() -> None:
    """One soft pixel in a small picture has a band of 5 steps to the four neighbours: 61 pixels."""
    truth = np.zeros((30, 30), np.float32)
    truth[15, 15] = 0.5

    band = unknown_band(truth)

    assert band.sum() == 61
    assert band[15, 20] and not band[15, 21] and not band[19, 19]


def test_band_grows_with_the_picture() -> None:
    """At 2000 px the band reaches 10 steps, 0.5 % of the longer side."""
    truth = np.zeros((40, 2000), np.float32)
    truth[20, 1000] = 0.5

    assert unknown_band(truth)[20].sum() == 21


def test_band_errors_ignore_what_lies_outside() -> None:
    """An error far from the soft edge counts for the whole picture only."""
    truth = soft_disc()
    alpha = truth.copy()
    alpha[:3, :3] = 1.0

    whole, band = alpha_errors(alpha, truth)

    assert whole.sad == pytest.approx(9e-3)
    assert (band.sad, band.mse, band.grad) == (0.0, 0.0, 0.0)


def test_hard_truths_have_no_band() -> None:
    """Without soft pixels the band errors are NaN and the others are measured."""
    whole, band = alpha_errors(soft_disc(), disc())

    assert all(math.isnan(value) for value in (band.sad, band.mse, band.grad, band.conn))
    assert whole.sad > 0


def test_perfect_is_zero_and_errors_grow_with_the_flaw() -> None:
    """The truth itself has no error, and softer and softer edges have more and more of each kind."""
    truth = soft_disc(softness=6)
    errors = [alpha_errors(soft_disc(softness=softness), truth)[0] for softness in (6, 12, 20, 32)]

    assert (errors[0].sad, errors[0].mse, errors[0].grad, errors[0].conn) == (0.0, 0.0, 0.0, 0.0)
    for before, after in pairwise(errors):
        assert before.sad < after.sad
        assert before.mse < after.mse
        assert before.grad < after.grad
        assert before.conn < after.conn


def test_inverted_is_worst() -> None:
    """The inverse of a hard truth is off by 1 everywhere."""
    truth = disc()

    whole, _ = alpha_errors(1 - truth, truth)

    assert whole.sad == pytest.approx(truth.size / 1e3)
    assert whole.mse == pytest.approx(1e3)
