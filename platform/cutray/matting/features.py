"""What can be measured about a subject's surface and edge: colour, gradients, thin structure, texture, and doubt.

Every surface map is averaged inside the subject, weighted by the network's confidence, and in a ring around it;
the difference tells how the subject differs from what it stands before.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cutray.imaging.resize import resize_area

F32 = NDArray[np.float32]

# All lengths below are pixels at this longer side, at which everything is measured.
WORK_SIDE_PX = 320
TILES = 20
SURFACE = (
    "value", "saturation", "pale", "gradient", "thin", "coherence", "across", "lbp_change", "lbp_flat",
    "deviation", "fine", "middle", "doubt", "strangeness",
)  # fmt: skip
_RING_NEAR_PX, _RING_FAR_PX = 4, 16
_BAND_PX, _CORE_PX = 3, 4
_LBP_TOLERANCE = 4
_PATCH_PX = 64
_LEAST = 1e-4


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured on one photo.

    Attributes:
        features: Feature names and values of the subject as a whole.
        maps: (K, H, W) float32, one for each of `SURFACE`.
        ring: (K,) float32, their means around the subject.
        probs: (H, W) float32 in [0, 1], the network's answer at the same size.
    """

    features: dict[str, float]
    maps: F32
    ring: F32
    probs: F32

    def tiles(self) -> F32:
        """Average per tile.

        Returns:
            (T, T, K + 2) float32: the surface maps, the ring's means taken off, the network's mean probability, and its
            spread.
        """
        layers = [*(self.maps - self.ring[:, None, None]), self.probs, 4 * self.probs * (1 - self.probs)]
        return np.dstack([cv2.resize(layer, (TILES, TILES), interpolation=cv2.INTER_AREA) for layer in layers])


