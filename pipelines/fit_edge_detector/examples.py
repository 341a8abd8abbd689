"""Examples for the detector: drawn scenes and real photos with the network's maps, measured once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cutray.data.synthetic import CASES, FAMILIES, draw_scene
from cutray.data.synthetic.context import Family
from cutray.data.synthetic.scene import CaseName
from cutray.evaluation.datasets import Sample, read_truth
from cutray.imaging.decode import decode_image
from cutray.imaging.resize import resize_area
from cutray.matting.detect import EDGE_CASES
from cutray.matting.features import TILES, measure
from cutray.segmenter import Segmenter

_EDITION = 7
_LARGEST_PX = 640
# A tile belongs to a case where the truth covers at least this much of it.
_TILE_SHARE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class DetectorExample:
    """One measured picture.

    Attributes:
        features: Features of the whole.
        tiles: (T·T, K) float32, features of the tiles.
        labels: (4,) float64 per edge case: 1 yes, 0 no, NaN unknown.
        tile_labels: (T·T, 4) float64 likewise; unknown where the photo does not have the case.
        tags: Tags of a real photo.
    """

    features: dict[str, float]
    tiles: np.ndarray
    labels: np.ndarray
    tile_labels: np.ndarray
    tags: frozenset[str] = frozenset()


def drawn_examples(segmenter: Segmenter, amount: int, family: Family, cache: Path | None) -> Iterator[DetectorExample]:
    """Draw and measure scenes of all cases but the empty one.

    Args:
        segmenter: The network whose maps are used.
        amount: Scenes per case.
        family: Whose generators draw.
        cache: Folder that keeps pictures and maps for the next time, or None.

    Yields:
        The examples in which the network noticed anything.
    """
    for number in range(amount):
        for case in CASES[:-1]:
            key = f"{family}-{case}-{number:03}"
            place = cache / f"{key}.npz" if cache else None
            image, alpha, probs = _load(place) or _draw(segmenter, case, number, family, place)
            example = _measured(image, alpha, probs, case)
            if example is not None:
                yield example


def real_examples(
    segmenter: Segmenter, samples: list[Sample], name: str, cache: Path | None
) -> Iterator[DetectorExample]:
    """Measure real photos; their labels are unknown, their tags are kept.

    Args:
        segmenter: The network whose maps are used.
        samples: Photos with masks and tags, from ``check_samples``.
        name: Name of the set, for the cache.
        cache: Folder that keeps pictures and maps for the next time, or None.

    Yields:
        The examples in which the network noticed anything.
    """
    for sample in samples:
        place = cache / f"{name}-{sample.stem}.npz" if cache else None
        image, _, probs = _load(place) or _read(segmenter, sample, place)
        measured = measure(image, probs)
        if measured is not None:
            unknown = np.full(4, np.nan)
            tiles = measured.tiles().reshape(TILES * TILES, -1)
            yield DetectorExample(measured.features, tiles, unknown, np.full((len(tiles), 4), np.nan), sample.tags)


def _draw(
    segmenter: Segmenter, case: CaseName, number: int, family: Family, place: Path | None
) -> tuple[np.ndarray, ...]:
    """Draw a scene of some size between 480 and 800 px and have it segmented."""
    seed = [_EDITION, FAMILIES.index(family), CASES.index(case), number]
    rng = np.random.default_rng(seed)
    side = int(rng.integers(480, 801))
    other = round(side * rng.uniform(0.66, 1))
    height, width = (side, other) if rng.random() < 0.5 else (other, side)
    scene = draw_scene(case, rng, height, width, family=family)
    return _segmented(segmenter, scene.image, scene.alpha, place)


def _read(segmenter: Segmenter, sample: Sample, place: Path | None) -> tuple[np.ndarray, ...]:
    """Read a photo and its truth and have it segmented."""
    image = decode_image(sample.image.read_bytes()).pixels
    return _segmented(segmenter, image, read_truth(sample, shape=image.shape[:2]), place)


def _segmented(
    segmenter: Segmenter, image: np.ndarray, alpha: np.ndarray, place: Path | None
) -> tuple[np.ndarray, ...]:
    """Add the network's map, and keep all three if there is a place for them."""
    (probs,) = segmenter.segment([image])
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        small = np.rint(alpha * 255).astype(np.uint8)
        np.savez(place, image=image, alpha=small, probs=probs.astype(np.float16))
    return image, alpha, probs


def _load(place: Path | None) -> tuple[np.ndarray, ...] | None:
    """Read what was kept."""
    if place is None or not place.exists():
        return None
    with np.load(place) as kept:
        return kept["image"], kept["alpha"].astype(np.float32) / 255, kept["probs"].astype(np.float32)


def _measured(image: np.ndarray, alpha: np.ndarray, probs: np.ndarray, case: str) -> DetectorExample | None:
    """Measure a scene and derive the labels of its tiles from the truth."""
    scale = min(1.0, _LARGEST_PX / max(image.shape[:2]))
    measured = measure(resize_area(image, *(round(side * scale) for side in image.shape[:2])), probs)
    if measured is None:
        return None
    labels = np.array([float(case == name) for name in EDGE_CASES])
    soft = ((alpha > 0.02) & (alpha < 0.98)).astype(np.float32)
    # Strands lie where alpha is soft; glass, metal and lace are such all over.
    concerned = soft if case == "fine_detail" else (alpha > 0.02).astype(np.float32)
    share = resize_area(concerned, TILES, TILES).reshape(-1)
    tiles = measured.tiles().reshape(TILES * TILES, -1)
    # Tiles learn where a case lies in a photo that has it; whether it has it is the whole photo's question.
    here = np.where(labels > 0, (share > _TILE_SHARE)[:, None], np.nan)
    return DetectorExample(measured.features, tiles, labels, here)
