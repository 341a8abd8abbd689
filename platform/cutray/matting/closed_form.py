"""Closed-form matting: opacity of unknown pixels from the photo's colours, by conjugate gradients with box filters.

In every small window the subject's and the background's colours are taken to lie on a line each; opacity is then a
linear function of colour there. The matting Laplacian is the quadratic form of all windows' errors. Its product with
an alpha needs nothing but box filters, so no matrix is ever stored and the window's size costs nothing.

Source: Levin et al. 2008, "A Closed-Form Solution to Natural Image Matting"; He et al. 2010, "Fast Matting Using
Large Kernel Matting Laplacian Matrices", equations 5 to 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cutray.matting.atlas import Atlas

# Windows reach this far from their centre; larger ones see past texture, smaller ones follow thinner strands.
RADIUS_PX = 2
# Variance of colour, in [0, 1] squared, below which a window counts as flat.
_FLATNESS = 1e-4
# Coarse to fine, as many halvings as this; each stops when the residual has fallen by a factor or after some steps.
_HALVINGS, _STEPS, _PRECISION = 2, 40, 2e-2
# Diagonal of the Laplacian at most pixels. A preconditioner needs no more: it is the weight of the map that varies.
_DIAGONAL = 0.9
_SMALLEST_SIDE_PX = 8


class LocalColors:
    """Linear models of a picture's colours, one per window."""

    def __init__(self, planes: Sequence[np.ndarray], radius_px: int, inside: np.ndarray | None = None) -> None:
        """Prepare the windows' statistics.

        Args:
            planes: Red, green and blue, (h, w) float32 in [0, 1].
            radius_px: Reach of a window from its centre.
            inside: (h, w) bool, the pixels that count, the others being 0 in all planes; None for all.
        """
        self._size = (2 * radius_px + 1,) * 2
        self._planes = planes
        weight = np.ones_like(planes[0]) if inside is None else inside.astype(np.float32)
        self._count = self._sum(weight)
        # A window whose centre does not count is none: all its means are 0.
        self._share = weight / np.maximum(self._count, 1.0)
        # Variances are differences of nearly equal numbers: double precision, once.
        exact = [plane.astype(np.float64) for plane in self._planes]
        means = [self.mean(plane) for plane in exact]
        self._means = [mean.astype(np.float32) for mean in means]

        def covariance(one: int, two: int) -> np.ndarray:
            spread = self.mean(exact[one] * exact[two]) - means[one] * means[two]
            return np.asarray(spread + _FLATNESS if one == two else spread)

        a, b, c = covariance(0, 0), covariance(0, 1), covariance(0, 2)
        d, e, f = covariance(1, 1), covariance(1, 2), covariance(2, 2)
        minors = d * f - e * e, c * e - b * f, b * e - c * d
        scale = 1.0 / (a * minors[0] + b * minors[1] + c * minors[2])
        inverse = (*minors, a * f - c * c, b * c - a * e, a * d - b * b)
        self._inverse = [(entry * scale).astype(np.float32) for entry in inverse]

    def _sum(self, plane: np.ndarray) -> np.ndarray:
        """Sum over each window; what lies outside the picture counts as nothing."""
        return np.asarray(cv2.boxFilter(plane, -1, self._size, normalize=False, borderType=cv2.BORDER_CONSTANT))

    def mean(self, plane: np.ndarray) -> np.ndarray:
        """Average a plane over each window."""
        total = self._sum(plane)
        total *= self._share
        return total

    def fit(self, alpha: np.ndarray) -> list[np.ndarray]:
        """Explain alpha by colour in each window.

        Args:
            alpha: (h, w) float32.

        Returns:
            Four (h, w) float32 planes: the factors of red, green and blue, and the constant.
        """
        # In place where that is possible, which makes a solution faster by a sixteenth.
        level, product = self.mean(alpha), np.empty_like(alpha)
        spreads = [self.mean(np.multiply(plane, alpha, out=product)) for plane in self._planes]
        for spread, mean in zip(spreads, self._means, strict=True):
            spread -= np.multiply(mean, level, out=product)
        a, b, c, d, e, f = self._inverse
        factors = []
        for row in ((a, b, c), (b, d, e), (c, e, f)):
            factor = row[0] * spreads[0]
            factor += np.multiply(row[1], spreads[1], out=product)
            factor += np.multiply(row[2], spreads[2], out=product)
            factors.append(factor)
        for factor, mean in zip(factors, self._means, strict=True):
            level -= np.multiply(factor, mean, out=product)
        return [*factors, level]

    def laplacian_product(self, alpha: np.ndarray) -> np.ndarray:
        """Multiply alpha by the matting Laplacian, divided by the number of pixels in a window.

        Args:
            alpha: (h, w) float32.

        Returns:
            (h, w) float32.
        """
        *factors, constant = self.fit(alpha)
        rest: np.ndarray = self._count * alpha
        rest -= self._sum(constant)
        for factor, plane in zip(factors, self._planes, strict=True):
            pulled = self._sum(factor)
            pulled *= plane
            rest -= pulled
        rest *= np.float32(1.0 / (self._size[0] * self._size[1]))
        return rest


