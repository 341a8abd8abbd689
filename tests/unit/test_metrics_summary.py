"""Behaviour of a picture's scores, their means and the bootstrap interval."""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest

from cutray.errors import InputError, ShapeMismatchError
from cutray.evaluation.metrics import score, summarise
from cutray.evaluation.uncertainty import bootstrap_interval
from tests.alphas import disc, perturb, scene, soft_disc

ERRORS = {"missing", "extra", "mae", "mae_binary", "sad", "mse", "grad", "conn"}


def test_perfect_prediction_has_the_best_value_everywhere() -> None:
    """A hard truth scored against itself is 1 or, for errors, 0; a disc has neither an unknown band nor a hole."""
    scores = score(disc(), disc()).numbers()

    for name, value in scores.items():
        if name.endswith("_band") or name == "holes_open":
            assert math.isnan(value)
        else:
            assert value == pytest.approx(0.0 if name in ERRORS else 1.0, abs=1e-6), name


def test_soft_truth_stays_soft_for_mae_but_not_for_overlap() -> None:
    """The binarised truth has full overlap with a soft truth, yet an error remains."""
    truth = soft_disc()

    scores = score((truth > 0.5).astype(np.float32), truth)

    assert scores.iou == 1.0
    assert scores.mae > 0
    assert scores.mae_binary == 0.0
    assert scores.sad_band == pytest.approx(scores.sad)


def test_a_faint_answer_is_never_stretched() -> None:
    """An alpha of at most .2 has no overlap at .5, although its shape is right."""
    assert score(disc() * np.float32(0.2), disc()).iou == 0.0


def test_shuffled_pairs_score_worse() -> None:
    """Predictions scored against other pictures' truths lose on every summary number."""
    truths = [scene(seed) for seed in range(6)]
    predictions = [perturb(truth, seed) for seed, truth in enumerate(truths)]
    right = summarise([score(alpha, truth) for alpha, truth in zip(predictions, truths, strict=True)])
    shuffled = [*truths[1:], truths[0]]
    wrong = summarise([score(alpha, truth) for alpha, truth in zip(predictions, shuffled, strict=True)])

    for name in right.keys() - {"n", "n_soft", "holes_open"} - {key for key in right if key.endswith("_band")}:
        # The gradient error of a blurred edge barely depends on where the edge is.
        if name != "grad":
            assert (right[name] < wrong[name]) == (name in ERRORS), name


def test_scores_fall_as_a_shift_grows() -> None:
    """Each larger shift of the subject is worse by every measure of place."""
    truth = disc()
    steps = [score(disc(shift=float(shift)), truth) for shift in (0, 2, 5, 12, 30)]

    for before, after in pairwise(steps):
        for name in ("iou", "dice", "weighted_f", "s_measure", "e_adaptive", "f_adaptive", "boundary_iou"):
            assert getattr(after, name) < getattr(before, name), name
        assert after.mae > before.mae


def test_blur_lowers_weighted_f_and_raises_mae() -> None:
    """A blurred mask keeps its overlap at .5 and loses where soft values count."""
    truth = disc()
    blurred = [score(cv2.GaussianBlur(truth, (0, 0), sigma).astype(np.float32), truth) for sigma in (1.0, 3.0, 6.0)]

    assert [entry.weighted_f for entry in blurred] == sorted((entry.weighted_f for entry in blurred), reverse=True)
    assert [entry.mae for entry in blurred] == sorted(entry.mae for entry in blurred)


def test_empty_truths_and_predictions() -> None:
    """Both empty scores 1, one empty scores 0 for overlap and edges."""
    empty = np.zeros((40, 50), np.float32)
    both, false_alarm, miss = score(empty, empty), score(disc(40, 50, 10), empty), score(empty, disc(40, 50, 10))

    for name in ("iou", "dice", "boundary_iou", "boundary_iou_fine", "boundary_f_3px", "weighted_f", "f_adaptive"):
        assert getattr(both, name) == 1.0, name
        assert getattr(false_alarm, name) == 0.0, name
        assert getattr(miss, name) == 0.0, name
    assert both.s_measure == both.e_adaptive == 1.0
    assert both.mae == 0.0


