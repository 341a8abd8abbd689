"""Marks on a photo, brought to the grid of a network's map."""

from __future__ import annotations

import numpy as np
import pytest

from cutray.matting.marks import Marks


@pytest.mark.parametrize("grid", [(320, 320), (100, 400), (40, 1500), (600, 1500), (300, 1200)])
def test_no_mark_is_lost_on_any_grid(grid: tuple[int, int]) -> None:
    """Thin strokes stay where one side of the grid is smaller than the photo's and the other larger."""
    height, width = 300, 1200
    strokes = {"down": np.s_[20:280, 601:603], "across": np.s_[151:152, 30:1100], "dot": np.s_[77:78, 333:334]}
    for name, stroke in strokes.items():
        mask = np.zeros((height, width), bool)
        mask[stroke] = True
        cells = Marks(mask).downscale(*grid)
        assert cells.shape == grid and cells.dtype == bool
        rows, columns = np.nonzero(cells)
        assert rows.size, name
        # Each cell lies where the stroke is.
        for found, length, marked, side in zip((rows, columns), grid, np.nonzero(mask), mask.shape, strict=True):
            assert found.max() / length < (marked.max() + 1) / side, name
            assert (found.min() + 1) / length > marked.min() / side, name
