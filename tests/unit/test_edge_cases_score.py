"""When an edge counts as done right."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cutray.evaluation.edge_cases import outline_level, score_edges

ROWS, COLUMNS = np.mgrid[0:120, 0:160].astype(np.float32)


def disc(radius_px: float = 40.0, column_px: float = 80.0) -> np.ndarray:
    return np.clip(radius_px - np.hypot(ROWS - 60, COLUMNS - column_px) + 0.5, 0, 1).astype(np.float32)


def test_the_truth_itself_is_done_right() -> None:
    """A perfect alpha has no error and the full score."""
    scores = score_edges(disc(), disc(), disc(42))
    assert scores.success
    assert scores.sad == scores.mse_band == scores.mae == 0
    assert scores.boundary_iou == scores.boundary_f == 1


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(cv2.GaussianBlur(disc(), (0, 0), 12), id="too soft for the band"),
        pytest.param(disc(46), id="outline six pixels off"),
        pytest.param(np.maximum(disc(), disc(14, 20)), id="a blob beside the subject"),
    ],
)
def test_each_fault_alone_is_enough(wrong: np.ndarray) -> None:
    """Band, outline and the rest of the picture must all be right."""
    assert score_edges(disc(40.4), disc(), disc(41)).success
    assert not score_edges(wrong, disc(), disc(41)).success


def test_one_percent_more_error_is_allowed() -> None:
    """An alpha may be slightly worse than the coarse one, and not more than slightly."""
    truth, coarse = disc(), disc(40.3)
    excess = coarse - truth
    assert score_edges(np.clip(truth + 1.005 * excess, 0, 1), truth, coarse).success
    assert not score_edges(np.clip(truth + 1.03 * excess, 0, 1), truth, coarse).success


def test_outlines_of_glass_lie_below_one_half() -> None:
    """A subject that is clear all over is still outlined, at half its own opacity."""
    glass = 0.2 * disc()
    assert outline_level(glass) == pytest.approx(0.1)
    assert outline_level(disc()) == outline_level(np.zeros((8, 8), np.float32)) == 0.5
    assert score_edges(glass, glass, glass).boundary_f == 1
    assert score_edges(0.2 * disc(30), glass, glass).boundary_f < 0.5


def test_hard_truths_are_judged_over_the_picture() -> None:
    """Without soft pixels there is no band, and the error of the whole picture counts."""
    truth = (disc() > 0.5).astype(np.float32)
    scores = score_edges(truth * 0.9, truth, truth * 0.9)
    assert scores.mse_band == scores.mse > 0