def test_max_f_is_the_maximum_of_the_mean_curve() -> None:
    """Two pictures that are best at different thresholds have a lower max F than the mean of their maxima."""
    low = score(disc() * np.float32(0.3), disc())
    high = score(np.maximum(disc(), np.float32(0.6)), disc())

    summary = summarise([low, high])

    assert low.f_curve.max() == pytest.approx(1.0)
    assert high.f_curve.max() == pytest.approx(1.0)
    assert summary["f_max"] == pytest.approx(((low.f_curve + high.f_curve) / 2).max())
    assert summary["f_max"] < 0.9
    assert summary["n"] == 2


def test_band_errors_are_averaged_over_soft_truths_only() -> None:
    """A hard truth neither counts nor poisons the mean of the band errors."""
    soft = score(disc(), soft_disc())
    hard = score(soft_disc(), disc())

    summary = summarise([soft, hard])

    assert summary["sad_band"] == soft.sad_band
    assert summary["n_soft"] == 1
    assert summary["sad"] == pytest.approx((soft.sad + hard.sad) / 2)


def test_double_precision_and_single_precision_agree() -> None:
    """The type of the float array does not change a score."""
    truth, alpha = scene(1), perturb(scene(1), 1)

    assert score(alpha.astype(np.float64), truth.astype(np.float64)).numbers() == pytest.approx(
        score(alpha, truth).numbers(), nan_ok=True
    )


@pytest.mark.parametrize(
    "alpha",
    [
        np.full((4, 4), 255, np.float32),
        np.full((4, 4), -0.1, np.float32),
        np.full((4, 4), np.nan, np.float32),
        np.zeros((4, 4, 1), np.float32),
        np.zeros((0, 4), np.float32),
    ],
)
def test_arrays_that_are_no_alpha_are_refused(alpha: np.ndarray) -> None:
    """Values outside [0,1], NaN and wrong shapes raise instead of giving a number."""
    with pytest.raises(InputError):
        score(alpha, np.zeros((4, 4), np.float32))


def test_different_sizes_are_refused() -> None:
    """An alpha at another size raises and names both shapes."""
    with pytest.raises(ShapeMismatchError, match=r"\(4, 5\).*\(4, 4\)"):
        score(np.zeros((4, 5), np.float32), np.zeros((4, 4), np.float32))


def test_no_scores_are_refused() -> None:
    """The mean of nothing raises."""
    with pytest.raises(InputError):
        summarise([])


def test_bootstrap_covers_the_mean_about_as_often_as_promised() -> None:
    """Of 200 samples of a normal variable, about 95 % have the true mean inside their interval."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(0.7, 0.1, 60), resamples=300)
        covered += low <= 0.7 <= high

    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_is_repeatable_and_narrows_with_more_pictures() -> None:
    """Equal seeds give equal intervals, and a hundred times the pictures a tenth of the width."""
    values = np.random.default_rng(1).random(10_000)
    few, many = bootstrap_interval(values[:100]), bootstrap_interval(values)

    assert bootstrap_interval(values[:100]) == few
    assert bootstrap_interval(values[:100], seed=1) != few
    assert 0.05 < (many[1] - many[0]) / (few[1] - few[0]) < 0.2


def test_bootstrap_of_constant_missing_and_bad_input() -> None:
    """A constant has no spread, no values have no interval, and impossible settings raise."""
    assert bootstrap_interval([0.5, 0.5, float("nan")]) == (0.5, 0.5)
    assert all(math.isnan(end) for end in bootstrap_interval([float("nan")]))
    with pytest.raises(InputError):
        bootstrap_interval([0.5], level=1.0)
