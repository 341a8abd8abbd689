"""Evaluation sets on disk: pairs of photo and truth mask, their tags, and how a truth is read.

::

    images/          masks/                     the plain layout; tags/TAG.txt lists stems, one a line
    images/          ground_truth_mask/         ECSSD
    imgs/            gt/                        HKU-IS
    im/              gt/                        DIS5K
    DUTS-TE-Image/   DUTS-TE-Mask/              DUTS, and any other NAME-Image with NAME-Mask
    DUT-OMRON-image/ pixelwiseGT-new-PNG/       DUT-OMRON
    original/        mask/                      AM-2k
    i/               m/                         compact copies of training sets
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cutray.errors import DatasetError
from cutray.evaluation.masks import MaskEncoding, decode_mask, read_stored
from cutray.imaging.orientation import apply_orientation
from cutray.imaging.photo_files import PHOTO_SUFFIXES

_LAYOUTS = (
    ("images", "masks"),
    ("images", "ground_truth_mask"),
    ("imgs", "gt"),
    ("im", "gt"),
    ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
    ("original", "mask"),
    ("i", "m"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One photo with its truth.

    Attributes:
        stem: File name without suffix, equal for both files.
        image: Path of the photo.
        truth: Path of the mask or alpha.
        tags: Names of the tag files that list the stem.
        encoding: What the stored values of the mask mean.
        turn: EXIF value to apply to the mask, so that it lies on the upright photo; 1 for none.
    """

    stem: str
    image: Path
    truth: Path
    tags: frozenset[str]
    encoding: MaskEncoding = field(default_factory=MaskEncoding)
    turn: int = 1


def find_samples(folder: Path) -> list[Sample]:
    """Pair the photos and truths of a folder and collect their tags.

    Tag files may list stems that are not here, so that one list serves a set and its parts.

    Args:
        folder: A folder with one of the layouts in the module's docstring.

    Returns:
        Samples, sorted by stem.

    Raises:
        DatasetError: No layout or more than one fits, a photo or truth has no partner, a stem occurs twice, or
            nothing is there; every problem is listed.
    """
    return pair_folders(*_find_layout(folder), tags=folder / "tags")


def pair_folders(image_folder: Path, truth_folder: Path, *, tags: Path | None = None) -> list[Sample]:
    """Pair the photos of one folder with the truths of another, by stem.

    Args:
        image_folder: Photos.
        truth_folder: Masks or alphas.
        tags: Folder with tag files.

    Returns:
        Samples, sorted by stem.

    Raises:
        DatasetError: A photo or truth has no partner, a stem occurs twice, or nothing is there; every problem is
            listed.
    """
    if missing := [str(path) for path in (image_folder, truth_folder) if not path.is_dir()]:
        raise DatasetError(got=f"{missing[0]} is not a folder", allowed="a folder with pictures", fix="check the path")
    problems: list[str] = []
    images = _pictures_by_stem(image_folder, problems)
    truths = _pictures_by_stem(truth_folder, problems)
    problems += [f"{images[stem].name} has no mask" for stem in sorted(images.keys() - truths.keys())]
    problems += [f"{truths[stem].name} has no image" for stem in sorted(truths.keys() - images.keys())]
    if not images and not truths:
        problems.append("no pictures")
    if problems:
        raise DatasetError(
            got=f"{image_folder.parent} has {len(problems)} problem{'s' if len(problems) > 1 else ''}: "
            f"{'; '.join(problems)}",
            allowed=f"one file in {image_folder.name}/ and one in {truth_folder.name}/ for each stem",
            fix="add or remove the files named above",
        )
    known = _read_tags(tags) if tags is not None else defaultdict(set)
    return [Sample(stem, images[stem], truths[stem], frozenset(known[stem])) for stem in sorted(images)]


