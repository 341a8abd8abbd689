"""Examples for the edge refiner: pictures with exact alphas and those that the remover gives them, made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cutray.data.augment import background_crop
from cutray.data.synthetic import CASES, draw_scene
from cutray.data.synthetic.backgrounds import draw_background
from cutray.data.synthetic.camera import compose_light, expose
from cutray.data.synthetic.context import Layer
from cutray.data.synthetic.noise import to_light
from cutray.evaluation.datasets import Sample, read_truth
from cutray.imaging.decode import decode_image
from cutray.imaging.files import create_atomically
from cutray.imaging.resize import resize_area
from cutray.matting.refine import work_size
from cutray.remover import BackgroundRemover

# Part of every seed: changing it changes all examples.
_EDITION = 2
# Pictures are cut out at this size, and kept at the one that the refiner works at.
_SIDE_PX = 640
# One scene in two stands before a real photo, where photos are given.
_REAL_BACKGROUND = 0.5
# Masks drawn by hand are not reliable within so many pixels of their outline.
_ROUGH_PX = 6
# Names of arrays in the files of the first release.
_FIRST_NAMES = {"truth": "target", "trust": "weight"}
# Scenes in which the network notices nothing are drawn anew, this many times.
_TRIES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One picture to learn from.

    Attributes:
        image: (H, W, 3) uint8, sRGB.
        alpha: (H, W) uint8, what the remover gives, times 255.
        target: (H, W) uint8, what it should be, times 255.
        weight: (H, W) uint8, how reliable the target is, times 255.
    """

    image: np.ndarray
    alpha: np.ndarray
    target: np.ndarray
    weight: np.ndarray

    def save(self, path: Path) -> None:
        """Write it as a numpy archive."""
        with create_atomically(path, overwrite=True) as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Example:
        """Read what ``save`` wrote."""
        with np.load(path) as stored:
            return cls(**{_FIRST_NAMES.get(name, name): stored[name] for name in stored.files})


@dataclass(frozen=True, slots=True)
class Sources:
    """What examples are made of.

    Attributes:
        large: The remover whose alphas the refiner will be given.
        small: A weaker one for the photos: the large network has learned their masks by heart.
        photos: Photos with masks drawn by hand; may be empty.
        cutouts: Pictures with an alpha channel; may be empty.
    """

    large: BackgroundRemover
    small: BackgroundRemover
    photos: Sequence[Sample] = field(default=())
    cutouts: Sequence[Path] = field(default=())

    def name(self, number: int) -> str:
        """Return a file name for an example, with its number and kind."""
        return f"{number:05}-{self._kind(number)}.npz"

    def _kind(self, number: int) -> str:
        """Say what an example is about; the kinds take turns."""
        kinds = [*CASES[:-1], *["photo"] * (2 * bool(self.photos)), *["cutout"] * bool(self.cutouts)]
        return kinds[number % len(kinds)]

    def make(self, number: int) -> Example:
        """Make one example; the same number makes the same one.

        Args:
            number: From 0.
        """
        kind = self._kind(number)
        rng = np.random.default_rng([_EDITION, number])
        if kind == "photo":
            return self._photo(self.photos[int(rng.integers(len(self.photos)))])
        for _ in range(_TRIES):
            image, target = self._composed(kind, rng)
            example = _example(image, target, np.ones_like(target), self.large)
            if example.alpha.any():
                break
        return example

    def _composed(self, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw a scene or paste a cut-out, with its exact alpha."""
        if kind == "cutout":
            return self._pasted(self.cutouts[int(rng.integers(len(self.cutouts)))], rng)
        behind = self._real_background(rng) if rng.random() < _REAL_BACKGROUND else None
        scene = draw_scene(next(case for case in CASES if case == kind), rng, _SIDE_PX, _SIDE_PX, background=behind)
        return scene.image, scene.alpha

    def _photo(self, sample: Sample) -> Example:
        """Take a photo, enlarged, and believe its mask where it is not near an outline."""
        image = decode_image(sample.image.read_bytes()).pixels
        target = read_truth(sample, shape=image.shape[:2])
        scale = _SIDE_PX / max(target.shape)
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), np.uint8)
        target = np.asarray(cv2.resize(target, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _ROUGH_PX + 1,) * 2)
        outline = cv2.morphologyEx(target, cv2.MORPH_GRADIENT, ellipse) > 0.5
        return _example(image, target, np.where(outline, np.float32(0), np.float32(1)), self.small)

    def _pasted(self, path: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Put a cut-out on a background, in light as a camera would."""
        with Image.open(path) as opened:
            cutout = np.asarray(opened.convert("RGBA"))
        side = int(_SIDE_PX * rng.uniform(0.45, 0.95))
        cutout = np.asarray(cv2.resize(cutout, (side, side), interpolation=cv2.INTER_AREA))
        top, left = (int(rng.integers(_SIDE_PX - side + 1)) for _ in range(2))
        canvas = np.zeros((_SIDE_PX, _SIDE_PX, 4), np.uint8)
        canvas[top : top + side, left : left + side] = cutout
        target = canvas[..., 3].astype(np.float32) / np.float32(255)
        real = self._real_background(rng) if rng.random() < _REAL_BACKGROUND else None
        if real is None:
            behind = draw_background(rng, _SIDE_PX, _SIDE_PX, "train")
        else:
            behind = to_light(np.asarray(cv2.resize(real, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_LINEAR)))
        layer = Layer(target, to_light(np.ascontiguousarray(canvas[..., :3])), behind)
        return expose(compose_light(layer), rng), target

    def _real_background(self, rng: np.random.Generator) -> np.ndarray | None:
        """Cut a part without a subject out of a photo; None if the one drawn has none."""
        if not self.photos:
            return None
        sample = self.photos[int(rng.integers(len(self.photos)))]
        image = decode_image(sample.image.read_bytes()).pixels
        return background_crop(image, read_truth(sample, shape=image.shape[:2]))


def _example(image: np.ndarray, target: np.ndarray, weight: np.ndarray, remover: BackgroundRemover) -> Example:
    """Cut a picture out and pack all that belongs together, at the size that the refiner works at."""
    alpha = remover.remove_background(image).mask
    rows, columns = work_size(target.shape[0], target.shape[1])
    planes = (alpha, *(np.rint(plane * 255).astype(np.uint8) for plane in (target, weight)))
    return Example(*(resize_area(plane, rows, columns) for plane in (image, *planes)))
