"""What matting does with all of a photo's pixels, apart from the rest, so that another device may do it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import cv2
import numpy as np

from cutray.imaging.resize import SmallCopies
from cutray.matting.alpha import upsample_alpha
from cutray.parallel import run_parallel

# Small neighbouring tiles are done at once as long as they are no wider than this: more would not fit into the cache.
_PIECE_PX = 256


class FullSize(Protocol):
    """A photo at its full size. An engine that keeps photos on its device offers the same, see ``engines``."""

    def resize_area(self, rows: int, columns: int) -> np.ndarray:
        """Average the photo down, (rows, columns, 3) uint8."""

    def upsample(self, levelled: np.ndarray) -> np.ndarray:
        """Bring a levelled map (T, T) float32 to full size, (H, W) float32 in [0, 1]."""

    def guide(
        self, levelled: np.ndarray, fitted: np.ndarray, tiles: np.ndarray, tile_px: int, rounding: float
    ) -> np.ndarray:
        """Bring a levelled map to full size, and in some tiles take what colour models say instead.

        Args:
            levelled: (T, T) float32.
            fitted: (h, w, 4) float32, for each pixel of the photo made smaller the factors of red, green and blue
                in [0, 1], and the constant.
            tiles: (m, n) bool, squares of the smaller photo in which the models rule.
            tile_px: Side of a square in pixels of the smaller photo.
            rounding: What the models say within this of 0 or 1 is 0 or 1.

        Returns:
            (H, W) float32 in [0, 1].
        """


class FullSizeArray:
    """A photo at its full size, as an array."""

    def __init__(self, image: np.ndarray, copies: SmallCopies | None = None) -> None:
        """Keep the photo.

        Args:
            image: (H, W, 3) uint8.
            copies: Of this photo, for whoever computes several mattes of it.
        """
        self._image, self._copies = image, copies or SmallCopies()

    def resize_area(self, rows: int, columns: int) -> np.ndarray:
        """See ``FullSize.resize_area``."""
        return self._copies.area(self._image, rows, columns)

    def upsample(self, levelled: np.ndarray) -> np.ndarray:
        """See ``FullSize.upsample``."""
        return upsample_alpha(levelled, *self._image.shape[:2])

    def guide(
        self, levelled: np.ndarray, fitted: np.ndarray, tiles: np.ndarray, tile_px: int, rounding: float
    ) -> np.ndarray:
        """See ``FullSize.guide``."""
        full = self.upsample(levelled)

        def apply(row: list[tuple[slice, slice]]) -> None:
            for down, across in row:
                full[down, across] = _apply(fitted, self._image[down, across], down, across, full.shape, rounding)

        run_parallel(partial(apply, row) for row in _chosen_tiles(tiles, tile_px, fitted.shape[:2], full.shape))
        return full


def _chosen_tiles(
    tiles: np.ndarray, tile_px: int, small: tuple[int, ...], full: tuple[int, ...]
) -> Iterator[list[tuple[slice, slice]]]:
    """Yield where the chosen tiles of the smaller photo are in the full one, row by row; small neighbours are one."""
    edges = [_tile_edges(tile_px, few, many) for few, many in zip(small[:2], full[:2], strict=True)]
    together = max(1, _PIECE_PX * small[1] // (tile_px * full[1]))
    for row, chosen in enumerate(tiles):
        down = slice(*edges[0][row : row + 2])
        ends = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).tolist()
        yield [
            (down, slice(edges[1][first], edges[1][min(first + together, stop)]))
            for start, stop in zip(ends[::2], ends[1::2], strict=True)
            for first in range(start, stop, together)
        ]


def _tile_edges(tile_px: int, small_px: int, full_px: int) -> list[int]:
    """Return where tiles of a side of the smaller photo begin and end in the full one, in pixels."""
    return [min(start, small_px) * full_px // small_px for start in range(0, small_px + tile_px, tile_px)]


def _apply(
    fitted: np.ndarray, pixels: np.ndarray, down: slice, across: slice, shape: tuple[int, ...], rounding: float
) -> np.ndarray:
    """Evaluate the colour models, read between their centres, on some of the photo's pixels."""
    rows, columns = fitted.shape[:2]
    at_y = ((np.arange(down.start, down.stop) + 0.5) * (rows / shape[0]) - 0.5).astype(np.float32)
    at_x = ((np.arange(across.start, across.stop) + 0.5) * (columns / shape[1]) - 0.5).astype(np.float32)
    grid = np.broadcast_to(at_x, pixels.shape[:2]), np.broadcast_to(at_y[:, None], pixels.shape[:2])
    terms = cv2.remap(
        fitted,
        np.ascontiguousarray(grid[0]),
        np.ascontiguousarray(grid[1]),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    # The constant's pixel is 255 everywhere.
    terms = cv2.multiply(terms, cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA), dtype=cv2.CV_32F)
    alpha = cv2.transform(terms, np.full((1, 4), 1 / 255, np.float32))
    return np.asarray(np.clip((alpha - rounding) / (1.0 - 2.0 * rounding), 0.0, 1.0), dtype=np.float32)
