"""Behaviour of boundary IoU and boundary accuracy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cutray.evaluation.boundary import boundary_accuracy, fine_boundary_iou, wide_boundary_iou
from tests.alphas import disc

EMPTY = np.zeros((60, 80), bool)


def square(top: int, left: int, side: int) -> np.ndarray:
    """Draw a square in a 60 x 80 picture."""
    mask = EMPTY.copy()
    mask[top : top + side, left : left + side] = True
    return mask


def test_wide_band_of_a_hand_computed_case() -> None:
    """A diagonal of 100 px gives bands of 2 px: 144 against 112 pixels share 68 of 188."""
    truth, predicted = square(10, 10, 20), square(10, 10, 16)
    band = 20 * 20 - 16 * 16
    predicted_band = 16 * 16 - 12 * 12
    # Common are the two outer arms: rows 10–11 and columns 10–11 of the smaller square.
    common = 2 * 16 + 2 * 14

    assert (band, predicted_band) == (144, 112)
    assert wide_boundary_iou(predicted, truth) == pytest.approx(common / (band + predicted_band - common))


def test_fine_band_is_one_pixel_wide_on_small_pictures() -> None:
    """A square against one that is larger by a pixel on two sides shares the two other sides."""
    truth, predicted = square(10, 10, 10), square(10, 10, 11)
    common = 10 + 9

    assert fine_boundary_iou(predicted, truth) == pytest.approx(common / (36 + 40 - common))


def test_the_frame_counts_as_an_edge_of_the_band() -> None:
    """A full picture has a band along its frame."""
    full = ~EMPTY
    hollow = full.copy()
    hollow[2:-2, 2:-2] = False

    assert wide_boundary_iou(full, full) == 1.0
    assert wide_boundary_iou(hollow, full) == 1.0


def test_empty_masks() -> None:
    """Two empty masks agree and one empty mask does not."""
    mask = square(10, 10, 20)

    for compare in (wide_boundary_iou, fine_boundary_iou):
        assert compare(EMPTY, EMPTY) == 1.0
        assert compare(mask, EMPTY) == 0.0
        assert compare(EMPTY, mask) == 0.0
    assert set(boundary_accuracy(EMPTY, EMPTY).values()) == {1.0}
    assert set(boundary_accuracy(mask, EMPTY).values()) == {0.0}
    assert set(boundary_accuracy(EMPTY, mask).values()) == {0.0}


def test_a_full_picture_has_no_edge() -> None:
    """The frame is no edge for the boundary accuracy, so two full masks agree trivially."""
    assert set(boundary_accuracy(~EMPTY, ~EMPTY).values()) == {1.0}


def test_boundary_accuracy_counts_a_shift_by_its_distance() -> None:
    """A half plane that ends 3 px too far is right within 3 px and wrong within 2 px."""
    truth, predicted = EMPTY.copy(), EMPTY.copy()
    truth[:, :40] = True
    predicted[:, :43] = True

    assert boundary_accuracy(predicted, truth) == {1: 0.0, 2: 0.0, 3: 1.0, 5: 1.0}


def test_boundary_accuracy_weighs_precision_by_beta() -> None:
    """A second edge of equal length halves the precision only."""
    truth, predicted = EMPTY.copy(), EMPTY.copy()
    truth[:, :40] = True
    predicted[:, :40] = True
    predicted[:, 70:] = True

    expected = 1.3 * 0.5 * 1 / (0.3 * 0.5 + 1)
    assert boundary_accuracy(predicted, truth)[1] == pytest.approx(expected)


def test_scores_fall_as_the_mask_grows() -> None:
    """Each further pixel of dilation lowers every edge score, and perfect is best."""
    truth = disc() > 0
    grown = [disc(radius=35 + step) > 0 for step in range(5)]
    wide = [wide_boundary_iou(mask, truth) for mask in grown]
    fine = [fine_boundary_iou(mask, truth) for mask in grown]
    within_two = [boundary_accuracy(mask, truth)[2] for mask in grown]

    assert wide[0] == fine[0] == within_two[0] == 1.0
    assert all(after < before for before, after in pairwise(wide))
    assert all(after <= before for before, after in pairwise(fine))
    assert all(after <= before for before, after in pairwise(within_two))
    assert within_two[-1] < 0.5
