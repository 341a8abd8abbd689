"""How much of the background inside a subject stays open."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cutray.evaluation.edge_cases import score_edges
from cutray.evaluation.holes import find_holes, holes_open
from cutray.evaluation.metrics import score
from tests.alphas import disc

ROWS, COLUMNS = np.mgrid[0:200, 0:200]


def _ring(inner_px: float = 30, outer_px: float = 60, column_px: float = 100) -> np.ndarray:
    """Draw a ring, (200, 200) bool."""
    distance = np.hypot(ROWS - 100, COLUMNS - column_px)
    return np.asarray((distance <= outer_px) & (distance > inner_px))


def test_a_ring_has_one_hole_and_its_area_counts() -> None:
    """The hole is the inner disc; filling its left half leaves half of it open."""
    ring = _ring()
    hole = np.hypot(ROWS - 100, COLUMNS - 100) <= 30
    assert np.array_equal(find_holes(ring), hole)
    assert holes_open(ring, ring) == 1
    assert holes_open(ring | hole, ring) == 0
    assert holes_open(ring | (hole & (COLUMNS < 100)), ring) == pytest.approx(0.5, abs=0.02)


def test_what_reaches_the_frame_is_no_hole() -> None:
    """A ring that the frame cuts open encloses nothing, and neither does a solid disc: the score is not defined."""
    assert math.isnan(holes_open(_ring(), _ring(column_px=15)))
    assert math.isnan(score(disc(), disc()).holes_open)


def test_a_frayed_outline_is_full_of_no_holes() -> None:
    """A single pixel is none in 200 × 200, where two are the least."""
    mask = _ring(inner_px=-1)
    mask[100, 100] = False
    assert not find_holes(mask).any()
    mask[100, 101] = False
    assert find_holes(mask).sum() == 2


def test_pictures_and_edges_are_scored_alike() -> None:
    """The score of a picture and that of a drawn scene are this one."""
    truth = _ring().astype(np.float32)
    filled = _ring(inner_px=-1).astype(np.float32)
    assert score(filled, truth).holes_open == score_edges(filled, truth, truth).holes_open == 0
