"""The parts of a picture that some pixels depend on, laid side by side, so that nothing else is computed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Sides of the squares that are tried: small ones leave out more, large ones repeat less of what surrounds them.
_SIDES_PX = (16, 32)
# Above this share of the picture's pixels, laying them out costs more than it saves.
_WORTH_IT = 0.8


class Atlas:
    """Squares of a picture that cover some pixels, each with what surrounds it; or the whole picture if that is less.

    Where one square meets the next, windows see pixels that are no neighbours. What is computed there is of no use, and
    is not used: each pixel is read where it has all of its surroundings.

    Attributes:
        inside: (h, w) bool, the cells that hold a pixel of the picture.
    """

    def __init__(self, wanted: NDArray[np.bool_], reach_px: int, margin_px: int = 0) -> None:
        """Choose the squares.

        Args:
            wanted: (H, W) bool, the pixels that are wanted; at least one.
            reach_px: How far from a pixel the pixels are that it depends on.
            margin_px: The pixels as near as this to wanted ones are wanted, too.
        """
        covers = [_Cover(wanted, side, reach_px + margin_px) for side in _SIDES_PX]
        best = min(covers, key=lambda cover: cover.cells)
        if margin_px:
            wanted = cv2.dilate(wanted.astype(np.uint8), np.ones((2 * margin_px + 1,) * 2, np.uint8)) > 0
        self._pixels = self._where = np.flatnonzero(wanted)
        self._numbers: NDArray[np.intp] | None = None
        self.inside = np.ones(wanted.shape, np.bool_)
        order = np.full(wanted.size + 1, len(self._pixels), np.intp)
        order[self._pixels] = np.arange(len(self._pixels))
        if best.cells < _WORTH_IT * wanted.size:
            self._numbers = best.number_cells()
            self._where = best.find_cells(self._numbers, reach_px)[self._pixels]
            self.inside = self._numbers < wanted.size
            self._order = order[self._numbers]
        else:
            self._order = order[:-1].reshape(wanted.shape)

    def lay(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lay the squares of an (H, W) picture side by side, 0 where they reach beyond it."""
        if self._numbers is None:
            return plane
        return np.asarray(np.append(plane, plane.dtype.type(0))[self._numbers])

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lay out a picture that is 0 but for the wanted pixels, which have these values, in the order of ``take``."""
        return np.asarray(np.append(values, values.dtype.type(0))[self._order])

    def read(self, laid: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the wanted pixels have in squares that are laid side by side."""
        return np.asarray(laid.ravel()[self._where])

    def take(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the values of the wanted pixels in an (H, W) picture, row by row."""
        return np.asarray(plane.ravel()[self._pixels])

    def put(self, plane: NDArray[np.float32], values: NDArray[np.float32]) -> None:
        """Write the values of the wanted pixels into an (H, W) picture."""
        plane.reshape(-1)[self._pixels] = values


class _Cover:
    """Squares of one size.

    Attributes:
        cells: Cells of all squares with what surrounds them.
    """

    def __init__(self, wanted: NDArray[np.bool_], side_px: int, reach_px: int) -> None:
        """Find the squares that hold a wanted pixel."""
        self._shape, self._side, self._reach = wanted.shape, side_px, reach_px
        starts = [np.arange(0, length, side_px) for length in wanted.shape]
        used = np.logical_or.reduceat(np.logical_or.reduceat(wanted, starts[0], axis=0), starts[1], axis=1)
        self._rows, self._columns = np.nonzero(used)
        self._whole = side_px + 2 * reach_px
        self.cells = len(self._rows) * self._whole**2

    def number_cells(self) -> NDArray[np.intp]:
        """Return the number of each cell's pixel, (whole, squares x whole); outside, that after the last pixel's."""
        height, width = self._shape
        steps = np.arange(self._whole) - self._reach
        down = self._rows * self._side + steps[:, None]
        across = self._columns[:, None] * self._side + steps
        outside = (down < 0) | (down >= height)
        numbers = down[:, :, None] * width + across
        numbers[outside[:, :, None] | ((across < 0) | (across >= width))] = height * width
        return np.asarray(numbers.reshape(self._whole, -1))

    def find_cells(self, numbers: NDArray[np.intp], reach_px: int) -> NDArray[np.intp]:
        """Return for each pixel of the picture a cell that has all its surroundings; 0 where there is none."""
        whole = numbers.reshape(self._whole, -1, self._whole)
        cells = np.arange(numbers.size).reshape(whole.shape)
        own = np.s_[reach_px : self._whole - reach_px]
        found = np.zeros(self._shape[0] * self._shape[1] + 1, np.intp)
        found[whole[own, :, own]] = cells[own, :, own]
        return found
