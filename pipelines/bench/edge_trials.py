"""What the edge benchmark shows to the remover: drawn scenes from frozen seeds, and real subjects pasted anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cutray.data.synthetic import CASES, draw_scene
from cutray.data.synthetic.context import Family
from cutray.data.synthetic.paste import paste_subject
from cutray.data.synthetic.scene import CaseName
from cutray.evaluation.dataset_check import check_samples
from cutray.evaluation.datasets import find_samples, read_truth
from cutray.imaging.decode import decode_image
from cutray.imaging.resize import resize_area

BINS = 5
REAL = "real"
# Part of every seed: changing it changes all scenes, and with them every published figure.
_EDITION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One picture with a known alpha.

    Attributes:
        name: Case and number.
        case: The case, or ``real``.
        level: Difficulty from 0 (easy) to 4; 0 for real subjects.
        image: (H, W, 3) uint8, sRGB.
        truth: (H, W) float32 in [0, 1].
    """

    name: str
    case: str
    level: int
    image: np.ndarray
    truth: np.ndarray


def drawn_trials(amount: int, side_px: int, family: Family, cases: Sequence[CaseName] = CASES) -> Iterator[Trial]:
    """Draw scenes of some cases, spread over the five levels of difficulty.

    Args:
        amount: Scenes per case.
        side_px: Longer side of each, in pixels.
        family: Whose generators draw.
        cases: Which cases; the scenes of one do not depend on the others.

    Yields:
        Trials, case by case; the same ones for the same arguments.
    """
    for case in cases:
        for number in range(amount):
            rng = np.random.default_rng([_EDITION, CASES.index(case), number])
            level = number % BINS
            sides = (side_px, round(side_px * rng.choice([0.67, 0.75, 1.0])))
            height, width = sides if rng.random() < 0.5 else sides[::-1]
            difficulty = float((level + rng.random()) / BINS)
            scene = draw_scene(case, rng, height, width, family=family, difficulty=difficulty)
            yield Trial(f"{case}-{number:03}", case, level, scene.image, scene.alpha)


def pasted_trials(folder: Path, backgrounds: int, side_px: int, family: Family) -> Iterator[Trial]:
    """Paste the subjects of real photos with known alphas onto new backgrounds.

    Args:
        folder: Photos and alphas, in one of the layouts that `cutray evaluate` knows.
        backgrounds: New backgrounds per subject.
        side_px: Longest side of each trial, in pixels.
        family: Whose painters draw the backgrounds.

    Yields:
        Trials of the case ``real``.

    Raises:
        DatasetError: The folder has no such pairs, or its masks can mean several things.
    """
    for place, sample in enumerate(check_samples(find_samples(folder)).samples):
        photo = decode_image(sample.image.read_bytes()).pixels
        truth = read_truth(sample, shape=photo.shape[:2])
        scale = min(1.0, side_px / max(truth.shape))
        size = (round(truth.shape[0] * scale), round(truth.shape[1] * scale))
        photo, truth = resize_area(photo, *size), np.clip(resize_area(truth, *size), 0, 1)
        for number in range(backgrounds):
            image = paste_subject(photo, truth, np.random.default_rng([_EDITION, place, number, 99]), family=family)
            yield Trial(f"{sample.stem}-{number}", REAL, 0, image, truth)
