"""Edges from the photo's own colours: where the network's map is soft, alpha is re-solved and followed to full size.

The network's cells are several pixels wide in most photos, so strands, fur and crisp outlines are a blur in its
map. The photo has more detail, as long as subject and background differ in colour; the map counts everywhere,
and the last word deep inside wide patches of doubt, where colour alone would only guess.
"""

from __future__ import annotations

import cv2
import numpy as np

from cutray.matting.alpha import upsample_alpha
from cutray.matting.atlas import Atlas
from cutray.matting.closed_form import RADIUS_PX, LocalColors, solve_unknown, split_planes
from cutray.matting.full_size import FullSize, FullSizeArray
from cutray.parallel import run_both

# Where a cell of the map is this many pixels wide, colours begin to help, and from the second value on they rule.
_HELPFUL_CELL_PX, _NEEDED_CELL_PX = 1.0, 2.0
# The soft pixels of the map are widened by this many cells: an outline may lie a little beside the map's.
_WIDENING_CELLS = 0.5
# Weight of the map against the colours: a base, more (up to a factor) where the map is sure or no known pixel is near.
_PRIOR_WEIGHT, _SURE_FACTOR, _DEPTH_CELLS = 3e-3, 10.0, 1.5
# Windows of the colour models that bring the solved alpha to full size; small, to keep thin detail.
_UPSAMPLE_RADIUS_PX = 1
# Less than this from 0 or 1 is rounding of the models, not opacity.
_ROUNDING = 0.01
# Full size is done in squares of so many solved pixels, and only near unknown pixels.
_TILE_PX, _TILE_MARGIN_PX = 32, 4


def matte_edges(
    levelled: np.ndarray, cells: int, image: np.ndarray, work_side_px: float, pixels: FullSize | None = None
) -> np.ndarray:
    """Bring a levelled map to the photo's size along the photo's own edges.

    Args:
        levelled: (T, T) float32, from ``rescale_probs``: 0 and below is background, 1 and above is subject.
        cells: Cells along a side of the frame in the network's eyes.
        image: (H, W, 3) uint8, sRGB.
        work_side_px: Side of a square with as many pixels as alpha is solved on; larger photos are shrunk.
        pixels: The photo where its full size is worked on; None works on ``image``.

    Returns:
        (H, W) float32 in [0, 1]; exactly 0 or 1 wherever the map is and no unknown pixel is near.

    Source: closed-form matting (see ``closed_form``); the way to full size is the upsampling of local linear models
    of He and Sun 2015, "Fast Guided Filter".
    """
    pixels = pixels or FullSizeArray(image)
    height, width = image.shape[:2]
    area_side = float(np.sqrt(height * width))
    scale = min(1.0, work_side_px / area_side)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    coarse = upsample_alpha(levelled, rows, columns)
    cell_px = area_side / cells
    blend = np.clip((cell_px - _HELPFUL_CELL_PX) / (_NEEDED_CELL_PX - _HELPFUL_CELL_PX), 0.0, 1.0)
    unknown = _unknown_pixels(coarse, cell_px * scale)
    if blend == 0 or not unknown.any() or not (coarse[~unknown] == 0).any() or not (coarse[~unknown] == 1).any():
        return pixels.upsample(levelled)
    small = pixels.resize_area(rows, columns).astype(np.float32) / np.float32(255)
    is_whole = (rows, columns) == (height, width)

    def solve() -> np.ndarray:
        around = _surroundings(unknown)
        solved = coarse.copy()
        prior_weight = _prior_weight(coarse[around], unknown[around], cell_px * scale)
        solved[around] = solve_unknown(small[around], coarse[around], unknown[around], prior_weight)
        return np.asarray(coarse + np.float32(blend) * (solved - coarse))

    solved, models = run_both(solve, lambda: None if is_whole else _ColorModels(small, unknown))
    if models is None:
        return solved
    return pixels.guide(levelled, models.fit(solved), models.tiles, _TILE_PX, _ROUNDING)


def _unknown_pixels(coarse: np.ndarray, cell_px: float) -> np.ndarray:
    """Find the pixels to solve: soft ones and what is near them."""
    soft = ((coarse > 0) & (coarse < 1)).astype(np.uint8)
    reach = max(1, round(_WIDENING_CELLS * cell_px))
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(soft, shape) > 0


def _surroundings(unknown: np.ndarray) -> tuple[slice, slice]:
    """Return the window around the unknown pixels that their solution depends on."""
    spans = []
    for axis in (1, 0):
        used = np.flatnonzero(unknown.any(axis=axis))
        spans.append(slice(max(0, int(used[0]) - 8 * RADIUS_PX), int(used[-1]) + 8 * RADIUS_PX + 1))
    return spans[0], spans[1]


def _prior_weight(coarse: np.ndarray, unknown: np.ndarray, cell_px: float) -> np.ndarray:
    """Weigh the map against the colours: more where the map is sure, and deep inside wide unknown areas."""
    sureness = 1.0 / np.maximum(4.0 * coarse * (1.0 - coarse), 1.0 / _SURE_FACTOR)
    # The frame is no end of doubt: beyond it nothing is known.
    framed = cv2.copyMakeBorder(unknown.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1] / max(cell_px, 1e-3)
    return np.asarray(_PRIOR_WEIGHT * (sureness + np.square(depth / _DEPTH_CELLS)), dtype=np.float32)


class _ColorModels:
    """Colour models of a small photo near its unknown pixels, which bring an alpha to full size.

    Attributes:
        tiles: (m, n) bool, the squares of ``_TILE_PX`` that hold them.
    """

    def __init__(self, small: np.ndarray, unknown: np.ndarray) -> None:
        """Prepare the models of a photo, (h, w, 3) float32 in [0, 1], near its unknown pixels, (h, w) bool."""
        near = cv2.dilate(unknown.astype(np.uint8), np.ones((2 * _TILE_MARGIN_PX + 1,) * 2, np.uint8))
        starts = [np.arange(0, side, _TILE_PX) for side in near.shape]
        self.tiles = np.maximum.reduceat(np.maximum.reduceat(near, starts[0], axis=0), starts[1], axis=1) > 0
        chosen = self.tiles.repeat(_TILE_PX, axis=0).repeat(_TILE_PX, axis=1)[: near.shape[0], : near.shape[1]]
        # Models are averaged over windows, whose own windows reach as far again, and read between pixels.
        self._atlas = Atlas(chosen, 2 * _UPSAMPLE_RADIUS_PX, margin_px=1)
        planes = [self._atlas.lay(plane) for plane in split_planes(small)]
        self._colors = LocalColors(planes, _UPSAMPLE_RADIUS_PX, self._atlas.inside)

    def fit(self, solved: np.ndarray) -> np.ndarray:
        """Explain a solved alpha, (h, w) float32 in [0, 1], by colour.

        Returns:
            (h, w, 4) float32: the factors of red, green and blue, and the constant; 0 where there is no tile.
        """
        fitted = np.zeros((4, *solved.shape), np.float32)
        for plane, fit in zip(fitted, self._colors.fit(self._atlas.lay(solved)), strict=True):
            self._atlas.put(plane, self._atlas.read(self._colors.mean(fit)))
        return np.ascontiguousarray(fitted.transpose(1, 2, 0))
