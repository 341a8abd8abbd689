"""Detecting edge cases: verdicts, reasons, the map, and the fit behind them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cutray.data.synthetic import draw_scene
from cutray.errors import InputError
from cutray.matting.detect import EDGE_CASES, detect_edge_cases, feature_contributions, load_detector
from cutray.matting.edge_map import draw_edge_map
from cutray.matting.features import TILES
from pipelines.fit_edge_detector.logistic import area_under_curve, fit_logistic, level_for_precision


def scene(case: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = draw_scene(case, np.random.default_rng([5, seed]), 400, 480, difficulty=0.2)
    # A network that finds the whole subject, a little softly, whatever it is made of.
    return drawn.image, cv2.GaussianBlur(0.97 * (drawn.alpha > 0.03).astype(np.float32), (0, 0), 1.5)


def test_cases_score_higher_on_their_own_scenes() -> None:
    """With the true outline for the network's map, each case's mean score is highest on its own scenes."""
    drawn = {other: [detect_edge_cases(*scene(other, seed)).scores for seed in range(6)] for other in EDGE_CASES}
    for case in EDGE_CASES:
        means = {other: np.mean([scores[case] for scores in drawn[other]]) for other in EDGE_CASES}
        assert max(means, key=means.__getitem__) == case, (case, means)


def test_an_empty_scene_has_no_edge_case() -> None:
    """Where the network notices nothing, nothing is detected or explained."""
    found = detect_edge_cases(np.full((100, 120, 3), 128, np.uint8), np.zeros((320, 320), np.float32))
    assert found.present == () and set(found.scores.values()) == {0.0}
    assert not found.locate().any() and not any(feature_contributions(found).values())


def test_reasons_add_up_to_the_score() -> None:
    """The contributions and the bias are the logit, and they come strongest first."""
    found = detect_edge_cases(*scene("texture", 1))
    for index, (case, reasons) in enumerate(feature_contributions(found, 1000).items()):
        logit = sum(reason.contribution for reason in reasons) + float(load_detector().whole.bias[index])
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(found.scores[case], abs=1e-3)
        sizes = [abs(reason.contribution) for reason in reasons]
        assert sizes == sorted(sizes, reverse=True)


def test_verdicts_follow_the_levels() -> None:
    """A case is present exactly where its score reaches its level."""
    for seed, case in enumerate(EDGE_CASES):
        found = detect_edge_cases(*scene(case, seed))
        where = found.locate()
        assert where.shape == (TILES, TILES, 4) and where.dtype == np.float32
        assert where.min() >= 0 and where.max() <= 1
        for name, level in load_detector().levels.items():
            assert (name in found.present) == (found.scores[name] >= level)


def test_map_shows_photo_and_reasons() -> None:
    """The drawing holds the photo's copy and a panel, and differs with what was found."""
    image, alpha = scene("fine_detail", 2)
    drawn = draw_edge_map(image, detect_edge_cases(image, alpha))
    assert drawn.dtype == np.uint8 and drawn.shape[1] > image.shape[1]
    nothing = draw_edge_map(image, detect_edge_cases(image, np.zeros_like(alpha)))
    assert not np.array_equal(drawn[:100, :100], nothing[:100, :100]) or not np.array_equal(drawn, nothing)


def test_wrong_arrays_are_refused() -> None:
    """Grey pictures and stacks of maps are errors that say what is allowed."""
    with pytest.raises(InputError) as caught:
        detect_edge_cases(np.zeros((10, 10), np.uint8), np.zeros((320, 320), np.float32))
    assert "(H, W, 3)" in caught.value.allowed


def test_logistic_fit_finds_the_truth() -> None:
    """Known coefficients are recovered, and unknown labels do not count."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((4000, 3))
    true = np.array([1.5, -1.0, 0.0])
    labels = (rng.random(4000) < 1 / (1 + np.exp(-(inputs @ true + 0.5)))).astype(float)
    labels[:500] = np.nan
    weights, bias = fit_logistic(inputs, labels, ridge=1e-4)
    assert np.allclose(weights, true, atol=0.15) and bias == pytest.approx(0.5, abs=0.15)


def test_scores_are_read_as_they_should() -> None:
    """AUC and the level for a precision, by hand."""
    scores, labels = np.array([0.9, 0.8, 0.7, 0.3]), np.array([True, True, False, True])
    assert area_under_curve(scores, labels) == pytest.approx(2 / 3)
    assert level_for_precision(scores, labels, 0.9, 0.75) == 0.8
    assert level_for_precision(scores, labels, 0.7, 0.75) == 0.3
    assert level_for_precision(scores, labels, 0.7, 0.1) == 0.8
    assert level_for_precision(scores, ~labels, 0.9, 0.25) > 1
    assert np.isnan(area_under_curve(scores, np.ones(4, bool)))
