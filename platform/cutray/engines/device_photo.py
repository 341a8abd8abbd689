"""A photo that lies on the network's device: all views of it and its alpha at full size are made there.

Its pixels go up once as bytes, and the alpha comes down once. What is computed is what ``cutray.preprocess`` and
``cutray.matting`` compute on arrays, within rounding. Views differ by two levels of 255 at most and by .2 on average,
because both round to bytes after each filter. Alphas differ by .05 at most and by .0002 on average, because OpenCV
reads between pixels in steps of 1/32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cutray.engines.base import ViewRecipe
from cutray.imaging.subject_box import Box


class DevicePhoto:
    """One photo; threads may share it."""

    def __init__(
        self, image: np.ndarray, device: torch.device, turn: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """Bring a photo to the device.

        Args:
            image: (H, W, 3) uint8, sRGB.
            device: Where the network runs.
            turn: Held while something is computed, as the engine does.
        """
        self._device, self._turn = device, turn
        self._height, self._width = image.shape[:2]
        with self._turn():
            # Torch warns of arrays that may not be written to, as those of decoded files.
            own = np.ascontiguousarray(image) if image.flags.writeable else image.copy()
            self._pixels = torch.from_numpy(own).to(device)

    @torch.inference_mode()
    def views(self, wanted: Sequence[tuple[Box | None, bool]], recipe: ViewRecipe) -> Tensor:
        """Prepare views as the network was trained to see them.

        Args:
            wanted: For each view its left, top, right and bottom in pixels, or None for all of the photo, and whether
                it is mirrored.
            recipe: Side, scale, mean and standard deviation.

        Returns:
            (N, 3, S, S) float32 on the device, RGB, normalised.
        """
        made: dict[Box | None, Tensor] = {}
        with self._turn():
            for box, _ in wanted:
                if box not in made:
                    made[box] = self._prepare(box, recipe)
            return torch.stack([made[box].flip(-1) if mirrored else made[box] for box, mirrored in wanted])

    @torch.inference_mode()
    def shrink(self, rows: int, columns: int) -> np.ndarray:
        """Average the photo down, (rows, columns, 3) uint8."""
        with self._turn():
            planes = _average_down(self._planes(None), rows, columns)
            return np.asarray(planes.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy())

    @torch.inference_mode()
    def upsample(self, levelled: np.ndarray) -> np.ndarray:
        """Bring a levelled map (T, T) float32 to full size, (H, W) float32 in [0, 1]."""
        with self._turn():
            return np.asarray(self._upsample(levelled).cpu().numpy())

    @torch.inference_mode()
    def guide(
        self, levelled: np.ndarray, fitted: np.ndarray, tiles: np.ndarray, tile_px: int, rounding: float
    ) -> np.ndarray:
        """Bring a levelled map to full size, and in some tiles take what colour models say instead.

        Args:
            levelled: (T, T) float32.
            fitted: (h, w, 4) float32, factors of red, green and blue in [0, 1], and the constant.
            tiles: (m, n) bool, squares of the smaller photo in which the models rule.
            tile_px: Side of a square in pixels of the smaller photo.
            rounding: What the models say within this of 0 or 1 is 0 or 1.

        Returns:
            (H, W) float32 in [0, 1].
        """
        rows, columns = fitted.shape[:2]
        with self._turn():
            alpha = self._upsample(levelled)
            models = torch.from_numpy(np.ascontiguousarray(fitted.transpose(2, 0, 1))).to(self._device)[None]
            at_x = _centers(0, self._width, self._width, self._device)
            chosen = torch.from_numpy(tiles).to(self._device)
            over = chosen[:, _tile_of_each(tile_px, columns, self._width, self._device)]
            # A band of tiles at a time, so that memory does not grow with the photo.
            for band in np.flatnonzero(tiles.any(axis=1)):
                top, bottom = (min(edge * tile_px, rows) * self._height // rows for edge in (band, band + 1))
                at_y = _centers(top, bottom, self._height, self._device)
                grid = torch.stack(torch.meshgrid(at_y, at_x, indexing="ij")[::-1], -1)[None]
                read = functional.grid_sample(models, grid, "bilinear", "border", align_corners=False)[0]
                pixels = self._pixels[top:bottom].permute(2, 0, 1)
                guided = (read[:3] * pixels).sum(0) / 255 + read[3]
                guided = ((guided - rounding) / (1 - 2 * rounding)).clamp(0, 1)
                alpha[top:bottom] = torch.where(over[band], guided, alpha[top:bottom])
            return np.asarray(alpha.cpu().numpy())

    def _planes(self, box: Box | None) -> Tensor:
        """Return a part of the photo, (3, h, w) float32 in 0 … 255."""
        left, top, right, bottom = box or (0, 0, self._width, self._height)
        return self._pixels[top:bottom, left:right].permute(2, 0, 1).float()

    def _prepare(self, box: Box | None, recipe: ViewRecipe) -> Tensor:
        """Prepare one view, (3, S, S) float32."""
        planes, side = self._planes(box), recipe.side_px
        if min(planes.shape[1:]) > 2 * side:
            planes = _average_down(planes, 2 * side, 2 * side)
        planes = _triangle_filter(planes, side)
        mean, std = (torch.tensor(one, device=self._device).view(3, 1, 1) for one in (recipe.mean, recipe.std))
        peak = planes.amax().clamp_min(1e-6) if recipe.scale == "max" else 255.0
        return (planes / peak - mean) / std

    def _upsample(self, levelled: np.ndarray) -> Tensor:
        """Bring a map to full size by the cubic that OpenCV uses."""
        small = torch.from_numpy(np.ascontiguousarray(levelled, np.float32)).to(self._device)[None, None]
        full = functional.interpolate(small, (self._height, self._width), mode="bicubic", align_corners=False)
        return full[0, 0].clamp(0, 1)


def _average_down(planes: Tensor, rows: int, columns: int) -> Tensor:
    """Do what ``cutray.imaging.resize.resize_area`` does to bytes: halve while it fits, then average."""
    height, width = planes.shape[1:]
    while height >= 4 * rows and width >= 4 * columns:
        height, width = (height + 1) // 2, (width + 1) // 2
        planes = functional.interpolate(planes[None], (height, width), mode="bilinear", align_corners=False)[0]
        planes = (planes + 0.5).floor()
    down, across = (_area_weights(*sides, planes.device) for sides in ((height, rows), (width, columns)))
    averaged = down @ planes @ across.T
    # OpenCV halves with halves rounded up; by other factors, halves go to the even number.
    halved = (height, width) == (2 * rows, 2 * columns)
    return ((averaged + 0.5).floor() if halved else averaged.round()).clamp(0, 255)


def _triangle_filter(planes: Tensor, side: int) -> Tensor:
    """Do what Pillow's BILINEAR does to bytes: first along the rows, then along the columns, rounded each time."""
    height, width = planes.shape[1:]
    narrow = (planes @ _triangle_weights(width, side, planes.device).T + 0.5).floor()
    return (_triangle_weights(height, side, planes.device) @ narrow + 0.5).floor().clamp(0, 255)


