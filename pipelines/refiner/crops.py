"""Turns examples into crops: scaled, cut, mirrored, toned, each with a coarse alpha of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.random import Generator

from cutray.config import AugmentSettings, RefinerSettings
from cutray.data.augment import develop
from cutray.data.coarse import coarse_from_probs, coarse_from_truth
from cutray.imaging.resize import shrink
from cutray.training.refiner import Crops
from pipelines.refiner.examples import Example

# Pixels of a crop per cell of the large network's map: a small photo as it is, up to a large one that was shrunk.
_CELLS_PX = (1.2, 5.0)
_SMALLEST_SCALE = 0.45
# Gentle: glass and metal are told by their tones.
_TONES = AugmentSettings(color=0.25, low_light=0.03, grey=0.05, blur=0.1, noise=0.15, jpeg=0.2)


def endless_batches(files: Sequence[Path], settings: RefinerSettings) -> Iterator[Crops]:
    """Draw batches for ever; each follows from the seed and its number.

    Args:
        files: Examples, as ``Example.save`` wrote them.
        settings: Seed, batch size, crop size and loaders.

    Yields:
        The batches, made ahead by threads.
    """

    def one(number: int) -> Crops:
        rng = np.random.default_rng([settings.seed, number])
        picked = rng.integers(len(files), size=settings.batch_size)
        made = [crop(Example.load(files[index]), rng, settings) for index in picked]
        return Crops.stack(*(np.stack(planes) for planes in zip(*made, strict=True)))

    with ThreadPoolExecutor(settings.loaders) as pool:
        ahead = [pool.submit(one, number) for number in range(2 * settings.loaders)]
        number = len(ahead)
        while True:
            yield ahead.pop(0).result()
            ahead.append(pool.submit(one, number))
            number += 1


def crop(example: Example, rng: Generator, settings: RefinerSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a varied piece out of an example.

    Args:
        example: The whole picture.
        rng: Source of chance.
        settings: Side of the crop, and how often the coarse alpha comes from the truth.

    Returns:
        (S, S, 3) uint8, (S, S) float32 coarse alpha and (S, S) float32 alpha.
    """
    side = settings.crop_px
    scale = max(float(rng.uniform(_SMALLEST_SCALE, 1.0)), side / min(example.truth.shape))
    shape = tuple(max(side, round(length * scale)) for length in example.truth.shape)
    image, truth = shrink(example.image, *shape), shrink(example.truth, *shape).astype(np.float32) / np.float32(255)
    cell_px = float(np.exp(rng.uniform(*np.log(_CELLS_PX))))
    if rng.random() < settings.perturbed_share:
        coarse = coarse_from_truth(truth, rng, cell_px)
    else:
        coarse = coarse_from_probs(example.probs.astype(np.float32) / np.float32(255), (shape[0], shape[1]), cell_px)
    top, left = (int(rng.integers(length - side + 1)) for length in shape)
    window = slice(top, top + side), slice(left, left + side)
    planes = [plane[window] for plane in (image, coarse, truth)]
    if rng.random() < 0.5:
        planes = [plane[:, ::-1] for plane in planes]
    image, coarse, truth = (np.ascontiguousarray(plane) for plane in planes)
    return develop(image, rng, _TONES), coarse, truth