def solve_unknown(image: np.ndarray, coarse: np.ndarray, unknown: np.ndarray, prior_weight: np.ndarray) -> np.ndarray:
    """Solve alpha anew in a part of a photo from the photo's colours.

    Args:
        image: (h, w, 3) float32 in [0, 1].
        coarse: (h, w) float32 in [0, 1]; known pixels are taken as true.
        unknown: (h, w) bool, the pixels to solve.
        prior_weight: (h, w) float32 above 0, weight of ``coarse`` against the colours at unknown pixels.

    Returns:
        (h, w) float32 in [0, 1], equal to ``coarse`` at known pixels.
    """
    height, width = coarse.shape
    alpha = coarse
    for halvings in range(_HALVINGS, -1, -1):
        size = max(1, width >> halvings), max(1, height >> halvings)
        if halvings and min(size) < _SMALLEST_SIDE_PX:
            continue
        here = [_fit_size(array, size) for array in (image, coarse, prior_weight)]
        here_unknown = _fit_size(unknown.astype(np.float32), size) > 0
        start = here[1] if alpha is coarse else cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR)
        alpha = _conjugate_gradient(here[0], here[1], here_unknown, here[2], start)
    return np.where(unknown, np.clip(alpha, 0.0, 1.0), coarse)


def _fit_size(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Average an array down to (width, height)."""
    if array.shape[1::-1] == size:
        return array
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA)


def _conjugate_gradient(
    image: np.ndarray, coarse: np.ndarray, unknown: np.ndarray, prior_weight: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Minimise ``a'La + prior_weight (a - coarse)^2`` over the unknown pixels by conjugate gradients.

    All vectors hold the unknown pixels alone. The residual is divided by the diagonal (Jacobi's preconditioner).
    """
    alpha = np.where(unknown, start, coarse)
    if not unknown.any():
        return alpha
    # A pixel depends on its windows, which reach to either side of it, and on the pixels in them.
    atlas = Atlas(unknown, 2 * RADIUS_PX)
    colors = LocalColors([atlas.lay(plane) for plane in split_planes(image)], RADIUS_PX, atlas.inside)
    weight, found = atlas.take(prior_weight), atlas.take(alpha)
    inverse = 1.0 / (np.float32(_DIAGONAL) + weight)
    residual = weight * (atlas.take(coarse) - found) - atlas.read(colors.laplacian_product(atlas.lay(alpha)))
    direction = inverse * residual
    energy, smallest = _dot(residual, direction), _PRECISION**2 * _dot(residual, residual)
    for _ in range(_STEPS):
        if _dot(residual, residual) <= smallest:
            break
        curvature = atlas.read(colors.laplacian_product(atlas.spread(direction))) + weight * direction
        step = np.float32(energy / _dot(direction, curvature))
        found += step * direction
        residual -= step * curvature
        conditioned = inverse * residual
        before, energy = energy, _dot(residual, conditioned)
        direction = conditioned + np.float32(energy / before) * direction
    atlas.put(alpha, found)
    return alpha


def split_planes(image: np.ndarray) -> list[np.ndarray]:
    """Return the channels of an (h, w, c) picture, each in one piece."""
    return [np.ascontiguousarray(image[..., channel]) for channel in range(image.shape[2])]


def _dot(one: np.ndarray, two: np.ndarray) -> float:
    """Sum of products, added up in double precision."""
    return float(cv2.sumElems(one * two)[0])