def _area_weights(many: int, few: int, device: torch.device) -> Tensor:
    """Return (few, many) float32: the share of each old pixel in each new one, which covers several."""
    scale = many / few
    start = torch.arange(few, device=device, dtype=torch.float64)[:, None] * scale
    old = torch.arange(many, device=device, dtype=torch.float64)
    covered = torch.minimum(start + scale, old + 1) - torch.maximum(start, old)
    return (covered.clamp_min(0) / scale).float()


def _triangle_weights(old_px: int, new_px: int, device: torch.device) -> Tensor:
    """Return (new, old) float32: the weight of each old pixel in each new one, falling with the distance."""
    scale = old_px / new_px
    center = (torch.arange(new_px, device=device, dtype=torch.float64)[:, None] + 0.5) * scale
    distance = (torch.arange(old_px, device=device, dtype=torch.float64) + 0.5 - center).abs()
    weights = (1 - distance / max(scale, 1.0)).clamp_min(0)
    return (weights / weights.sum(1, keepdim=True)).float()


def _centers(start: int, stop: int, side: int, device: torch.device) -> Tensor:
    """Return where centres of pixels are, from -1 to 1 over a side."""
    return (torch.arange(start, stop, device=device, dtype=torch.float32) + 0.5) * (2 / side) - 1


def _tile_of_each(tile_px: int, small_px: int, full_px: int, device: torch.device) -> Tensor:
    """Return the number of the tile that each pixel of a full side lies in, (full_px,) int64."""
    starts = [start * full_px // small_px for start in range(tile_px, small_px, tile_px)]
    pixels = torch.arange(full_px, device=device)
    return torch.bucketize(pixels, torch.tensor(starts, dtype=torch.int64, device=device), right=True)
