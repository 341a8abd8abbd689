"""A canvas several times finer than the picture, for lines that are thinner than a pixel."""

from __future__ import annotations

import cv2
import numpy as np

from cutray.data.synthetic.noise import F32, U8, Real, to_light

_SHADES = 9
# Where along a tapered line its width changes, and to what part of the width at its root.
_TAPER = ((0.0, 0.55, 1.0), (0.5, 0.86, 0.62), (0.82, 1.0, 0.3))


class FineCanvas:
    """Collects opaque marks at a multiple of the picture's resolution and averages them down."""

    def __init__(self, height_px: int, width_px: int) -> None:
        """Make it empty: four times finer for small pictures, three times for large ones."""
        self.height_px, self.width_px = height_px, width_px
        self.scale = 4 if max(height_px, width_px) <= 640 else 3
        self._marks: U8 = np.zeros((height_px * self.scale, width_px * self.scale, 4), np.uint8)

    def fill(self, outline_px: Real, color: F32) -> None:
        """Fill an outline.

        Args:
            outline_px: (n, 2) float32, column and row of each corner, in pixels of the picture.
            color: (3,) float32, linear light.
        """
        cv2.fillPoly(self._marks, [self._scaled(outline_px)], _stored(color))

    def line(self, path_px: Real, color: F32, width_px: float, *, closed: bool = False) -> None:
        """Draw lines of one width.

        Args:
            path_px: (n, k, 2) or (k, 2) float32, column and row of each point, in pixels of the picture.
            color: (3,) float32, linear light.
            width_px: Width, in pixels of the picture.
            closed: Whether the last point joins the first.
        """
        paths = path_px if path_px.ndim == 3 else path_px[None]
        thick = max(1, round(width_px * self.scale))
        cv2.polylines(self._marks, list(self._scaled(paths)), closed, _stored(color), thick, cv2.LINE_8)

    def strands(self, path_px: Real, tones: F32, dark: F32, bright: F32, width_px: float) -> None:
        """Draw tapered strands, each in its own tone, the later over the earlier.

        Args:
            path_px: (n, k, 2) float32, column and row of each point from root to tip.
            tones: (n,) float32 in [0, 1], from ``dark`` to ``bright``.
            dark: (3,) float32, linear light.
            bright: (3,) float32, linear light.
            width_px: Width at the root, in pixels of the picture.
        """
        points = self._scaled(path_px)
        count = points.shape[1]
        shade = np.clip((tones * _SHADES).astype(int), 0, _SHADES - 1)
        # Interleave the shades in a few rounds, so that bright strands also lie below dark ones.
        for part in np.array_split(np.arange(len(points)), 3):
            for level in range(_SHADES):
                chosen = points[part[shade[part] == level]]
                if not len(chosen):
                    continue
                color = dark + (bright - dark) * np.float32((level + 0.5) / _SHADES)
                for start, end, share in _TAPER:
                    first, last = int(start * (count - 1)), max(int(np.ceil(end * (count - 1))), 1)
                    thick = max(1, round(width_px * share * self.scale))
                    piece = list(chosen[:, first : last + 1])
                    cv2.polylines(self._marks, piece, False, _stored(color), thick, cv2.LINE_8)

    def render(self) -> tuple[F32, F32]:
        """Average down to the picture's size.

        Returns:
            (H, W) float32 coverage in [0, 1], and (H, W, 3) float32 colors in linear light, not weighted.
        """
        small = cv2.resize(self._marks, (self.width_px, self.height_px), interpolation=cv2.INTER_AREA)
        coverage = np.asarray(small[..., 3], np.float32) / np.float32(255)
        stored = small[..., :3] / np.maximum(coverage, 1 / 255)[..., None]
        return coverage, to_light(np.clip(stored + 0.5, 0, 255).astype(np.uint8))

    def _scaled(self, path_px: Real) -> np.ndarray:
        """Bring positions to whole steps of the fine canvas."""
        return np.rint(path_px * self.scale).astype(np.int32)


def _stored(color: F32) -> tuple[float, float, float, float]:
    """Return a color as it is stored, with full coverage."""
    red, green, blue = (float(255 * max(float(part), 0.0) ** (1 / 2.2)) for part in np.minimum(color, 1.0))
    return red, green, blue, 255.0
