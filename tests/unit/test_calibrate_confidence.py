"""The fit of the confidence: it finds the curve that data follow, and its measure of error is right."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("click")

from cutray.matting.matte import calibrate
from pipelines.calibrate_confidence.cli import Scored, _fit, calibration_error


def test_the_error_is_the_mean_gap_over_bins() -> None:
    """Two bins: four photos .05 too sure, one that is right."""
    confidences = np.array([0.95, 0.95, 0.95, 0.95, 0.55])
    outcomes = np.array([1.0, 1.0, 0.8, 0.8, 0.55])
    assert calibration_error(confidences, outcomes) == pytest.approx(0.04)
    assert calibration_error(outcomes, outcomes) == 0


def test_the_curve_that_data_follow_is_found() -> None:
    """Overlaps drawn around a known curve give its two numbers back, and a smaller error."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.4, 0.99, 400)
    ious = [np.clip(calibrate(score, -0.3, 0.7) + rng.normal(0, 0.05), 0, 1) for score in scores]
    scored = [Scored(str(n), float(score), float(iou)) for n, (score, iou) in enumerate(zip(scores, ious, strict=True))]
    intercept, slope = _fit(scored)
    assert (intercept, slope) == pytest.approx((-0.3, 0.7), abs=0.05)
    after = np.array([calibrate(float(score), intercept, slope) for score in scores])
    assert calibration_error(after, np.array(ious)) < 0.02 < calibration_error(scores, np.array(ious))


def test_halves_follow_from_names() -> None:
    """A photo stays in its half whatever else is measured, and both halves are about as large."""
    held_out = [Scored(f"ecssd/{number:04}", 0.9, 0.9).held_out for number in range(400)]
    assert held_out == [Scored(f"ecssd/{number:04}", 0.5, 0.1).held_out for number in range(400)]
    assert 150 < sum(held_out) < 250