def measure(image: NDArray[np.uint8], probs: F32) -> Measurements | None:
    """Measure a subject.

    Args:
        image: (H, W, 3) uint8, sRGB; a small copy will do, it is brought to 320 px.
        probs: (S, S) float32 in [0, 1], from the network, over the same frame.

    Returns:
        The measurements; None when there is nothing to measure.

    Source: Ojala et al. 2002 (local binary patterns); Bigün and Granlund 1987 (structure tensor).
    """
    scale = WORK_SIDE_PX / max(image.shape[:2])
    height, width = (max(8, round(side * scale)) for side in image.shape[:2])
    small = resize_area(image, height, width)
    p = np.asarray(cv2.resize(probs, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    regions = _regions(p)
    if regions is None:
        return None
    maps = _surface_maps(small, p, regions)
    means = _means(maps, regions)
    features: dict[str, float] = {}
    for index, name in enumerate(SURFACE):
        features[f"{name}.inside"] = float(means["core"][index])
        features[f"{name}.contrast"] = float(means["core"][index] - means["ring"][index])
        features[f"{name}.edge"] = float(means["band"][index] - means["ring"][index])
    features |= _highlight_features(maps[0], regions) | _repeat_features(small, regions) | _shape_features(p)
    return Measurements(features, maps, means["ring"], p)


def _regions(p: F32) -> dict[str, F32] | None:
    """Weigh the pixels of the subject's inside, its outline, and a ring around it, (H, W) float32 each."""
    level = min(0.5, 0.5 * float(p.max()))
    inside = (p > level).astype(np.uint8)
    if float(p.max()) < 0.1 or int(inside.sum()) < 16:
        return None
    near, far = (cv2.dilate(inside, _disc(reach)) for reach in (_RING_NEAR_PX, _RING_FAR_PX))
    core = cv2.erode(inside, _disc(_CORE_PX))
    if core.sum() < 0.1 * inside.sum():  # nothing but thin parts
        core = inside
    band = cv2.dilate(inside, _disc(_BAND_PX)) - cv2.erode(inside, _disc(_BAND_PX))
    ring = (far - near).astype(np.float32)
    if ring.sum() < 16:  # the subject fills the frame
        ring = 1 - p
    return {"core": core * p, "band": band.astype(np.float32), "ring": ring}


def _disc(radius_px: int) -> NDArray[np.uint8]:
    """Return a round shape for morphology."""
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    return np.asarray(shape, np.uint8)


def _means(maps: F32, regions: dict[str, F32]) -> dict[str, F32]:
    """Average (K, H, W) maps over each region, (K,) float32 each."""
    weights = np.stack([weight.reshape(-1) for weight in regions.values()])
    sums = weights @ maps.reshape(len(maps), -1).T
    return dict(zip(regions, sums / np.maximum(weights.sum(axis=1, keepdims=True), _LEAST), strict=True))


def _surface_maps(small: NDArray[np.uint8], p: F32, regions: dict[str, F32]) -> F32:
    """Compute every map of `SURFACE`, (K, H, W) float32."""
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(np.float32) / 255
    saturation, value = hsv[..., 1], hsv[..., 2]
    grey8 = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
    grey = grey8.astype(np.float32) / 255
    across = np.asarray(cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3, scale=0.125), np.float32)
    down = np.asarray(cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3, scale=0.125), np.float32)
    gradient = np.log1p(50 * cv2.magnitude(across, down))
    # Bright and dark marks thinner than the shape, whatever their direction.
    shape = _disc(2)
    thin = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, shape) + cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, shape)
    coherence, crossing = _strand_maps(across, down, p)
    change, flat = _binary_patterns(grey8)
    mean, mean_square = cv2.blur(grey, (5, 5)), cv2.blur(grey * grey, (5, 5))
    deviation = np.sqrt(np.maximum(mean_square - mean * mean, 0))
    soft, softer = cv2.GaussianBlur(grey, (0, 0), 1.0), cv2.GaussianBlur(grey, (0, 0), 2.5)
    q = np.clip(p, 0.001, 0.999)
    doubt = -(q * np.log2(q) + (1 - q) * np.log2(1 - q))
    layers = [
        value, saturation, (1 - saturation) * value, gradient, 10 * thin, coherence, crossing, change, flat,
        10 * deviation, 20 * np.abs(grey - soft), 20 * np.abs(soft - softer), doubt,
        _strangeness(small, regions["ring"]),
    ]  # fmt: skip
    return np.stack(layers, dtype=np.float32)


def _strand_maps(across: F32, down: F32, p: F32) -> tuple[F32, F32]:
    """Tell how much lines run in one direction, and how much of that is across the subject's outline."""
    xx, yy, xy = (cv2.GaussianBlur(part, (0, 0), 2.0) for part in (across * across, down * down, across * down))
    spread = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    coherence = spread / (xx + yy + 1e-4)
    soft = cv2.GaussianBlur(p, (0, 0), 4.0)
    out_x = cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3)
    out_y = cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3)
    length = out_x * out_x + out_y * out_y + 1e-6
    # cos 2θ between the strongest gradient and the outline's normal: -1 where lines run across the outline.
    double = ((xx - yy) * (out_x**2 - out_y**2) + 4 * xy * out_x * out_y) / (length * (spread + 1e-6))
    return np.asarray(coherence, np.float32), np.asarray(-double * coherence, np.float32)


def _binary_patterns(grey8: NDArray[np.uint8]) -> tuple[F32, F32]:
    """Compare each pixel with its eight neighbours: number of changes around it, and whether it is flat."""
    framed = cv2.copyMakeBorder(grey8, 1, 1, 1, 1, cv2.BORDER_REPLICATE).astype(np.int16)
    height, width = grey8.shape
    centre = framed[1:-1, 1:-1] + _LBP_TOLERANCE
    offsets = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    brighter = [framed[y : y + height, x : x + width] >= centre for y, x in offsets]
    changes = np.zeros(grey8.shape, np.uint8)
    for first, second in zip(brighter, brighter[1:] + brighter[:1], strict=True):
        changes += first != second
    return changes.astype(np.float32) / np.float32(8), (changes == 0).astype(np.float32)


