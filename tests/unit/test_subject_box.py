"""Where the subject is, and what a crop leaves."""

from __future__ import annotations

import numpy as np
import pytest

from cutray.imaging.subject_box import crop_box, find_subject_box


def _block() -> np.ndarray:
    """Return alpha of 100 x 200 with an opaque block at left 50, top 20, right 90, bottom 40."""
    alpha = np.zeros((100, 200), np.float32)
    alpha[20:40, 50:90] = 1
    return alpha


@pytest.mark.parametrize(
    ("margin", "box"),
    [
        ("0", (50, 20, 90, 40)), ("5", (45, 15, 95, 45)), ("5px", (45, 15, 95, 45)), ("10%", (46, 16, 94, 44)),
        ("2.5%", (49, 19, 91, 41)), ("30px", (20, 0, 120, 70)), ("1000px", (0, 0, 200, 100)),
        ("1 2 3 4", (46, 19, 92, 43)), ("5%,10px", (40, 18, 100, 42)),
    ],
)  # fmt: skip
def test_box_with_margin(margin: str, box: tuple[int, int, int, int]) -> None:
    """A margin widens the box on all sides, percent of the longer side, and ends at the picture's border."""
    assert crop_box(_block(), margin)[0] == box


def test_box_ignores_haze() -> None:
    """What is all but invisible does not widen the box."""
    assert find_subject_box(np.maximum(_block(), np.float32(0.01))) == (50, 20, 90, 40)


def test_box_of_nothing_is_the_whole_picture() -> None:
    """An empty alpha channel is not cropped."""
    assert crop_box(np.zeros((30, 40), np.float32), "5%")[0] == (0, 0, 40, 30)
