"""The catalog: which pairs of photo and mask a run learns from and is validated on, checked before the first step."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cutray.config import DataSettings
from cutray.errors import DatasetError
from cutray.evaluation.datasets import Sample, find_samples, pair_folders

_HASH_SIDE = 16
# Bits, of 256, in which the hashes of two copies may differ; of two photos about half differ.
_COPY_BITS = 32
_CHUNK = 1024
_SHOWN_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """A photo and its mask, by path, with a hash of what the photo shows."""

    image: str
    mask: str
    content: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a run learns from.

    Attributes:
        train: Pairs to learn from.
        validation: Pairs to validate on; no photo of theirs is among the others, not even as a copy.
        copies: Groups of photos that show the same.
        fingerprint: Hash of all contents and of the split.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    copies: tuple[tuple[str, ...], ...]
    fingerprint: str


def build_catalog(settings: DataSettings, seed: int) -> Catalog:
    """Find, check and split the pairs of a run.

    The split follows from what the photos show and the seed, not from names or order: copies of a photo, also
    resized or compressed again, stay on one side.

    Args:
        settings: Folders, and what is kept for validation.
        seed: Number that the split follows from.

    Returns:
        The catalog; empty where only drawn scenes are asked for.

    Raises:
        DatasetError: A folder has no known layout, pairs are incomplete, sizes differ, a file cannot be read, or a
            side of the split is empty. Problems are listed together.
    """
    found = _inspect_all(_samples(settings))
    held_apart = _inspect_all(find_samples(Path(settings.validation))) if settings.validation is not None else []
    groups = _group_copies([pair.content for pair in (*found, *held_apart)])
    fractions = [_hash_fraction(group, seed) for group in groups]
    if held_apart:
        reserved = set(groups[len(found) :])
        chosen = [group in reserved for group in groups[: len(found)]]
        validation = held_apart
    else:
        chosen = [fraction < settings.validation_share for fraction in fractions]
        validation = [pair for pair, kept in zip(found, chosen, strict=True) if kept]
    train = [pair for pair, kept in zip(found, chosen, strict=True) if not kept]
    if settings.limit:
        train = sorted(train, key=lambda pair: _hash_fraction(pair.content, seed + 1))[: settings.limit]
    if found and not (train and (validation or settings.validation_scenes)):
        raise DatasetError(
            got=f"{len(train)} pairs to learn from and {len(validation)} to validate on",
            allowed="at least one of each",
            fix="add photos, name a folder for validation, or change data.validation_share",
        )
    together = defaultdict(list)
    for pair, group in zip((*found, *held_apart), groups, strict=True):
        together[group].append(pair.image)
    copies = tuple(tuple(paths) for paths in together.values() if len(paths) > 1)
    return Catalog(tuple(train), tuple(validation), copies, _fingerprint(train, validation))


def _samples(settings: DataSettings) -> list[Sample]:
    """List what the settings name, in a stable order."""
    samples = [sample for folder in settings.folders for sample in find_samples(Path(folder))]
    if (settings.image_dir is None) != (settings.mask_dir is None):
        raise DatasetError(
            got="only one of data.image_dir and data.mask_dir", allowed="both or neither", fix="name the other one too"
        )
    if settings.image_dir is not None and settings.mask_dir is not None:
        samples += pair_folders(Path(settings.image_dir), Path(settings.mask_dir))
    return samples


def _inspect_all(samples: Sequence[Sample]) -> list[Pair]:
    """Check and hash all samples."""
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_inspect, samples))
    problems = [outcome for outcome in found if isinstance(outcome, str)]
    if problems:
        more = f" and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
        raise DatasetError(
            got=f"{len(problems)} pairs cannot be used: {'; '.join(problems[:_SHOWN_PROBLEMS])}{more}",
            allowed="readable photos with masks of the same size",
            fix="mend or remove them",
        )
    return [pair for pair in found if isinstance(pair, Pair)]


def _inspect(sample: Sample) -> Pair | str:
    """Check one pair and hash what the photo shows; return the problem if there is one."""
    try:
        with Image.open(sample.truth) as mask:
            mask_size = mask.size
        with Image.open(sample.image) as photo:
            if photo.size != mask_size:
                return f"{sample.image.name} has {photo.size}, its mask {mask_size}"
            photo.draft("L", (_HASH_SIDE * 8, _HASH_SIDE * 8))
            small = photo.convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{sample.stem}: {error}"
    return Pair(str(sample.image), str(sample.truth), _difference_hash(np.asarray(small, np.int16)))


def _difference_hash(grey: np.ndarray) -> str:
    """Hash whether it gets brighter from each cell to the next, which survives scaling and compression."""
    return np.packbits(np.diff(grey, axis=1) > 0).tobytes().hex()


def _group_copies(contents: Sequence[str]) -> list[str]:
    """Name for each hash the smallest hash among those that are nearly equal to it, directly or by others."""
    distinct = sorted(set(contents))
    if not distinct:
        return []
    bits = np.unpackbits(np.array([list(bytes.fromhex(one)) for one in distinct], np.uint8), axis=1)
    signs = bits.astype(np.float32) * 2 - 1
    parents = list(range(len(distinct)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    for start in range(0, len(distinct), _CHUNK):
        # Of two rows of signs the product is the number of bits minus twice the number that differ.
        close = signs[start : start + _CHUNK] @ signs.T >= signs.shape[1] - 2 * _COPY_BITS
        for row, column in np.argwhere(close).tolist():
            first, second = sorted((root(start + row), root(column)))
            parents[second] = first
    names = {content: distinct[root(index)] for index, content in enumerate(distinct)}
    return [names[content] for content in contents]


def _hash_fraction(content: str, seed: int) -> float:
    """Map a content to a number in [0, 1) that looks random and is always the same."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{content}".encode(), digest_size=6).digest()) / 2**48


def _fingerprint(train: Sequence[Pair], validation: Sequence[Pair]) -> str:
    """Hash the contents and the split, whatever the files are called."""
    sides = ["\n".join(sorted(pair.content for pair in pairs)) for pairs in (train, validation)]
    return hashlib.sha256("\n\n".join(sides).encode()).hexdigest()[:16]
