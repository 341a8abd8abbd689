"""Turns examples into crops: scaled, cut near edges, mirrored, toned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from cutray.config import AugmentSettings, RefinerSettings
from cutray.data.augment import photometric
from cutray.imaging.resize import resize_area
from cutray.training.refiner import Crops
from pipelines.train_refiner.examples import Example

_SMALLEST_SCALE = 0.6
# Share of crops around a pixel that is soft or wrong; the others lie anywhere.
_AIMED, _WRONG = 0.8, 13
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


def crop(example: Example, rng: Generator, settings: RefinerSettings) -> tuple[np.ndarray, ...]:
    """Cut a varied piece out of an example.

    Args:
        example: The whole picture.
        rng: Source of chance.
        settings: Side of the crop.

    Returns:
        (S, S, 3) uint8 image and (S, S) uint8 alpha, target and weight.
    """
    side = settings.crop_px
    wide = min(round(side / float(rng.uniform(_SMALLEST_SCALE, 1.0))), *example.target.shape)
    window = _window(example.alpha, example.target, rng, wide)
    planes = [plane[window] for plane in (example.image, example.alpha, example.target, example.weight)]
    if rng.random() < 0.5:
        planes = [plane[:, ::-1] for plane in planes]
    image, *others = (resize_area(np.ascontiguousarray(plane), side, side) for plane in planes)
    return photometric(image, rng, _TONES), *others


def _window(alpha: np.ndarray, target: np.ndarray, rng: Generator, side: int) -> tuple[slice, slice]:
    """Choose where to cut a square."""
    middle = [int(rng.integers(length)) for length in alpha.shape]
    if rng.random() < _AIMED:
        wrong = (cv2.absdiff(alpha, target) > _WRONG) | (cv2.absdiff(target, np.full_like(target, 128)) < 128 - _WRONG)
        places = np.flatnonzero(wrong)
        if len(places):
            middle = list(divmod(int(places[rng.integers(len(places))]), alpha.shape[1]))
    starts = (int(np.clip(at - side // 2, 0, length - side)) for at, length in zip(middle, alpha.shape, strict=True))
    top, left = starts
    return slice(top, top + side), slice(left, left + side)