def _strangeness(small: NDArray[np.uint8], ring: F32) -> F32:
    """Measure how far each colour lies from those of the ring, in standard deviations, as log(1 + x)."""
    weight = ring.reshape(-1)
    total = max(float(weight.sum()), _LEAST)
    distance = np.zeros_like(ring)
    for channel in cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2LAB)):
        away = channel.astype(np.float32)
        away -= np.float32(weight @ away.reshape(-1) / total)
        away *= away
        distance += away / max(np.float32(weight @ away.reshape(-1) / total), np.float32(16))
    return np.log1p(np.sqrt(distance))


def _highlight_features(value: F32, regions: dict[str, F32]) -> dict[str, float]:
    """Describe the brightest spots and the range of light on the subject."""
    inside, outside = value[regions["core"] > 0.05], value[regions["ring"] > 0.5]
    low, middle, high, top = np.quantile(inside, [0.05, 0.5, 0.9, 0.99])
    ring_low, ring_high = np.quantile(outside, [0.05, 0.95]) if outside.size > 8 else (0.0, 1.0)
    return {
        "highlight": float(top - high),
        "range": float(top - low),
        "range.contrast": float((top - low) - (ring_high - ring_low)),
        "bright": float(top),
        "skew": float((high - middle) - (middle - low)),
        "glare": float((inside > 0.95).mean()),
    }


def _repeat_features(small: NDArray[np.uint8], regions: dict[str, F32]) -> dict[str, float]:
    """Find out whether the surface repeats: the strongest peak of the spectrum against its surroundings."""
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    side = min(_PATCH_PX, *grey.shape)
    density = cv2.boxFilter(regions["core"], -1, (side // 2, side // 2))
    row, column = np.unravel_index(int(density.argmax()), density.shape)
    top = int(np.clip(row - side // 2, 0, grey.shape[0] - side))
    left = int(np.clip(column - side // 2, 0, grey.shape[1] - side))
    patch = grey[top : top + side, left : left + side]
    window = np.hanning(side).astype(np.float32)
    spectrum = np.abs(np.fft.rfft2((patch - cv2.GaussianBlur(patch, (0, 0), 5)) * np.outer(window, window))) ** 2
    spectrum = cv2.GaussianBlur(spectrum.astype(np.float32), (0, 0), 0.7)
    around = cv2.blur(spectrum, (9, 9)) + 1e-3
    return {"repeat": float(np.log(np.max(spectrum / around))), "repeat.power": float(np.log(spectrum.max() + 1e-3))}


def _shape_features(p: F32) -> dict[str, float]:
    """Describe the outline, and how unsure the network is of it."""
    level = min(0.5, 0.5 * float(p.max()))
    inside = (p > level).astype(np.uint8)
    area = float(inside.sum())
    outline = max(1.0, float((inside - cv2.erode(inside, _disc(1))).sum()))
    depth = cv2.distanceTransform(cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    ridge = depth[(depth >= cv2.dilate(depth, _disc(1))) & (depth > 0)]
    holes = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, _disc(6)) - inside
    thin = inside - cv2.morphologyEx(inside, cv2.MORPH_OPEN, _disc(3))
    parts = cv2.connectedComponents(1 - inside)[0] - 1
    unsure = (p > 0.1) & (p < 0.9)
    return {
        "certainty": float((p * inside).sum() / area),
        "highest": float(p.max()),
        "unsure.outline": float(np.log1p(unsure.sum() / outline)),
        "unsure.inside": float(((p > 0.3) & (p < 0.7)).sum() / area),
        "noticed": float(np.log((p > 0.1).sum() / area + 1)),
        "size": float(np.log(area / p.size)),
        "raggedness": float(np.log(outline**2 / area)),
        "width": float(np.log(ridge.mean() / np.sqrt(area))),
        "thin.share": float(thin.sum() / area),
        "gaps": float(holes.sum() / area),
        "gaps.count": float(np.log1p(max(parts - 1, 0))),
    }