def read_truth(sample: Sample, *, shape: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Read the truth of a pair as one sees its photo, without binarising it.

    Args:
        sample: From ``check_samples``, which settles how the mask is read.
        shape: Height and width of the upright photo, in pixels; None skips the check.

    Returns:
        (H,W) float32 in [0,1].

    Raises:
        DatasetError: The file is not a readable mask, or differs from ``shape``.
    """
    values = apply_orientation(decode_mask(read_stored(sample.truth), sample.encoding), sample.turn)
    return _of_shape(values, shape, sample.truth)


def read_ignored(sample: Sample) -> NDArray[np.bool_] | None:
    """Return which pixels of a pair are neither subject nor background, (H,W); None where there are none."""
    if sample.encoding.ignore_value is None:
        return None
    ignored = apply_orientation(read_stored(sample.truth).values, sample.turn) == sample.encoding.ignore_value
    return np.asarray(ignored, np.bool_) if ignored.any() else None


def load_truth(path: Path, *, shape: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Read a single mask or alpha, as stored, without binarising it.

    A picture with transparency gives its alpha; where that is constant, its grey values count.

    Args:
        path: An 8- or 16-bit grey picture, a grey picture stored as color, or one with an alpha channel.
        shape: Height and width of the photo, in pixels; None skips the check.

    Returns:
        (H,W) float32 in [0,1].

    Raises:
        DatasetError: The file is not a readable picture, is colored, or differs from ``shape``.
    """
    stored = read_stored(path)
    if stored.labels:
        raise DatasetError(
            got=f"mask {path} is colored", allowed="grey values or an alpha channel", fix="save the mask as grey"
        )
    return _of_shape(decode_mask(stored, MaskEncoding()), shape, path)


def _of_shape(values: NDArray[np.float32], shape: tuple[int, int] | None, path: Path) -> NDArray[np.float32]:
    """Refuse a mask of another size."""
    if shape is not None and values.shape != shape:
        raise DatasetError(
            got=f"mask {path} has {values.shape[1]}x{values.shape[0]} px",
            allowed=f"the photo's {shape[1]}x{shape[0]} px",
            fix="use the mask that belongs to this photo",
        )
    return values


def fitting_layouts(folder: Path) -> list[tuple[Path, Path]]:
    """Return the folders of photos and of truths for each layout that a folder has."""
    present = {path.name for path in folder.iterdir() if path.is_dir()}
    named = [(name, f"{name[:-5]}Mask") for name in sorted(present) if name.endswith("-Image")]
    fits = [pair for pair in (*_LAYOUTS, *named) if pair[0] in present and pair[1] in present]
    return [(folder / images, folder / truths) for images, truths in fits]


def _find_layout(folder: Path) -> tuple[Path, Path]:
    """Return the folders of photos and of truths."""
    if not folder.is_dir():
        raise DatasetError(
            got=f"{folder} is not a folder", allowed="a folder with photos and masks", fix="check the path"
        )
    fits = fitting_layouts(folder)
    if len(fits) != 1:
        known = ", ".join(f"{image} + {truth}" for image, truth in (*_LAYOUTS, ("NAME-Image", "NAME-Mask")))
        present = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
        found = ", ".join(f"{image.name} + {truth.name}" for image, truth in fits) or present or "no folders"
        raise DatasetError(
            got=f"{folder} holds {found}", allowed=f"exactly one of {known}", fix="point to the folder that holds them"
        )
    return fits[0]


def _pictures_by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    """Index the pictures of a folder and note every stem that occurs twice."""
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith("."):
            groups[path.stem].append(path)
    for stem, paths in groups.items():
        if len(paths) > 1:
            problems.append(f"{folder.name}/ has {stem} twice: {', '.join(path.name for path in paths)}")
    return {stem: paths[0] for stem, paths in groups.items()}


def _read_tags(folder: Path) -> defaultdict[str, set[str]]:
    """Read which tags each stem has."""
    tags: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                tags[line.strip()].add(path.stem)
    return tags
